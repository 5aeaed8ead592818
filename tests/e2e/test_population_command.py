"""A population by `metaopt search`, as a user runs it, on Ray and a real SQLite store of MLflow."""

import json
import math
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import invoke, search_without_ray
from populations import outcome, population_study, session_of, train_all
from search_checks import check_whole
from studies import metaopt, read_csv, write_study

from metaopt.schedules import build_schedule, load_schedule
from metaopt.search.optuna_space import TrialRow, read_rows
from metaopt.search.population import followed
from metaopt.search.study import load_study
from metaopt.tracking import load_curve, load_runs
from metaopt.training import train

N_TRIALS, EVALUATIONS = 6, 3
TASKS = [
    {"data": "digits", "name": "narrow", "budget": 60, "n_samples": 100, "width": 8},
    {"data": "digits", "name": "wide", "budget": 60, "n_samples": 100, "width": 16, "loss": "hinge"},
]
CONTENT: dict[str, Any] = population_study(trials=N_TRIALS, share=0.5, tasks=TASKS, name="tiny")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished population, and what the command said in said.txt."""
    folder = tmp_path_factory.mktemp("population")
    done = metaopt("search", write_study(folder, CONTENT), "--out", folder / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder / "out"


def members(finished: Path) -> list[TrialRow]:
    return [row for row in read_rows(finished, "tiny") if not row.name]


def test_every_member_is_recorded_once_everywhere(finished: Path) -> None:
    rows = check_whole(finished, "tiny", N_TRIALS, n_points=2 * (10 * EVALUATIONS + 1))
    assert all(row.verdict and len(row.verdict.scores) == EVALUATIONS for row in rows)


def test_ray_decides_what_a_driver_without_it_does(finished: Path, tmp_path: Path) -> None:
    assert outcome(members(finished)) == outcome(
        [row for row in train_all(session_of(tmp_path, CONTENT)) if not row.name]
    )


def test_the_exported_winner_trained_from_scratch_has_the_curves_in_mlflow(finished: Path, tmp_path: Path) -> None:
    """Its own from the evaluation at which it has last copied on; before that, those of the trial it copied."""
    copies = [row for row in members(finished) if row.verdict and row.verdict.copied]
    assert copies
    uri = f"sqlite:///{finished / 'mlflow.db'}"
    runs = {int(run["tags.metaopt.trial_uid"][-5:]): run["run_id"] for run in load_runs(uri, "tiny")}
    task = load_study(str(write_study(tmp_path, CONTENT))).tasks[0]
    for row in copies:
        file = tmp_path / f"{row.number}.json"
        assert invoke("export", "--study", finished, "--trial", row.number, "--out", file).returncode == 0
        schedule = load_schedule(file)
        assert row.verdict and schedule.score == row.verdict.score
        records = list(train(task, schedule, 0))
        for interval in row.verdict.intervals:
            k = interval["evaluation"]
            curves = {
                key: load_curve(uri, runs[interval["trial"]], f"narrow/{key}") for key in ("loss_d", "fid", "lr_g")
            }
            mine = records[10 * k - 9 : 10 * k + 1]
            logged = curves["loss_d"][10 * k - 9 : 10 * k + 1]
            assert [(round(record.iteration), record.loss_d) for record in mine] == logged
            assert (round(mine[-1].iteration), mine[-1].fid) == curves["fid"][k]
            assert {rate for _, rate in curves["lr_g"][10 * k - 9 : 10 * k + 1]} == {interval["params"]["lr_g"]}


def test_params_are_logged_once_and_tags_say_who_was_copied(finished: Path) -> None:
    runs = {
        int(run["tags.metaopt.trial_uid"][-5:]): run for run in load_runs(f"sqlite:///{finished}/mlflow.db", "tiny")
    }
    for row in members(finished):
        run = runs[row.number]
        assert {name: float(run[f"params.{name}"]) for name in row.params} == row.params
        assert row.verdict is not None
        copies = [f"trial {source} at evaluation {k}" for k, source in row.verdict.copied.items()]
        assert run["tags.metaopt.copied"] == (", ".join(copies) or "none")
        assert run["tags.metaopt.lineage"].endswith(f"trial {row.number} to evaluation {EVALUATIONS}")
    assert "tags.metaopt.copied" not in runs[0] or not isinstance(runs[0]["tags.metaopt.copied"], str)
    store = sqlite3.connect(finished / "mlflow.db")
    counts = Counter(key for (key,) in store.execute("select key from params"))
    assert counts["lr_g"] == N_TRIALS
    copied = next(row for row in members(finished) if row.verdict and row.verdict.copied)
    rates = load_curve(f"sqlite:///{finished}/mlflow.db", runs[copied.number]["run_id"], "narrow/lr_g")
    assert len({rate for _, rate in rates}) > 1, "a changing value is a metric"


def test_the_command_tells_what_was_decided(finished: Path) -> None:
    said = (finished.parent / "said.txt").read_text()
    for k in (1, 2):
        (line,) = [line for line in said.splitlines() if line.startswith(f"evaluation {k} of {EVALUATIONS}: best ")]
        assert " copies " in line
    assert "search.trials=" not in said, "no member can be added to a population"
    assert ">" in said.partition("Leaderboard")[2]


def test_leaderboard_and_course_of_the_population(finished: Path) -> None:
    rows = {row.number: row for row in read_rows(finished, "tiny")}
    table = read_csv(finished / "leaderboard.csv")
    assert [float(line["score"]) for line in table] == sorted(float(line["score"]) for line in table)
    for line in table:
        row = rows[int(line["trial"])]
        assert row.verdict is not None
        assert line["lineage"] == " ".join(str(one["trial"]) for one in row.verdict.intervals)
    course = read_csv(finished / "population.csv")
    assert len(course) == EVALUATIONS * (N_TRIALS - 1)
    for line in course:
        row, k = rows[int(line["trial"])], line["evaluation"]
        assert row.verdict is not None
        assert (line["copies"] and int(float(line["copies"]))) == row.verdict.copied.get(k, "")
    last = [line for line in course if line["evaluation"] == str(EVALUATIONS)]
    assert {int(line["trial"]): float(line["score"]) for line in last} == {
        number: row.verdict.score for number, row in rows.items() if row.verdict and not row.name
    }


def test_best_schedule_report_and_validation_are_of_the_lineage(finished: Path, tmp_path: Path) -> None:
    best = load_schedule(finished / "best_schedule.json")
    assert best.family == "steps"
    done = invoke("report", "--study", finished, "--out", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "report.html").read_text()
    assert "The population" in page and "Which parameters matter" not in page
    assert len(read_csv(tmp_path / "report" / "population.csv")) == EVALUATIONS * (N_TRIALS - 1)
    shown = invoke("show", finished / "best_schedule.json", "--out", tmp_path / "curve.png")
    assert shown.returncode == 0 and "family steps (open-loop" in shown.stdout


def test_resuming_a_finished_population_changes_nothing(finished: Path) -> None:
    before = read_rows(finished, "tiny")
    again = metaopt("search", finished.parent / "study.yaml", "--out", finished, "--resume")
    assert again.returncode == 0, again.stderr
    assert check_whole(finished, "tiny", N_TRIALS, n_points=2 * (10 * EVALUATIONS + 1)) == before
    more = ("--set", f"search.trials={N_TRIALS + 1}")
    refused = invoke("search", finished.parent / "study.yaml", "--out", finished, "--resume", *more)
    assert refused.returncode == 2 and "holds another study" in refused.stderr


def test_the_winner_of_a_validation_is_trained_with_its_steps(tmp_path: Path) -> None:
    validation = {"tasks": [{"data": "glyphs", "budget": 30, "n_samples": 100, "size": 8}], "seeds": [7], "top": 2}
    content = population_study(share=0.5, validation=validation, name="tiny")
    done = search_without_ray(write_study(tmp_path, content), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / "validation.json").read_text())["candidates"]
    rows, task = read_rows(tmp_path / "out", "tiny"), load_study(str(tmp_path / "study.yaml")).tasks[0]
    reference = list(train(task, build_schedule("constant", rows[0].params), 7))[-1].fid
    stepped = 0
    for one in found:
        row = rows[one["trial"]]
        assert row.verdict is not None
        fid = list(train(task, build_schedule(*followed("constant", row.params, row.verdict.intervals)), 7))[-1].fid
        assert fid and reference and one["by_task"]["digits"] == pytest.approx(math.log(fid / reference), abs=1e-12)
        stepped += len({tuple(interval["params"].values()) for interval in row.verdict.intervals}) > 1
    assert stepped >= 1, "the test would show nothing"
