"""Hundreds of small trials under one random fault after the other. A longer soak, with the seed that is printed:

METAOPT_SOAK_TRIALS=1000 METAOPT_SOAK_SEED=7 python -m pytest -s tests/faults/test_soak.py
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from clusters import local_cluster, n_training, one_more_node
from mlflow_server import Server
from search_checks import check_whole
from studies import tiny_study, write_study
from tcp_proxy import Proxy

from metaopt.search.optuna_space import JOURNAL, TrialRow, read_rows

N_TRIALS = int(os.environ.get("METAOPT_SOAK_TRIALS", "100"))
MORE = 30
"""Trials that are added where the search is over before each fault has struck."""
SEED = int(os.environ.get("METAOPT_SOAK_SEED", "0"))
BETWEEN_S = 4.0
MAX_FILES, MAX_BYTES = 120, 1_300 << 20


class Soak:
    """A search that is started again whenever it has died, and what is done to it.

    By turns on a cluster, with a node that stays and one that is lost now and then, and on a Ray of its own.
    """

    def __init__(self, folder: Path, draw: random.Random, block: ExitStack) -> None:
        """The cluster ends with the `block`."""
        self.draw, self.out, self.log, self._block = draw, folder / "out", folder / "log", block
        self.cluster = block.enter_context(local_cluster(folder, nodes=1))
        self._node = block.enter_context(one_more_node(self.cluster))
        self.on_cluster = False
        self.n_kills, self.n_lost = 0, 0
        """Workers killed, and nodes lost that trained."""
        (folder / "store").mkdir()
        self.database = folder / "store" / "mlflow.db"
        self.server = Server(f"sqlite:///{self.database}", folder / "artifacts")
        self.network = Proxy(self.server.port)
        high = {"low": 1e-4, "high": 10.0}  # some of them diverge
        schedule = {"family": "constant", "ranges": {"lr_g": high, "lr_d": high}}
        search = {"trials": N_TRIALS, "seed": SEED, "workers": 2}
        study = write_study(folder, tiny_study(schedule=schedule, search=search))
        self._command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", self.out, "--resume"]
        self.n_trials = N_TRIALS
        self.search: subprocess.Popen[bytes] | None = None
        self.most_files, self.most_bytes = 0, 0
        self._said_before, self.was_away = 0, False
        """Length of the log at the last start, and whether the server was away since."""

    def begin(self) -> None:
        """Start it, or go on with it."""
        self.on_cluster = not self.on_cluster
        self._said_before, self.was_away = self.log.stat().st_size if self.log.exists() else 0, False
        where = self.cluster.client if self.on_cluster else dict(os.environ)
        with self.log.open("a") as said:
            environment = where | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.network.port}"}
            command = [*self._command, "--set", f"search.trials={self.n_trials}"]
            self.search = subprocess.Popen(command, env=environment, stdout=said, stderr=said)

    def sync(self) -> None:
        """Deliver what the search that has just ended says it leaves, as a server that was away makes it do."""
        if b"Deliver them with" not in self.log.read_bytes()[self._said_before :]:
            return
        assert self.was_away, self.log.read_text()
        sync = [sys.executable, "-m", "metaopt.cli.main", "sync", "--study", self.out]
        environment = os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.network.port}"}
        subprocess.run(sync, env=environment, check=True, timeout=600)

    def ended(self) -> dict[int, TrialRow]:
        """Trials that have ended."""
        rows = read_rows(self.out, "tiny") if (self.out / "study.json").exists() else []
        return {row.number: row for row in rows if row.verdict}

    def look(self) -> None:
        """What the driver takes of this machine."""
        with suppress(psutil.Error):
            driver = psutil.Process(self.running.pid)
            self.most_files = max(self.most_files, driver.num_fds())
            self.most_bytes = max(self.most_bytes, driver.memory_info().rss)

    @property
    def running(self) -> "subprocess.Popen[bytes]":
        """The process of the search."""
        assert self.search
        return self.search

    def _worker(self) -> psutil.Process | None:
        trees = (_tree(pid) for pid in (self.running.pid, self.cluster.process.pid, self._node.pid))
        found = [process for tree in trees for process in tree if _name(process).startswith("ray::TrainJob.train")]
        return self.draw.choice(found) if found else None

    # Faults

    def kill_worker(self) -> None:
        """One that trains."""
        if worker := self._worker():
            with suppress(psutil.Error):
                worker.kill()
                self.n_kills += 1

    def freeze_worker(self) -> None:
        """For some seconds, as a machine that swaps does."""
        if worker := self._worker():
            with suppress(psutil.Error):
                worker.suspend()
                time.sleep(self.draw.uniform(1, 3))
                worker.resume()

    def lose_node(self) -> None:
        """With all that runs on it; another one comes."""
        while not n_training(self._node) and self.running.poll() is None:
            time.sleep(0.05)
        self.n_lost += n_training(self._node) > 0
        _kill(_tree(self._node.pid))
        self._node = self._block.enter_context(one_more_node(self.cluster))

    def kill_driver(self) -> None:
        """With all that it has started."""
        _kill(_tree(self.running.pid))
        self.running.wait()

    def tear(self) -> None:
        """What was written last is not whole, as after a loss of power."""
        self.kill_driver()
        for file in (self.out / JOURNAL, *self.out.glob("spool/*.jsonl")):
            if file.exists():
                with file.open("ab") as torn:
                    torn.write(self.draw.choice([b'{"op_code": 4, "wor', bytes(100), b'{"kind": "log", "uid": "tin']))
        for file in self.out.glob("references/*.json"):
            file.write_bytes(file.read_bytes()[: self.draw.randrange(100)])

    def terminate(self) -> None:
        """As a scheduler does."""
        self.running.send_signal(signal.SIGTERM)
        self.running.wait(300)

    def kill_server(self) -> None:
        """For some seconds."""
        self.was_away = True
        self.server.kill()
        time.sleep(self.draw.uniform(0, 5))
        self.server.start()

    def hold_database(self) -> None:
        """As a backup does."""
        self.was_away = True
        with sqlite3.connect(self.database, timeout=300, isolation_level=None) as store:
            store.execute("BEGIN EXCLUSIVE")
            time.sleep(self.draw.uniform(0, 5))
            store.execute("COMMIT")

    def break_network(self) -> None:
        """For some seconds, between the search and the server."""
        self.was_away = True
        self.network.mode = self.draw.choice(["hang", "reset", "reset_after", "unavailable", "cut"])
        time.sleep(self.draw.uniform(0, 5))
        self.network.mode = "pass"

    @property
    def faults(self) -> list[Callable[[], None]]:
        """All that mean something to the search that runs."""
        ours = [self.kill_worker, self.freeze_worker, self.kill_driver, self.tear, self.terminate]
        lose_node = [self.lose_node] if self.on_cluster else []
        return [*ours, *lose_node, self.kill_server, self.hold_database, self.break_network]


def _tree(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return str(process.name())
    return ""


def _faults_until_the_end(soak: Soak) -> dict[int, TrialRow]:
    """All of them at least once; the trials that had ended after the last of them."""
    soak.server.start()
    soak.begin()
    before: dict[int, TrialRow] = {}
    left = soak.faults
    next_at = time.monotonic() + 2 * BETWEEN_S
    try:
        while soak.running.poll() != 0 or left:
            if soak.running.poll() == 0:
                soak.n_trials += MORE
                soak.begin()
            soak.look()
            time.sleep(0.2)
            # mostly while trials end, and sometimes while it starts
            due = time.monotonic() > next_at and (len(soak.ended()) > len(before) + 1 or soak.draw.random() < 0.005)
            if soak.running.poll() is None and due:
                fault = soak.draw.choice([one for one in soak.faults if one in left] or soak.faults)
                left = [one for one in left if one != fault or (one == soak.lose_node and not soak.n_lost)]
                print(f"{len(soak.ended())} trials have ended; now: {fault.__name__}", flush=True)
                fault()
                next_at = time.monotonic() + soak.draw.uniform(0, 2 * BETWEEN_S)
                after = soak.ended()
                assert before.items() <= after.items(), "a trial that had ended was lost or changed"
                before = after
            if soak.running.poll() not in (None, 0):
                soak.begin()
        said = soak.log.read_text()
        assert "Traceback" not in said, said
        soak.sync()
    finally:
        soak.kill_driver()
        soak.server.kill()
    return before


@pytest.mark.timeout(1200 + 10 * N_TRIALS)
def test_whatever_happens_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    print(f"seed {SEED}, {N_TRIALS} trials")
    with ExitStack() as block:
        soak = Soak(tmp_path, random.Random(SEED), block)
        before = _faults_until_the_end(soak)
    rows = {row.number: row for row in read_rows(soak.out, "tiny")}
    assert before.items() <= rows.items()
    errors = [row.verdict.reason for row in rows.values() if row.verdict and row.verdict.status == "error"]
    assert {*errors} <= {"its process was killed, as the kernel does where memory runs out"}, errors
    assert len(errors) <= soak.n_kills // 2, "a trial is an error if its worker was killed twice"
    store = f"sqlite:///{soak.database}"
    check_whole(soak.out, "tiny", soak.n_trials, n_points=21, store=store, n_errors=len(errors))
    assert {row.verdict.status for row in rows.values() if row.verdict} >= {"finished", "diverged"}
    print(f"{soak.most_files} files and {soak.most_bytes >> 20} MiB at most")
    assert soak.most_files < MAX_FILES
    assert soak.most_bytes < MAX_BYTES
