"""`metaopt evaluate` as a user runs it: against baselines, and against tuning on the task itself."""

import json
import math
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke, search_without_ray
from studies import metaopt, read_csv, tiny_study, write_study

from metaopt.cli.evaluate import evaluate
from metaopt.errors import ConfigError, MetaoptError
from metaopt.gan import Task
from metaopt.meta.statistics import expected_best
from metaopt.meta.transfer import Cell, Contestant, train_cells
from metaopt.schedules import BASELINES
from metaopt.search.importances import importances
from metaopt.search.optuna_space import read_rows
from metaopt.search.pools import tuning_pool
from metaopt.search.study import load_task, tasks_of
from metaopt.training.resources import floor

N_TUNED = 20
"""Trials of the study on one task, of which some diverge."""
SMALL = {"budget": 60, "n_samples": 100, "width": 8}


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
    wide = {"family": "constant", "ranges": {"lr_d": {"low": 1e-4, "high": 4.0, "log": False}}}  # some diverge
    study = tiny_study(name="alone", tasks=[{"data": f"npz:{data}", "size": 8, **SMALL}], seeds=[7], schedule=wide)
    study["search"]["trials"] = N_TUNED
    done = search_without_ray(write_study(folder, study), "--out", folder / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


def test_what_a_schedule_is_worth_in_trials_of_tuning(evaluated: Path, tuned: Path, start: Path, data: Path) -> None:
    """Its line must cross the expected best of the study's own trials, the reference left out, where the table says."""
    done = invoke(*evaluation(evaluated, start, data, "--tuned", tuned))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Worth as many trials of tuning" in done.stdout and f"mine (of {N_TUNED - 1})" in done.stdout
    ended = [row.verdict for row in read_rows(tuned, "alone")[1:] if row.verdict]
    assert {one.status for one in ended} == {"finished", "diverged"}
    pool = [math.log(one.fids["mine"]) for one in ended]
    last: dict[str, dict[str, float]] = {}
    for row in read_csv(evaluated / "results.csv"):
        if row["fid"] and row["task"] == "mine":
            last.setdefault(row["schedule"], {})[row["seed"]] = math.log(float(row["fid"]))
    worth = read_csv(evaluated / "equivalence.csv")
    assert [row["schedule"] for row in worth] == ["decay", "static", "cosine_static"]
    for row in worth:
        value = float(row["ln_fid"])
        assert value == pytest.approx(sum(last[row["schedule"]].values()) / 3, abs=1e-9)
        assert (int(row["of"]), float(row["best"])) == (N_TUNED - 1, pytest.approx(min(pool), abs=1e-9))
        trials = float(row["trials"])
        if 1 < trials < math.inf:
            assert expected_best(pool, trials) == pytest.approx(value, abs=1e-6)
        else:
            assert value <= min(pool) if trials > 1 else value >= expected_best(pool, 1)
    assert (evaluated / "equivalence.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [7, 8]}, "must have one task and one seed to say what tuning on that task finds, but has 1 and 2"),
        ({"trained_on": "0" * 16}, "images, features and metaopt must be those of the study, but have changed since"),
    ],
)
def test_a_study_of_something_else_is_no_pool(
    tuned: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    manifest = json.loads((tuned / "study.json").read_text())
    tasks = tasks_of(manifest["spec"], "here")
    assert tuning_pool(tuned, tasks).task == "mine"
    shutil.copytree(tuned, tmp_path / "copy")
    (tmp_path / "copy" / "study.json").write_text(json.dumps(manifest | change))
    with pytest.raises(ConfigError, match=message):
        tuning_pool(tmp_path / "copy", tasks)


def test_a_pool_is_whole_and_of_the_same_task(tuned: Path, tmp_path: Path) -> None:
    manifest = json.loads((tuned / "study.json").read_text())
    (task,) = tasks_of(manifest["spec"], "here")
    with pytest.raises(ConfigError, match="it differs from mine in loss, budget"):
        tuning_pool(tuned, [replace(task, loss="hinge", budget=70)])
    assert tuning_pool(tuned, [replace(task, evaluations=7)]) == tuning_pool(tuned, [task])
    manifest["spec"]["search"]["trials"] = N_TUNED + 1
    shutil.copytree(tuned, tmp_path / "copy")
    (tmp_path / "copy" / "study.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=f"all {N_TUNED + 1} trials of the study must have ended, but {N_TUNED} have"):
        tuning_pool(tmp_path / "copy", [task])


def test_one_study_a_task(evaluated: Path, tuned: Path, start: Path, data: Path) -> None:
    twice = invoke(*evaluation(evaluated, start, data, "--tuned", tuned, "--tuned", tuned))
    assert twice.returncode == 2
    assert "must name one study a task, but 'mine' has 2" in " ".join(twice.stderr.split())


def test_a_report_says_which_parameters_matter(tuned: Path, tmp_path: Path) -> None:
    assert invoke("report", "--study", tuned, "--out", tmp_path).returncode == 0
    assert "Which parameters matter" in (tmp_path / "report.html").read_text()
    found = {row["parameter"]: float(row["importance"]) for row in read_csv(tmp_path / "importances.csv")}
    assert found == pytest.approx(importances(tuned, "alone"))


def test_an_evaluation_is_paired_and_its_table_follows_from_its_results(evaluated: Path) -> None:
    last = {
        (row["schedule"], row["task"], row["seed"]): float(row["fid"])
        for row in read_csv(evaluated / "results.csv")
        if row["fid"]
    }
    assert {schedule for schedule, _, _ in last} == {"decay", "static", "cosine_static"}
    rows = read_csv(evaluated / "comparison.csv")
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
    done = invoke(*again)
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
    rows = read_csv(out / "comparison.csv")
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
