"""The whole cluster stops, or its control store dies, while trials run: the search says so, and goes on elsewhere."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from clusters import LocalCluster, local_cluster
from search_checks import check_whole
from studies import metaopt, tiny_study, write_study

from metaopt.search.optuna_space import read_rows

N_TRIALS = 6


def _n_ended(out: Path) -> int:
    return sum(row.verdict is not None for row in read_rows(out, "tiny")) if (out / "study.json").exists() else 0


def _stop(cluster: LocalCluster) -> None:
    cluster.process.terminate()
    cluster.process.wait(300)


def _kill_control_store(cluster: LocalCluster) -> None:
    (store,) = [p for p in psutil.Process(cluster.process.pid).children(recursive=True) if p.name() == "gcs_server"]
    store.kill()


@pytest.mark.parametrize("end", [_stop, _kill_control_store])
def test_a_search_whose_cluster_has_gone_goes_on_with_another(tmp_path: Path, end) -> None:  # type: ignore[no-untyped-def]
    tasks = [{"data": "digits", "budget": 2000, "n_samples": 100, "width": 16}]
    settings = {"trials": N_TRIALS, "seed": 1, "sampler": "random"}
    study, out = write_study(tmp_path, tiny_study(tasks=tasks, search=settings)), tmp_path / "out"
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out]
    log = tmp_path / "log"
    with local_cluster(tmp_path, nodes=2) as cluster, log.open("w") as said:
        with subprocess.Popen(command, env=cluster.client, stdout=said, stderr=said) as search:
            while _n_ended(out) < 2:
                assert search.poll() is None, log.read_text()
                time.sleep(0.1)
            end(cluster)
            started=time.time()
            code = search.wait(600)
            print(time.time()-started)
    before = {row.number: row.verdict for row in read_rows(out, "tiny") if row.verdict}
    print(log.read_text())
    assert 2 <= len(before) < N_TRIALS
    assert code == 1
    assert "Traceback" not in log.read_text()
    assert "Go on with:" in log.read_text()
    with local_cluster(tmp_path, nodes=1) as another:
        resumed = metaopt("search", study, "--out", out, "--resume", env=another.client)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    rows = check_whole(out, "tiny", N_TRIALS, n_points=21)
    assert {row.number: row.verdict for row in rows if row.number in before} == before
