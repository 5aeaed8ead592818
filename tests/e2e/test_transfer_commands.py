"""Schedules that are chosen on unseen data, and judged against baselines, as a user does it."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies import metaopt, tiny_study, write_study

from metaopt.cli.evaluate import evaluate
from metaopt.errors import ConfigError, MetaoptError
from metaopt.gan import Task
from metaopt.meta.statistics import expected_best
from metaopt.meta.transfer import Cell, Contestant, train_cells
from metaopt.schedules import BASELINES, ScheduleArtifact, load_schedule, save_schedule
from metaopt.search.export import best_trial, scored
from metaopt.search.optuna_space import importances, read_rows
from metaopt.search.study import load_task
from metaopt.tracking import load_runs
from metaopt.training.resources import floor

SMALL = {"budget": 60, "n_samples": 100, "width": 8}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A schedule.json that a richer family departs from."""
    params = {"lr_g": 1e-3, "lr_d": 1e-3, "update_ratio": 1.0, "power": 0.5, "warmup": 0.0}
    return save_schedule(
        ScheduleArtifact(family="power_decay", params=params), tmp_path_factory.mktemp("start") / "decay.json"
    )


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory, start: Path) -> Path:
    """A finished study of residuals, with a race and a validation."""
    folder = tmp_path_factory.mktemp("validated")
    study = tiny_study(
        tasks=[{"data": "digits", "name": name, **SMALL} for name in ("a", "b")],
        seeds=[0, 1, 2, 3],
        schedule={"family": "linear_policy", "start": str(start), "ranges": {"lr_g": {"low": 1e-6, "high": 2e-2}}},
        search={"trials": 10, "seed": 1, "sampler": "random", "objective": "mean_tail", "racing": True},
        validation={"tasks": [{"data": "mnist5k", "size": 8, **SMALL}], "seeds": [5, 6], "top": 1},
    )
    done = metaopt("search", write_study(folder, study), "--out", folder / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said.txt").write_text(done.stdout, encoding="utf-8")
    return folder


def candidates_of(out: Path) -> list[dict[str, Any]]:
    """The candidates of the validation in a study's folder, best first."""
    found: list[dict[str, Any]] = json.loads((out / "validation.json").read_text())["candidates"]
    return found


def final_fids(folder: Path) -> dict[str, list[float]]:
    """Last FID of each kept training, by what it began with: the untrained FID tells task and seed."""
    kept: dict[str, list[float]] = {}
    for file in (folder / "trainings").glob("*.json"):
        fids = [record["fid"] for record in json.loads(file.read_text())["records"] if record["fid"] is not None]
        kept.setdefault(f"{fids[0]:.9f}", []).append(fids[-1])
    return kept


def test_the_winner_is_the_best_on_unseen_data(validated: Path) -> None:
    candidates = candidates_of(validated / "out")
    assert [one["trial"] for one in candidates if one["search"] == 0.0] == [0]
    assert len(candidates) == 2
    scores = [one["validation"] for one in candidates]
    assert scores == sorted(scores) and scores[0] <= 0.0
    best = load_schedule(validated / "out" / "best_schedule.json")
    rows = read_rows(validated / "out", "tiny")
    assert best.params == rows[candidates[0]["trial"]].params
    assert best.provenance["validation_score"] == scores[0]
    exported = metaopt("export", "--study", validated / "out", "--out", validated / "e.json")
    assert exported.returncode == 0, exported.stderr
    assert load_schedule(validated / "e.json").params == best.params


def test_the_best_trials_of_the_search_are_those_that_are_trained_again(validated: Path) -> None:
    candidates = candidates_of(validated / "out")
    ranking = sorted(
        (row.verdict.score, row.number)
        for row in read_rows(validated / "out", "tiny")
        if row.state == "COMPLETE" and row.verdict and row.verdict.score is not None and row.number
    )
    assert {one["trial"] for one in candidates} == {0, *(number for _, number in ranking[:1])}
    for one in candidates:
        assert one["by_task"].keys() == {"a", "b", "mnist5k"}
        assert one["validation"] == pytest.approx(one["by_task"]["mnist5k"], abs=1e-12)  # one task: mean, tail and all
        a, b = one["by_task"]["a"], one["by_task"]["b"]
        assert one["fresh"] == pytest.approx(((a + b) / 2 + max(a, b)) / 2, abs=1e-12)
    assert {len(fids) for fids in final_fids(validated / "out").values()} == {2}  # paired: both schedules


def test_races_are_lost_before_all_trainings_are_done(validated: Path) -> None:
    """Rates of G from 1e-6 on: some candidates hardly train at all."""
    rows = read_rows(validated / "out", "tiny")
    out = [row for row in rows if row.state == "PRUNED"]
    assert out
    assert {row.state for row in rows} == {"COMPLETE", "PRUNED"}
    for row in out:
        assert row.verdict and row.verdict.reason.startswith("race lost to trial ")
        assert 4 <= len(row.verdict.fids) < 8
    runs = {run["tags.metaopt.number"]: run for run in load_runs(f"sqlite:///{validated}/out/mlflow.db", "tiny")}
    assert all("race lost" in str(runs[str(row.number)]["tags.metaopt.reason"]) for row in out)


def test_a_validation_of_other_trials_is_not_believed(validated: Path, tmp_path: Path) -> None:
    rows = read_rows(validated / "out", "tiny")
    best = best_trial(validated / "out", rows)
    assert best is not None and best.number == candidates_of(validated / "out")[0]["trial"]
    content = json.loads((validated / "out" / "validation.json").read_text())
    content["candidates"][-1]["trial"] = 99
    (tmp_path / "validation.json").write_text(json.dumps(content))
    by_score = best_trial(tmp_path, rows)
    assert by_score == scored(rows)[0][1] == best_trial(tmp_path / "nothing", rows)
    (tmp_path / "validation.json").write_text(json.dumps(content)[:100])
    assert best_trial(tmp_path, rows) == by_score


def test_what_it_says(validated: Path) -> None:
    said = (validated / "said.txt").read_text()
    winner = candidates_of(validated / "out")[0]["trial"]
    assert "Validation (scores against the reference" in said
    assert f"Winner: trial {winner}." in said


def test_a_report_has_every_table_as_csv(validated: Path, tmp_path: Path) -> None:
    done = metaopt("report", "--study", validated / "out", "--out", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    scores = {row.number: row.verdict.score for row in read_rows(validated / "out", "tiny") if row.verdict}
    trials = {int(row["trial"]): row["score"] for row in table(tmp_path / "page" / "leaderboard.csv")}
    assert {number: float(text) if text else None for number, text in trials.items()} == scores
    again = table(tmp_path / "page" / "validation.csv")
    assert [(int(row["trial"]), float(row["fresh"])) for row in again] == [
        (one["trial"], one["fresh"]) for one in candidates_of(validated / "out")
    ]
    page = (tmp_path / "page" / "report.html").read_text()
    for title in ("Trials", "The best schedule", "Samples", "Search against fresh seeds"):
        assert f"<h2>{title}</h2>" in page
    files = {file.name for file in (tmp_path / "page").iterdir()}
    assert {"scores.png", "best_schedule.png", "samples.png", "validation.png"} <= files


def test_no_study_no_report(tmp_path: Path) -> None:
    refused = metaopt("report", "--study", tmp_path)
    assert refused.returncode == 2
    assert "must be the folder of a study" in refused.stderr


def test_a_resumed_study_trains_nothing_again(validated: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (validated / "out" / "trainings").iterdir()}
    done = metaopt("search", validated / "study.yaml", "--out", validated / "out", "--resume")
    assert done.returncode == 0, done.stderr
    assert {file: file.stat().st_mtime_ns for file in (validated / "out" / "trainings").iterdir()} == before


def wait_for_end(pid: int) -> None:
    """Wait for a process of somebody else to end, for a minute."""
    for _ in range(600):
        if not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} lives on")


def evaluation(out: Path, start: Path, data: Path, *more: object) -> list[object]:
    sets = [part for item in ("budget=60", "n_samples=100", "width=8", "size=8") for part in ("--set", item)]
    tasks = f"npz:{data},digits"
    return [
        "evaluate",
        start,
        "--tasks",
        tasks,
        "--baselines",
        "static,cosine_static",
        "--seeds",
        3,
        "--out",
        out,
        *sets,
        *more,
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own images."""
    file = tmp_path_factory.mktemp("data") / "mine.npz"
    ramp = np.linspace(0, 255, 64).reshape(1, 1, 8, 8)
    noise = np.random.default_rng(0).normal(0, 40, (300, 1, 8, 8))
    np.savez(file, x=np.clip(ramp + noise, 0, 255).astype(np.uint8))
    return file


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, start: Path, data: Path) -> Path:
    out = tmp_path_factory.mktemp("evaluated") / "out"
    done = metaopt(*evaluation(out, start, data))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ln(FID / FID of the baseline)" in done.stdout
    own = floor(load_task(f"npz:{data}", ["size=8", "n_samples=100"]))
    assert re.search(rf"FID floor, .*\bmine {own:.2f}", " ".join(done.stdout.split()))
    assert f">{own:.4g}<" in (out / "report.html").read_text()
    return out


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A study on the user's images alone."""
    folder = tmp_path_factory.mktemp("tuned")
    wide = {"family": "constant", "ranges": {"lr_d": {"low": 1e-4, "high": 10.0, "log": False}}}  # most diverge
    study = tiny_study(name="alone", tasks=[{"data": f"npz:{data}", "size": 8, **SMALL}], seeds=[7], schedule=wide)
    done = metaopt("search", write_study(folder, study), "--out", folder / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


def test_what_a_schedule_is_worth_in_trials_of_tuning(evaluated: Path, tuned: Path, start: Path, data: Path) -> None:
    """Its line must cross the expected best of the study's own trials, the reference left out, where the table says."""
    done = metaopt(*evaluation(evaluated, start, data, "--tuned", tuned))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Worth as many trials of tuning" in done.stdout and "mine (of 5)" in done.stdout
    ended = [row.verdict for row in read_rows(tuned, "alone")[1:] if row.verdict]
    assert {one.status for one in ended} == {"finished", "diverged"}
    pool = [math.log(one.fids["mine"]) for one in ended]
    last: dict[str, dict[str, float]] = {}
    for row in table(evaluated / "results.csv"):
        if row["fid"] and row["task"] == "mine":
            last.setdefault(row["schedule"], {})[row["seed"]] = math.log(float(row["fid"]))
    worth = table(evaluated / "equivalence.csv")
    assert [row["schedule"] for row in worth] == ["decay", "static", "cosine_static"]
    for row in worth:
        value = float(row["ln_fid"])
        assert value == pytest.approx(sum(last[row["schedule"]].values()) / 3, abs=1e-9)
        assert (int(row["of"]), float(row["best"])) == (5, pytest.approx(min(pool), abs=1e-9))
        trials = float(row["trials"])
        if 1 < trials < math.inf:
            assert expected_best(pool, trials) == pytest.approx(value, abs=1e-6)
        else:
            assert value <= min(pool) if trials > 1 else value >= expected_best(pool, 1)
    assert (evaluated / "equivalence.png").stat().st_size > 10_000


def test_a_study_on_something_else_is_no_pool(evaluated: Path, validated: Path, tuned: Path, data: Path) -> None:
    digits = ["evaluate", "ttur", "--tasks", "digits", "--seeds", 1, "--out", evaluated, "--tuned"]
    for folder, message in (
        (validated / "out", "must have one task and one seed"),
        (tuned, "must be tuned on one of the tasks, but it differs from digits in data, size, "),
        (evaluated, "must be the folder of a study"),
    ):
        refused = metaopt(*digits, folder)
        assert refused.returncode == 2
        assert message in " ".join(refused.stderr.split())


def test_a_pool_is_whole_of_the_same_images_and_one_a_task(
    evaluated: Path, tuned: Path, start: Path, data: Path, tmp_path: Path
) -> None:
    twice = metaopt(*evaluation(evaluated, start, data, "--tuned", tuned, "--tuned", tuned))
    assert twice.returncode == 2
    assert "must name one study a task, but 'mine' has 2" in " ".join(twice.stderr.split())
    manifest = json.loads((tuned / "study.json").read_text())
    for change, message in (
        ({"spec": manifest["spec"] | {"search": manifest["spec"]["search"] | {"trials": 9}}}, "all 9 trials"),
        ({"trained_on": "0" * 16}, "but have changed since"),
    ):
        copy = tmp_path / message.split()[-1]
        shutil.copytree(tuned, copy)
        (copy / "study.json").write_text(json.dumps(manifest | change))
        refused = metaopt(*evaluation(evaluated, start, data, "--tuned", copy))
        assert refused.returncode == 2
        assert message in " ".join(refused.stderr.split())


def test_a_report_says_which_parameters_matter_where_trials_tell(tuned: Path, tmp_path: Path) -> None:
    """Six trials tell nothing; forty, of which most diverge, do."""
    page = tmp_path / "report.html"
    assert metaopt("report", "--study", tuned, "--out", tmp_path).returncode == 0
    assert "Which parameters matter" not in page.read_text()
    more = metaopt("search", tuned.parent / "study.yaml", "--out", tuned, "--resume", "--set", "search.trials=40")
    assert more.returncode == 0, more.stderr
    assert metaopt("report", "--study", tuned, "--out", tmp_path).returncode == 0
    assert "Which parameters matter" in page.read_text()
    found = {row["parameter"]: float(row["importance"]) for row in table(tmp_path / "importances.csv")}
    assert found == pytest.approx(importances(tuned, "alone"))


def test_an_evaluation_is_paired_and_its_table_follows_from_its_results(evaluated: Path) -> None:
    last = {
        (row["schedule"], row["task"], row["seed"]): float(row["fid"])
        for row in table(evaluated / "results.csv")
        if row["fid"]
    }
    assert {schedule for schedule, _, _ in last} == {"decay", "static", "cosine_static"}
    rows = table(evaluated / "comparison.csv")
    assert [(row["baseline"], row["task"]) for row in rows] == [
        (baseline, task) for baseline in ("static", "cosine_static") for task in ("digits", "mine", "")
    ]
    for row in rows:
        if row["task"]:
            ratios = [
                math.log(fid / last[row["baseline"], task, seed])
                for (schedule, task, seed), fid in last.items()
                if (schedule, task) == ("decay", row["task"])
            ]
            assert len(ratios) == int(row["seeds"]) == 3
            assert float(row["ln_ratio"]) == pytest.approx(sum(ratios) / 3, abs=1e-9)
        assert float(row["ln_ratio_low"]) <= float(row["ln_ratio"]) <= float(row["ln_ratio_high"])


def test_on_ray_it_is_the_same(tmp_path: Path, evaluated: Path, start: Path, data: Path) -> None:
    done = metaopt(*evaluation(tmp_path / "out", start, data, "--ray"))
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("results.csv", "comparison.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (evaluated / name).read_bytes()


def test_killed_it_goes_on_to_the_same_with_any_number_of_workers(
    tmp_path: Path, evaluated: Path, start: Path, data: Path
) -> None:
    out = tmp_path / "out"
    again = evaluation(out, start, data, "--workers", 2)
    command = [sys.executable, "-m", "metaopt.cli.main", *map(str, again)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None and len(list(out.glob("trainings/*.json"))) < 4:
            time.sleep(0.02)
        workers = [int(line) for line in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]
        running.kill()  # alone: its workers see to themselves
    for worker in workers:
        wait_for_end(worker)
    kept = {file: file.stat().st_mtime_ns for file in out.glob("trainings/*.json")}
    assert 4 <= len(kept) < 18
    done = metaopt(*again)
    assert done.returncode == 0, done.stderr
    assert (out / "results.csv").read_bytes() == (evaluated / "results.csv").read_bytes()
    assert all(file.stat().st_mtime_ns == when for file, when in kept.items())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"baselines": "statik"}, "There is no baseline 'statik'; did you mean 'static'?"),
        ({"tasks": ","}, "`--tasks` must name at least one data set"),
        ({"tasks": "digits,digits"}, "Names of tasks must differ, but 'digits' is there twice"),
        ({"static": "cosine"}, "The static schedule must be a point of power_decay"),
        ({"settings": ["widht=3"]}, "unknown key `widht`; did you mean `width`"),
        ({"schedules": ["sngan", "sngan"]}, "Names of schedules and baselines must differ, but 'sngan' is there twice"),
    ],
    ids=str,
)
def test_what_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"schedules": ["sngan"], "tasks": "digits", "baselines": "static", "static": "dcgan"}
    with pytest.raises(ConfigError) as caught:
        evaluate(**arguments | changed, out=tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_schedules_of_one_name_can_be_called_something(tmp_path: Path, start: Path) -> None:
    out = tmp_path / "out"
    names = [f"one={start}", f"two={start}"]
    quick = {"budget": "20", "n_samples": "50", "width": "8"}
    settings = [f"{key}={value}" for key, value in quick.items()]
    evaluate(names, tasks="digits", out=out, baselines="static, constant_static", seeds=2, settings=settings)
    rows = table(out / "comparison.csv")
    assert {row["schedule"] for row in rows} == {"one", "two"}
    assert len(list(out.glob("trainings/*.json"))) == 3 * 2  # one and two are equal


def test_a_training_that_fails_is_a_message(tmp_path: Path) -> None:
    cell = Cell(
        contestant=Contestant(name="dcgan", schedule=BASELINES["dcgan"]),
        task=Task(name="digits", data="digits", network="mlp", budget=10, evaluations=1, n_samples=50),
        seed=0,
    )
    with pytest.raises(MetaoptError, match=r"^dcgan on digits, seed 0: the training failed: RuntimeError: "):
        list(train_cells([cell], tmp_path, device="meta:7"))
