"""`metaopt train` as a user runs it."""

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import invoke
from PIL import Image
from studies import metaopt

from metaopt.schedules import ScheduleArtifact, save_schedule
from metaopt.search.study import load_task
from metaopt.training.resources import floor

QUICK = ("--budget", 200)


def records(out: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "wall_s"} for row in rows]


def test_a_schedule_file_is_followed_and_everything_is_written(tmp_path: Path) -> None:
    params = {"lr_g": 2e-3, "lr_d": 1e-3, "update_ratio": 1.5, "power": 1.0}
    schedule = save_schedule(ScheduleArtifact(family="power_decay", params=params), tmp_path / "s.json")
    out = tmp_path / "out"
    done = metaopt("train", "--task", "digits", "--schedule", schedule, "--seed", 3, "--out", out, *QUICK)
    assert done.returncode == 0, done.stderr
    rows = records(out)
    assert len(rows) == 41
    for row in rows:
        assert row["lr_g"] == pytest.approx(2e-3 * (1 - float(str(row["progress"]))), abs=1e-9)
        assert row["update_ratio"] == 1.5
    assert [i for i, row in enumerate(rows) if row["fid"] is not None] == [0, 10, 20, 30, 40]
    assert float(str(rows[-1]["fid"])) < float(str(rows[0]["fid"]))
    with (out / "records.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["loss_d"]) for row in table] == [row["loss_d"] for row in rows]
    grids = sorted(path.name for path in out.glob("samples-*.png"))
    assert len(grids) == 5
    with Image.open(out / grids[-1]) as grid:
        assert grid.size == (8 * 32 + 9 * 2, 8 * 32 + 9 * 2)
    measured = f"FID {float(str(rows[-1]['fid'])):.2f} (1000 samples, small features, floor "
    assert f"{measured}{floor(load_task('digits')):.2f})" in done.stdout


def test_killed_and_resumed_gives_the_same_records(tmp_path: Path) -> None:
    arguments = ["train", "--task", "digits", "--schedule", "gap_aware", "--budget", "2500", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert invoke(*arguments, whole).returncode == 0
    command = [sys.executable, "-m", "metaopt.cli.main", *arguments, str(killed)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and not (killed / "training.pt.previous").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    assert len(records(killed)) < 41
    resumed = invoke(*arguments, killed, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert records(killed) == records(whole)


def test_own_images(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (100, 3, 12, 12), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", x=x)
    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in enumerate(x):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i}.png")
    for task in (f"npz:{tmp_path / 'mine.npz'}", f"folder:{folder}"):
        out = tmp_path / task[:3]
        done = invoke("train", "--task", task, "--set", "size=8", "--set", "network=mlp", "--budget", 40, "--out", out)
        assert done.returncode == 0, done.stderr
        assert len(records(out)) == 41


@pytest.mark.parametrize(("n", "n_samples"), [(60, 100), (100, 60)])
def test_too_few_images_on_either_side_are_warned_of(tmp_path: Path, n: int, n_samples: int) -> None:
    np.savez(tmp_path / "few.npz", x=np.random.default_rng(0).integers(0, 255, (n, 1, 8, 8), dtype=np.uint8))
    sets = [part for item in ("batch=16", f"n_samples={n_samples}") for part in ("--set", item)]
    done = invoke("train", "--task", f"npz:{tmp_path}/few.npz", "--budget", 40, "--out", tmp_path / "out", *sets)
    assert done.returncode == 0, done.stderr
    assert "60 images are too few for a covariance of 64 features" in done.stdout


def test_divergence_is_an_outcome(tmp_path: Path) -> None:
    params = {"lr_g": 10.0, "lr_d": 10.0, "update_ratio": 1.0}
    schedule = save_schedule(ScheduleArtifact(family="constant", params=params), tmp_path / "s.json")
    done = invoke("train", "--task", "digits", "--schedule", schedule, "--out", tmp_path / "out", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "diverged: " in done.stdout
    assert records(tmp_path / "out")[-1]["outcome"] == "diverged"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "digit"], "There is no task 'digit'; did you mean 'digits'?"),
        (["--task", "npz:none.npz"], "none.npz"),
        (["--task", "digits", "--schedule", "none.json"], "none.json: the file cannot be read"),
        (["--task", "digits", "--schedule", "dcgn"], "There is no schedule 'dcgn'; did you mean 'dcgan'?"),
        (["--task", "digits", "--device", "cuda:99"], "`--device cuda:99` must be a device of this machine"),
        (["--task", "digits", "--set", "network=resnet"], "There is no network 'resnet'"),
        (["--task", "digits", "--resume"], "out must hold a training to resume"),
    ],
)
def test_bad_input_exits_with_2_and_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    # one of them as a process: warnings and logs of libraries must not be on its screen, either
    command = metaopt if "none.json" in arguments else invoke
    refused = command("train", *arguments, "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert message in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    refused = metaopt("train", "--task", "digits", "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert "must be a new or empty folder" in refused.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def _torn(whole: bytes) -> bytes:
    return whole[:-100]


def _flipped(whole: bytes) -> bytes:
    at = len(whole) // 2
    return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


def test_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert invoke("train", "--task", "digits", "--out", out, *QUICK).returncode == 0
    for damage in (_torn, _flipped):
        copy = tmp_path / damage.__name__
        shutil.copytree(out, copy)
        (copy / "training.pt").write_bytes(damage((out / "training.pt").read_bytes()))
        resumed = invoke("train", "--task", "digits", "--out", copy, "--resume", *QUICK)
        assert resumed.returncode == 0, resumed.stderr
        assert "training.pt is not whole: going on from training.pt.previous, the state before it." in resumed.stderr
        assert records(copy) == records(out)


def test_resuming_another_training_is_refused_and_a_finished_one_is_told_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = invoke("train", "--task", "digits", "--out", out, *QUICK)
    assert first.returncode == 0
    for changes, what in (
        (["--schedule", "ttur"], "schedule"),
        (["--schedule", "static"], "schedule"),
        (["--seed", "1"], "seed"),
        (["--budget", "300"], "task"),
    ):
        refused = invoke("train", "--task", "digits", "--out", out, "--resume", *QUICK, *changes)
        assert refused.returncode == 2
        assert f"holds a training of another {what}" in refused.stderr
    again = invoke("train", "--task", "digits", "--out", out, "--resume", *QUICK)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-2:] == first.stdout.splitlines()[-2:]
