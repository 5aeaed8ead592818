"""What bad networks do to the numbers on their way to an MLflow server: delay them, and nothing else."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_server import Server, free_port
from tcp_proxy import Mode, Proxy

from metaopt.errors import MetaoptError
from metaopt.tracking import Point, check_answers, load_curve, load_runs, open_tracker, sender

WAIT_S = 300.0
N = 1_500  # two requests


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    started = Server(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")
    started.start()
    yield started
    started.kill()


def test_a_database_that_refuses_is_no_store_that_answers() -> None:
    with pytest.raises(MetaoptError, match=r"runs does not answer, but `tracking\.required` is set"):
        check_answers(f"postgresql+psycopg2://who:secret@127.0.0.1:{free_port()}/runs")


def test_a_server_that_is_late_answers(server: Server) -> None:
    proxy = Proxy(server.port)
    proxy.mode = "late"
    check_answers(f"http://127.0.0.1:{proxy.port}")


def test_a_file_needs_no_answer_and_is_not_made(tmp_path: Path) -> None:
    check_answers(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["reset_after", "cut", "late"])
def test_a_run_of_which_it_is_not_known_whether_it_was_made_is_made_once(
    server: Server, mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(sender, "GIVE_UP_S", 0.5)
    proxy, study = Proxy(server.port), f"made-{mode}"
    tracker = open_tracker(f"http://127.0.0.1:{proxy.port}", study, tmp_path)
    tracker.start_study(params={}, tags={})
    assert tracker.close(WAIT_S) == 0
    tracker = open_tracker(f"http://127.0.0.1:{proxy.port}", study, tmp_path)
    proxy.mode, proxy.only = mode, b"runs/create"
    tracker.start_trial("a", name="a", params={"lr": 1e-4}, tags={})
    while proxy.n_failed < 1:
        time.sleep(0.05)
    proxy.mode = "pass"
    tracker.end_trial("a", status="FINISHED", metrics={"score": -0.5}, tags={})
    assert tracker.close(WAIT_S) == 0
    proxy.close()
    (run,) = load_runs(server.uri, study)
    assert (run["status"], run["metrics.score"]) == ("FINISHED", -0.5)


@pytest.mark.parametrize("mode", ["hang", "late", "reset", "reset_after", "unavailable", "slow", "cut"])
def test_numbers_come_late_and_once(
    server: Server, mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(sender, "GIVE_UP_S", 0.5)  # what is only late must not count as refused
    proxy = Proxy(server.port)
    picture = tmp_path / "grid.png"
    picture.write_bytes(b"png" * 1000)
    tracker = open_tracker(f"http://127.0.0.1:{proxy.port}", mode, tmp_path)
    for trial in ("a", "b"):
        proxy.mode = mode
        before = proxy.n_failed
        if trial == "a":
            tracker.start_study(params={"seed": 1}, tags={})
        started = time.monotonic()
        tracker.start_trial(trial, name=trial, params={"lr": 1e-4}, tags={})
        tracker.log(trial, [Point(key="fid", value=1.0 / (1 + i), step=i, timestamp_ms=1) for i in range(N)])
        tracker.log_artifact(trial, picture, folder="samples")
        tracker.end_trial(trial, status="FINISHED", metrics={"score": -0.5}, tags={})
        assert time.monotonic() - started < 1.0, "who logs must not wait for the network"
        while proxy.n_failed < before + 3:
            time.sleep(0.05)
        proxy.mode = "pass"
    assert tracker.close(WAIT_S) == 0
    assert tracker.error is None
    proxy.close()
    runs = load_runs(server.uri, mode)
    assert [(run["tags.mlflow.runName"], run["status"], run["metrics.score"]) for run in runs] == [
        ("a", "FINISHED", -0.5),
        ("b", "FINISHED", -0.5),
    ]
    assert len({run["tags.mlflow.parentRunId"] for run in runs}) == 1
    for run in runs:
        curve = load_curve(server.uri, run["run_id"], "fid")
        assert curve == [(i, 1.0 / (1 + i)) for i in range(N)]
