"""Nothing is lost and nothing is doubled: processes killed at random moments, and a server that comes and goes."""

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_server import Server

from metaopt.errors import MetaoptError
from metaopt.tracking import Point, load_curve, load_runs, open_tracker

WAIT_S = 600.0

WORKER = """
import sys, time
from pathlib import Path
from metaopt.tracking import Point, open_tracker
folder, name = Path(sys.argv[1]), sys.argv[2]
tracker = open_tracker(f"sqlite:///{folder}/mlflow.db", "e", folder)
tracker.start_study(params={"seed": 0}, tags={})
for trial in range(1_000):
    uid = f"{name}.{trial}"
    tracker.start_trial(uid, name=uid, params={"trial": trial}, tags={})
    for step in range(40):
        tracker.log(uid, [Point(key=key, value=step, step=step, timestamp_ms=step) for key in ("g", "d")])
        print(uid, step, flush=True)
        time.sleep(0.002)
    tracker.end_trial(uid, status="FINISHED", metrics={"score": trial}, tags={})
    print(uid, "end", flush=True)
"""


def run_and_kill(folder: Path, name: str, life_s: float) -> list[tuple[str, str]]:
    """What the worker had handed in for certain when it was killed, ``life_s`` after its first word."""
    command = [sys.executable, "-c", WORKER, str(folder), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        lines = [worker.stdout.readline()]
        time.sleep(life_s)
        worker.kill()
        lines += worker.stdout.read().splitlines(keepends=True)
    return [tuple(line.split()) for line in lines if line.endswith("\n")]


def test_kill_9_at_random_moments_loses_nothing_and_doubles_nothing(tmp_path):
    rng = random.Random(7)
    told: list[tuple[str, str]] = []
    # the first dies while the store is being made, the others while they append and deliver
    for name, longest_s in (("first", 1.5), ("second", 4.0), ("third", 4.0)):
        told += run_and_kill(tmp_path, name, rng.uniform(0.3, longest_s))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert open_tracker(uri, "e", tmp_path).close(WAIT_S) == 0
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        stored = database.execute(
            "select t.value, m.key, m.step from metrics m join tags t on t.run_uuid = m.run_uuid"
            " where t.key = 'metaopt.trial_uid'"
        ).fetchall()
    runs = load_runs(uri, "e")
    uids = [run["tags.metaopt.trial_uid"] for run in runs]
    assert len(uids) == len(set(uids))
    assert len({run["tags.mlflow.parentRunId"] for run in runs}) == 1
    assert len(stored) == len(set(stored))
    points = {(uid, int(step)) for uid, step in told if step != "end"}
    assert points <= {(uid, step) for uid, key, step in stored if key == "g"}
    assert points <= {(uid, step) for uid, key, step in stored if key == "d"}
    ended = {uid for uid, step in told if step == "end"}
    assert ended <= {run["tags.metaopt.trial_uid"] for run in runs if run["status"] == "FINISHED"}
    assert all(run["params.trial"] == run["tags.metaopt.trial_uid"].split(".")[1] for run in runs)


@pytest.fixture
def server(store: str, tmp_path: Path) -> Iterator[Server]:
    server = Server(store, tmp_path / "artifacts")
    yield server
    server.kill()


def points(*steps: int) -> list[Point]:
    return [Point(key="digits/fid", value=1.0 / (1 + step), step=step, timestamp_ms=1) for step in steps]


def test_a_server_that_is_down_at_first_and_killed_later_misses_nothing(server, store, tmp_path):
    picture = tmp_path / "grid.png"
    picture.write_bytes(b"png")
    down = open_tracker(server.uri, "e", tmp_path)
    down.start_study(params={}, tags={})
    down.start_trial("a", name="trial a", params={"lr": 1e-4}, tags={})
    down.log("a", points(*range(1_200)))
    down.log_artifact("a", picture, folder="samples")
    assert down.close(0.2) == 4
    assert down.error is None
    with pytest.raises(MetaoptError, match="Connection refused"):
        load_runs(server.uri, "e")

    server.start()
    tracker = open_tracker(server.uri, "e", tmp_path)
    tracker.log("a", points(1_200))
    nan = [Point(key="loss", value=float(word), step=n, timestamp_ms=1) for n, word in enumerate(["nan", "inf"])]
    tracker.log("a", nan)
    while not any("metrics.loss" in run for run in _rows_if_any(store)):
        time.sleep(0.05)
    server.kill()
    tracker.log("a", points(1_201))
    time.sleep(0.3)
    server.start()
    tracker.end_trial("a", status="FINISHED", metrics={"score": -0.5}, tags={})
    assert tracker.close(WAIT_S) == 0

    (run,) = load_runs(server.uri, "e")
    assert run["status"] == "FINISHED" and run["params.lr"] == "0.0001" and run["metrics.score"] == -0.5
    assert load_curve(server.uri, run["run_id"], "digits/fid") == [(p.step, p.value) for p in points(*range(1_202))]
    assert [repr(v) for _, v in load_curve(server.uri, run["run_id"], "loss")] == ["nan", "nan"]
    assert [path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == ["grid.png"]
    assert [sorted(map(repr, row.items())) for row in load_runs(store, "e")] == [sorted(map(repr, run.items()))]


def _rows_if_any(store: str) -> list[dict]:
    try:
        return load_runs(store, "e")
    except MetaoptError:
        return []
