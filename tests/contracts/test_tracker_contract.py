"""What every `Tracker` promises, checked for each of them."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from metaopt.tracking import NullTracker, Point, Tracker, open_tracker
from metaopt.tracking.mlflow_connect import connect

MakeTracker = Callable[[Path], Tracker]
WAIT_S = 600.0


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("contract") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["null", "mlflow on sqlite", "mlflow that is down"])
def make_tracker(request: pytest.FixtureRequest) -> MakeTracker:
    def on_sqlite(folder: Path) -> Tracker:
        if not (folder / "mlflow.db").exists():
            shutil.copy(request.getfixturevalue("migrated"), folder / "mlflow.db")
        return open_tracker(f"sqlite:///{folder}/mlflow.db", "contract", folder)

    return {
        "null": lambda folder: NullTracker(),
        "mlflow on sqlite": on_sqlite,
        # port 9 discards; nobody listens there
        "mlflow that is down": lambda folder: open_tracker("http://127.0.0.1:9", "contract", folder),
    }[request.param]


@pytest.fixture
def patience_s(request: pytest.FixtureRequest) -> float:
    return 0.1 if "down" in request.node.name else WAIT_S


def tell(tracker: Tracker, folder: Path) -> None:
    point = Point(key="digits/fid", value=1.5, step=10, timestamp_ms=1_700_000_000_000)
    tracker.start_study(params={"sampler": "tpe", "n": 3, "x": 0.5}, tags={"a": "b"})
    tracker.start_trial("t0", name="trial 0", params={"lr": 1e-4}, tags={})
    tracker.log("t0", [point])
    tracker.log("t0", [])
    tracker.log_artifact("t0", folder / "does not exist.png", folder="samples")
    tracker.log_artifact(None, folder)
    tracker.end_trial("t0", status="FAILED", metrics={"score": math.nan}, tags={"status": "diverged"})
    tracker.end_study(status="KILLED", metrics={"best": math.inf}, tags={})


def test_a_whole_study_raises_nothing_and_close_counts(make_tracker, patience_s, tmp_path):
    (tmp_path / "runs").mkdir()
    tracker = make_tracker(tmp_path / "runs")
    tell(tracker, tmp_path)
    n_left = tracker.close(patience_s)
    assert n_left == (7 if patience_s < 1 else 0)


def test_the_same_study_may_be_told_twice(make_tracker, patience_s, tmp_path):
    for _ in range(2):
        tracker = make_tracker(tmp_path)
        tell(tracker, tmp_path / "nothing here")
        tell(tracker, tmp_path / "nothing here")
        n_left = tracker.close(patience_s)
    assert n_left == (28 if patience_s < 1 else 0)


def test_closing_twice_says_the_same_and_later_calls_are_ignored(make_tracker, patience_s, tmp_path):
    tracker = make_tracker(tmp_path)
    tracker.start_study(params={}, tags={})
    n_left = tracker.close(patience_s)
    tell(tracker, tmp_path)
    assert tracker.close(patience_s) == n_left


def test_an_event_before_its_run_was_started_is_taken(make_tracker, patience_s, tmp_path):
    tracker = make_tracker(tmp_path)
    tracker.log("orphan", [Point(key="k", value=0.0, step=0, timestamp_ms=1)])
    tracker.end_trial("another", status="KILLED", metrics={}, tags={})
    assert tracker.close(patience_s) == (2 if patience_s < 1 else 0)


def test_nonsense_does_not_raise_into_the_search(make_tracker, patience_s, tmp_path):
    tracker = make_tracker(tmp_path)
    tracker.log("t", [Point(key="k", value=None, step=0, timestamp_ms=1)])
    tracker.log("t", [Point(key="k", value=0.0, step=2**70, timestamp_ms=1)])
    tracker.start_trial("t", name="t", params=None, tags={})
    tracker.end_trial("t", status="FINISHED", metrics={"k": "high"}, tags={})
    assert tracker.close(patience_s) == 0
