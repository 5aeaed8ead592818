"""Searches whose MLflow server is away: numbers wait, and none is lost or doubled."""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from commands import search_without_ray
from mlflow_server import Server
from search_checks import check_whole, n_ended, wait_until
from studies import metaopt, tiny_study, write_study
from tcp_proxy import Proxy

from metaopt.search.search import opened
from metaopt.search.study import load_study

N_TRIALS = 30
DOWN_S = 60.0


def _server(out: Path) -> Server:
    out.mkdir()
    return Server(f"sqlite:///{out / 'mlflow.db'}", out.parent / "artifacts")


def _study(folder: Path, budget: int, trials: int) -> Path:
    tasks = [{"data": "digits", "budget": budget, "n_samples": 100, "width": 16}]
    return write_study(folder, tiny_study(tasks=tasks, search={"trials": trials, "seed": 1, "sampler": "random"}))


def test_a_server_that_is_killed_while_trials_run_misses_nothing(tmp_path: Path) -> None:
    store = tmp_path / "store"
    server, out = _server(store), tmp_path / "out"
    server.start()
    command = [sys.executable, "-m", "metaopt.cli.main", "search", _study(tmp_path, 1500, N_TRIALS), "--out", out]
    environment = os.environ | {"MLFLOW_TRACKING_URI": server.uri}
    log = tmp_path / "log"
    with log.open("w") as said, subprocess.Popen(command, env=environment, stdout=said, stderr=said) as search:
        while n_ended(out) == 0:
            assert search.poll() is None
            time.sleep(0.1)
        server.kill()
        killed_at, known, spooled = time.monotonic(), n_ended(out), _spooled(out)
        while n_ended(out) < known + 3 or time.monotonic() < killed_at + DOWN_S:
            assert search.poll() is None, "the search must not end before the server is there"
            time.sleep(0.1)
        assert _spooled(out) > spooled
        server.start()
        assert search.wait(600) == 0, log.read_text()
    server.kill()
    (out / "mlflow.db").symlink_to(store / "mlflow.db")
    check_whole(out, "tiny", N_TRIALS, n_points=21)


def test_a_server_that_is_killed_and_never_comes_back_stops_no_training(tmp_path: Path) -> None:
    store, n_trials = tmp_path / "store", 6
    server, out, log = _server(store), tmp_path / "out", tmp_path / "log"
    server.start()
    command = [sys.executable, "-m", "metaopt.cli.main", "search", _study(tmp_path, 600, n_trials), "--out", out]
    environment = os.environ | {"MLFLOW_TRACKING_URI": server.uri}
    with log.open("w") as said, subprocess.Popen(command, env=environment, stdout=said, stderr=said) as search:
        wait_until(search, log.read_text, lambda: n_ended(out) > 0)
        server.kill()
        assert n_ended(out) < n_trials, "the search was over before the server was killed"
        assert search.wait(600) == 0, log.read_text()
    assert "did not answer. Deliver them with:" in log.read_text().replace("\n", " ")
    server.start()
    assert metaopt("sync", "--study", out, env=environment).returncode == 0
    server.kill()
    (out / "mlflow.db").symlink_to(store / "mlflow.db")
    check_whole(out, "tiny", n_trials, n_points=21)


def test_a_search_that_requires_its_server_does_not_begin_without_it(tmp_path: Path) -> None:
    store, n_trials = tmp_path / "store", 2
    server, out = _server(store), tmp_path / "out"
    study, network = _study(tmp_path, 60, n_trials), Proxy(server.port)

    def search() -> subprocess.CompletedProcess[str]:
        uri = f"http://127.0.0.1:{network.port}"
        arguments = (study, "--out", out, "--set", "tracking.required=true")
        return search_without_ray(*arguments, env={"MLFLOW_TRACKING_URI": uri})

    for mode in ("pass", "hang", "unavailable"):
        network.mode = mode
        refused = search()
        assert refused.returncode == 1, refused.stdout + refused.stderr
        assert "does not answer, but `tracking.required` is set" in refused.stderr
        assert not out.exists()
    network.mode = "pass"
    server.start()
    done = search()
    assert done.returncode == 0, done.stdout + done.stderr
    server.kill()
    (out / "mlflow.db").symlink_to(store / "mlflow.db")
    check_whole(out, "tiny", n_trials, n_points=21)
    with opened(load_study(str(study), ["tracking.required=true"]), out, resume=True) as begun:
        assert begun.tracking_uri.endswith(f":{network.port}"), "what has begun goes on without it"


def _spooled(out: Path) -> int:
    return (out / "spool" / "events.jsonl").stat().st_size


def test_what_a_server_has_missed_from_start_to_end_is_brought_by_sync(tmp_path: Path) -> None:
    store = tmp_path / "store"
    server, out = _server(store), tmp_path / "out"
    environment = os.environ | {"MLFLOW_TRACKING_URI": server.uri}
    done = metaopt("search", _study(tmp_path, 60, 3), "--out", out, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "did not answer. Deliver them with:" in done.stdout.replace("\n", " ")
    assert not (store / "mlflow.db").exists()
    in_vain = metaopt("sync", "--study", out, "--wait-s", "1", env=environment)
    assert in_vain.returncode == 1
    assert f"{server.uri} did not take them." in in_vain.stderr
    server.start()
    elsewhere = metaopt("sync", "--study", out, env=environment | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert elsewhere.returncode == 2
    assert f"has begun with the MLFLOW_TRACKING_URI {server.uri}, not http://127.0.0.1:9" in elsewhere.stderr
    forgetful = {name: value for name, value in environment.items() if name != "MLFLOW_TRACKING_URI"}
    for _ in range(2):  # a second time there is nothing left to bring
        brought = metaopt("sync", "--study", out, env=forgetful)
        assert brought.returncode == 0, brought.stderr
        assert f"All that tiny has recorded is at {server.uri}" in brought.stdout
    server.kill()
    (out / "mlflow.db").symlink_to(store / "mlflow.db")
    check_whole(out, "tiny", 3, n_points=21)
    (experiment,) = sqlite3.connect(store / "mlflow.db").execute("select count(*) from experiments where name='tiny'")
    assert experiment == (1,)
