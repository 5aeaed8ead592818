"""Twenty trials that report at once to one SQLite file, which somebody else reads and holds meanwhile."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

from search_checks import check_whole, n_ended, wait_until
from studies import tiny_study, write_study

N_WORKERS, N_TRIALS = 20, 40

NETWORKS = """\
import os
import time

import ray
from my_networks import make_pair as sound


def make_pair(**shape):
    if ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE:
        open(f"HERE/{os.getpid()}", "w").close()
        while len(os.listdir("HERE")) < N_WORKERS:  # until all of them are there
            time.sleep(0.1)
    return sound(**shape)
"""


def _hold(path: Path, ended: threading.Event, held: list[float]) -> None:
    """Take the whole file again and again, as a backup does; once for longer than MLflow waits."""
    for seconds in (25.0, *[0.5] * 1000):
        if ended.wait(0.2):
            return
        with sqlite3.connect(path, timeout=600, isolation_level=None) as store:
            store.execute("BEGIN EXCLUSIVE")
            held.append(seconds)
            time.sleep(seconds)
            store.execute("COMMIT")


def test_no_lock_of_the_database_reaches_anyone(tmp_path: Path) -> None:
    out, log, here = tmp_path / "out", tmp_path / "log", tmp_path / "here"
    here.mkdir()
    (tmp_path / "waiting.py").write_text(NETWORKS.replace("HERE", str(here)).replace("N_WORKERS", str(N_WORKERS)))
    tasks = [{"data": "digits", "budget": 60, "n_samples": 100, "network": "waiting:make_pair"}]
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1] / "gan")])
    search = {"trials": N_TRIALS, "seed": 1, "sampler": "random", "workers": N_WORKERS, "resources": {"cpu": 0.05}}
    study = write_study(tmp_path, tiny_study(tasks=tasks, search=search))
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out, "--allow-import"]
    environment = os.environ | {"PYTHONPATH": paths}
    ended, held = threading.Event(), list[float]()
    holder = threading.Thread(target=_hold, args=(out / "mlflow.db", ended, held))
    with log.open("w") as said, subprocess.Popen(command, env=environment, stdout=said, stderr=said) as process:
        wait_until(process, log.read_text, lambda: n_ended(out) >= 1 and (out / "mlflow.db").exists())
        holder.start()
        code = process.wait(900)
    ended.set()
    holder.join()
    assert code == 0, log.read_text()
    assert held and held[0] == 25.0
    assert len(list(here.iterdir())) >= N_WORKERS
    assert "is locked" not in log.read_text()
    assert "Deliver them with" not in log.read_text()
    rows = check_whole(out, "tiny", N_TRIALS, n_points=21)
    assert {row.verdict.status for row in rows if row.verdict} == {"finished"}
