"""`metaopt search` as a user runs it, and what can be done with what it leaves behind."""

import csv
import json
import math
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from commands import invoke, search_without_ray
from metaopt.analysis.leaderboard import leaderboard
from metaopt.analysis.runs import study_runs
from PIL import Image
from search_checks import check_whole
from sqlalchemy import create_engine, text
from studies import metaopt, read_csv, tiny_study, write_study

from metaopt.schedules import load_schedule
from metaopt.search.optuna_space import JOURNAL, read_rows
from metaopt.search.study import load_study, load_task
from metaopt.tracking import load_curve, load_runs

N_TRIALS = 6
N_DIVERGING, N_WORKERS = 20, 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with two tasks, and what the command said in said.txt."""
    folder = tmp_path_factory.mktemp("finished")
    tasks = [
        {"data": "digits", "name": "narrow", "budget": 60, "n_samples": 100, "width": 8},
        {
            "data": "digits",
            "name": "wide",
            "budget": 40,
            "n_samples": 100,
            "width": 24,
            "loss": "hinge",
            "corruption": {"noise": 0.1},
        },
    ]
    study = write_study(folder, tiny_study(tasks=tasks, baselines=["ttur"]))
    done = metaopt("search", study, "--out", folder / "out", "--set", f"search.trials={N_TRIALS}")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder / "out"


def test_every_trial_is_recorded_once_everywhere(finished: Path) -> None:
    check_whole(finished, "tiny", N_TRIALS, n_points=42)


def test_reference_is_trial_0_with_score_0_and_baselines_follow(finished: Path) -> None:
    rows = read_rows(finished, "tiny")
    assert rows[0].name == "dcgan"
    assert rows[0].verdict and rows[0].verdict.score == 0.0
    assert rows[0].params == {"lr_g": 2e-4, "lr_d": 2e-4, "update_ratio": 1.0, "power": 0.0, "warmup": 0.0}
    assert rows[1].name == "ttur"
    assert rows[1].params == {"lr_g": 5e-4, "lr_d": 1e-4, "update_ratio": 1.0, "power": 0.0, "warmup": 0.0}


def test_score_is_the_mean_log_ratio_of_the_fids_in_the_store(finished: Path) -> None:
    runs = study_runs(f"sqlite:///{finished / 'mlflow.db'}", "tiny").set_index("trial")
    for number in range(N_TRIALS):
        ratios = [
            math.log(runs.loc[number, f"metrics.{task}/fid"] / runs.loc[0, f"metrics.{task}/fid"])
            for task in ("narrow", "wide")
        ]
        assert runs.loc[number, "score"] == pytest.approx(sum(ratios) / 2, abs=1e-12)


def test_mlflow_holds_params_curves_and_artifacts_of_each_trial(finished: Path) -> None:
    uri = f"sqlite:///{finished / 'mlflow.db'}"
    rows = {f"{row.number:05d}": row for row in read_rows(finished, "tiny")}
    for run in load_runs(uri, "tiny"):
        row = rows[run["tags.metaopt.trial_uid"][-5:]]
        assert {name: float(run[f"params.{name}"]) for name in row.params} == row.params
        assert run["tags.metaopt.status"] == "finished"
        rates = load_curve(uri, run["run_id"], "narrow/lr_g")
        lr, power, warmup = (row.params[name] for name in ("lr_g", "power", "warmup"))
        for step, rate in rates:
            t = min(step / 60, 1)
            risen = min(t / warmup, 1.0) if warmup else 1.0
            assert rate == pytest.approx(lr * risen * (1 - t) ** power, rel=0.2, abs=lr * 0.1)
        fids = load_curve(uri, run["run_id"], "narrow/fid")
        assert [step for step, _ in fids] == [0, 30, 60]
        for key in ("loss_g", "loss_d", "lr_d", "update_ratio"):
            assert len(load_curve(uri, run["run_id"], f"wide/{key}")) == 21
    grids = sorted(path.name for path in finished.glob("mlartifacts/**/samples/*.png"))
    assert len(grids) == N_TRIALS * 2 * 2


def test_outputs_are_whole(finished: Path) -> None:
    said = (finished.parent / "said.txt").read_text()
    for command in ("metaopt ui", "metaopt train", "metaopt show", "metaopt search"):
        assert command in said
    with (finished / "leaderboard.csv").open() as file:
        table = list(csv.DictReader(file))
    scores = [float(row["score"]) for row in table]
    assert scores == sorted(scores)
    assert len(table) == N_TRIALS
    for name in ("samples.png", "best_schedule.png"):
        with Image.open(finished / name) as picture:
            assert len(picture.convert("L").getcolors(256)) > 20  # it is drawn on, not blank
    best = load_schedule(finished / "best_schedule.json")
    assert best.score == scores[0]
    assert best.params == read_rows(finished, "tiny")[int(table[0]["trial"])].params
    assert best.baselines["dcgan"] == 0.0
    assert set(best.baselines) == {"dcgan", "ttur"}


def test_leaderboard_from_mlflow_agrees_with_the_record(finished: Path) -> None:
    runs = study_runs(f"sqlite:///{finished / 'mlflow.db'}", "tiny").sort_values(["score", "trial"])
    table = leaderboard(read_rows(finished, "tiny"))
    assert list(runs["trial"]) == list(table["trial"])
    assert list(runs["score"]) == list(table["score"])


def test_best_schedule_is_a_registered_model_with_an_alias(finished: Path) -> None:
    uri = f"sqlite:///{finished / 'mlflow.db'}"
    best = load_schedule(finished / "best_schedule.json")
    code = "import mlflow; print(mlflow.artifacts.download_artifacts('models:/tiny@best/best_schedule.json'))"
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri}  # here alone: the setting would outlive the test
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert load_schedule(loaded.stdout.strip().splitlines()[-1]) == best
    run = {run["tags.metaopt.trial_uid"]: run["run_id"] for run in load_runs(uri, "tiny")}
    assert best.provenance["mlflow_run"] == run[best.provenance["trial_uid"]]
    assert "models:/tiny@best/best_schedule.json" in (finished.parent / "said.txt").read_text()


def test_the_printed_command_trains_just_as_the_study_did(finished: Path, tmp_path: Path) -> None:
    said = (finished.parent / "said.txt").read_text()
    line = next(line for line in said.splitlines() if line.startswith("Train with the schedule:"))
    arguments = shlex.split(line)[5:]
    arguments[arguments.index("--out") + 1] = str(tmp_path / "out")
    done = metaopt(*arguments)
    assert done.returncode == 0, done.stderr
    trained = json.loads((tmp_path / "out" / "train.json").read_text())
    task = load_study(str(finished.parent / "study.yaml")).tasks[-1]
    assert trained["task"] == replace(task, evaluations=load_task("digits").evaluations).key()  # a study's own number


def test_export_of_any_trial(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "three.json"
    assert invoke("export", "--study", finished, "--trial", 3, "--out", out).returncode == 0
    row = read_rows(finished, "tiny")[3]
    assert load_schedule(out).params == row.params
    assert row.verdict and load_schedule(out).score == row.verdict.score
    assert json.loads(out.read_text())["provenance"]["trial"] == 3
    refused = metaopt("export", "--study", finished, "--trial", 99, "--out", out)
    assert refused.returncode == 2
    assert "no trial 99" in refused.stderr


def test_single_objective_has_no_front_to_export(finished: Path, tmp_path: Path) -> None:
    refused = invoke("export", "--study", finished, "--front", "--out", tmp_path / "front")
    assert refused.returncode == 2 and "must have several `search.objectives`" in refused.stderr
    assert "front" not in read_csv(finished / "leaderboard.csv")[0]


def test_its_simulation_replays_it_trial_by_trial(finished: Path, tmp_path: Path) -> None:
    study, out = finished.parent / "study.yaml", tmp_path / "simulated.csv"
    done = invoke("simulate", study, "--from", finished, "--workers", 2, "--repeats", 1, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {int(row["trial"]): row for row in read_csv(out)}
    for trial in read_rows(finished, "tiny"):
        assert trial.verdict and trial.verdict.score == float(rows[trial.number]["score"])
        assert rows[trial.number]["recorded"] == "True"
        if trial.number > 1:  # the first ones wait for the reference trainings
            lasted = float(rows[trial.number]["ended_s"]) - float(rows[trial.number]["began_s"])
            assert abs(lasted - trial.verdict.wall_s) < 1e-6


def test_show_says_what_it_is_and_draws_it(finished: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"
    shown = invoke("show", finished / "best_schedule.json", "--out", picture)
    assert shown.returncode == 0, shown.stderr
    assert "family power_decay" in shown.stdout
    assert "narrow, wide" in shown.stdout
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 800


def test_resuming_a_finished_study_changes_nothing(finished: Path) -> None:
    before = read_rows(finished, "tiny")
    again = metaopt(
        "search",
        finished.parent / "study.yaml",
        "--out",
        finished,
        "--resume",
        "--set",
        f"search.trials={N_TRIALS}",
    )
    assert again.returncode == 0, again.stderr
    assert re.search(rf"Search on: .*study\.yaml --out \S+ --resume --set search.trials={2 * N_TRIALS}\n", again.stdout)
    assert check_whole(finished, "tiny", N_TRIALS, n_points=42) == before
    versions = mlflow.MlflowClient(f"sqlite:///{finished / 'mlflow.db'}").search_model_versions("name = 'tiny'")
    assert len(versions) == 1


def test_folder_of_another_study_is_refused_and_left_alone(finished: Path, tmp_path: Path) -> None:
    def contents() -> dict[Path, Any]:
        return {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}

    before = contents()
    other = write_study(tmp_path, tiny_study(evaluations=3))
    refused = invoke("search", other, "--out", finished, "--resume")
    assert refused.returncode == 2
    assert "holds another study" in refused.stderr
    not_resumed = invoke("search", finished.parent / "study.yaml", "--out", finished)
    assert not_resumed.returncode == 2
    assert "--resume" in not_resumed.stderr
    assert contents() == before


def test_one_worker_and_one_seed_give_the_same_study_twice(tmp_path: Path) -> None:
    search = {"trials": 12, "seed": 3, "sampler": "tpe", "workers": 1}
    study = write_study(tmp_path, tiny_study(search=search))
    twice = []
    for name, done in (
        ("a", metaopt("search", study, "--out", tmp_path / "a")),
        ("b", search_without_ray(study, "--out", tmp_path / "b")),
    ):
        assert done.returncode == 0, done.stderr
        rows = check_whole(tmp_path / name, "tiny", 12, n_points=21)
        twice.append([(row.params, row.verdict and row.verdict.scores) for row in rows])
    assert twice[0] == twice[1]


@pytest.fixture(scope="module")
def diverging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study on two workers, of which some trials diverge and some are pruned."""
    folder = tmp_path_factory.mktemp("diverging")
    ranges = {"lr_d": {"low": 1e-4, "high": 1.6, "log": False}}  # D explodes above about 1
    search = {"trials": N_DIVERGING, "workers": N_WORKERS, "seed": 5, "sampler": "random", "pruner": "median"}
    schedule = {"family": "constant", "ranges": ranges}
    study = write_study(folder, tiny_study(schedule=schedule, evaluations=4, search=search))
    done = metaopt("search", study, "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder / "out"


def test_diverging_trials_are_values(diverging: Path) -> None:
    rows = check_whole(diverging, "tiny", N_DIVERGING, n_points=41)
    assert {row.verdict.status for row in rows if row.verdict} >= {"finished", "pruned", "diverged"}
    diverged = {row.number for row in rows if row.verdict and row.verdict.status == "diverged"}
    assert len(diverged) >= 2
    assert {row.state for row in rows if row.number in diverged} == {"FAIL"}
    runs = study_runs(f"sqlite:///{diverging / 'mlflow.db'}", "tiny").set_index("trial")
    assert {number for number in range(N_DIVERGING) if runs.loc[number, "status"] == "diverged"} == diverged
    pruned = runs[runs["status"] == "pruned"]["tags.metaopt.reason"]
    assert len(pruned) and pruned.str.startswith("pruned at evaluation ").all()
    table = leaderboard(rows)
    assert set(table["trial"][-len(diverged) :]) == diverged
    assert "diverged" in (diverging.parent / "said.txt").read_text()
    best = load_schedule(diverging / "best_schedule.json")
    assert best.score is not None and best.score <= 0.0


def test_two_workers_do_all_trials_as_no_more_than_two_tune_trials(diverging: Path) -> None:
    """So that what Ray keeps is bounded by the workers and not by the trials."""
    lines = [json.loads(line) for line in (diverging / JOURNAL).read_text(encoding="utf-8").splitlines()]
    jobs = [line["user_attr"]["ray_trial_id"] for line in lines if "ray_trial_id" in line.get("user_attr", {})]
    shares = Counter(job.rpartition("-")[0] for job in jobs)  # a job's name is that of its Tune trial and a number
    assert 1 <= len(shares) <= N_WORKERS  # one, where the other process is slow to start
    assert sum(shares.values()) >= N_DIVERGING - 1  # the reference is no job of its own


def test_images_that_were_left_out_are_counted_in_mlflow(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(60):
        Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    for name in ("cut.png", "text.jpg"):
        (tmp_path / name).write_text("no image")
    common = {"size": 8, "budget": 6, "n_samples": 50, "batch": 16}
    tasks = [{"data": f"{source}:{tmp_path}"} | common for source in ("folder", "readable")]
    refused, done = (
        search_without_ray(write_study(tmp_path, tiny_study(tasks=[task])), "--out", tmp_path / "out") for task in tasks
    )
    assert refused.returncode == 2
    assert f"leave out those that are no images by 'readable:{tmp_path}'" in refused.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    with create_engine(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}").connect() as store:
        (counted,) = store.execute(text("select value from tags where key = 'metaopt.left_out_images'")).scalars()
    assert counted == "2"
