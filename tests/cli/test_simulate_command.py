"""`metaopt simulate` as a user types it."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from commands import invoke
from past_searches import past_search
from studies import metaopt, tiny_initialisation, write_study

from metaopt.search.optuna_space import read_rows

N_TRIALS = 12


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished random search; its study.yaml lies beside it."""
    folder = tmp_path_factory.mktemp("command") / "past"
    past_search(folder, evaluations=4, search={"trials": N_TRIALS, "seed": 1, "sampler": "random", "workers": 2})
    return folder


def test_table_and_rows_of_each_repeat(past: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in past.rglob("*") if path.is_file()}
    out = tmp_path / "tables" / "simulated.csv"
    done = metaopt("simulate", past.parent / "study.yaml", "--from", past, "--repeats", 2, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("with random, 2 workers, 2 repeats", "best score", "of the workers' time", "rank correlation"):
        assert said in " ".join(done.stdout.split())
    assert {path: path.read_bytes() for path in past.rglob("*") if path.is_file()} == before
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["1"] * N_TRIALS + ["2"] * N_TRIALS
    first = {int(row["trial"]): float(row["score"]) for row in rows if row["seed"] == "1"}
    assert first == {row.number: row.verdict.score for row in read_rows(past, "tiny") if row.verdict}
    ends = [float(row["ended_s"]) for row in rows[:N_TRIALS]]
    best = [float(row["best_score"]) for row in rows[:N_TRIALS]]
    assert ends == sorted(ends) and best == sorted(best, reverse=True) and best[-1] == min(first.values())


def test_other_sampler_pruner_and_cluster(past: Path) -> None:
    settings = ["--set", "search.sampler=tpe", "--set", "search.pruner=asha", "--set", "search.trials=20"]
    done = invoke("simulate", past.parent / "study.yaml", "--from", past, *settings, "--workers", 8, "--repeats", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "with tpe, pruner asha, 8 workers, 1 repeat:" in done.stdout


def test_code_that_a_past_study_names_is_not_run(past: Path, tmp_path: Path) -> None:
    copied = tmp_path / "past"
    shutil.copytree(past, copied)
    manifest = json.loads((copied / "study.json").read_text())
    manifest["spec"]["tasks"][0]["network"] = "harm.py:pair"
    (copied / "study.json").write_text(json.dumps(manifest))
    refused = invoke("simulate", past.parent / "study.yaml", "--from", copied)
    assert refused.returncode == 2
    assert "names code, 'harm.py:pair'" in refused.stderr


def test_what_cannot_be_simulated_is_refused(past: Path, tmp_path: Path) -> None:
    study = past.parent / "study.yaml"
    for arguments, said in (
        ((study, "--from", past, "--set", "evaluations=2"), "`evaluations` is 4 there, but 2 here"),
        ((study, "--from", past, "--set", "search.workers=auto"), "`--workers` must say how many trials run at once"),
        ((study, "--from", tmp_path), "holds no study.json"),
        ((write_study(tmp_path, tiny_initialisation()), "--from", past), "must search for schedules, but searches for"),
    ):
        refused = invoke("simulate", *arguments)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert said in refused.stderr


def test_a_population_answers_nothing(past: Path, tmp_path: Path) -> None:
    copied = tmp_path / "past"
    shutil.copytree(past, copied)
    manifest = json.loads((copied / "study.json").read_text())
    manifest["spec"]["search"]["population"] = {"method": "pbt"}
    (copied / "study.json").write_text(json.dumps(manifest))
    refused = invoke("simulate", past.parent / "study.yaml", "--from", copied)
    assert refused.returncode == 2
    assert "schedules must have been kept to their end" in refused.stderr
