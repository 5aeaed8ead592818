"""Workers that are killed in the middle of a trial."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from search_checks import check_whole
from studies import tiny_study, write_study

from metaopt.search.optuna_space import read_rows

N_TRIALS = 5


def _workers(search: "subprocess.Popen[bytes]") -> list[int]:
    """Processes that train."""
    found = psutil.Process(search.pid).children(recursive=True)
    return [process.pid for process in found if process.name().startswith("ray::") and ".train" in process.name()]


def _count(out: Path) -> tuple[int, int]:
    """Trials that have begun, and that have ended."""
    rows = read_rows(out, "tiny") if (out / "study.json").exists() else []
    return sum(row.state != "WAITING" for row in rows), sum(row.verdict is not None for row in rows)


def test_a_trial_whose_worker_is_killed_is_run_again(tmp_path: Path) -> None:
    tasks = [{"data": "digits", "budget": 2000, "n_samples": 100, "width": 16}]
    settings = {"trials": N_TRIALS, "seed": 1, "sampler": "random", "workers": 2}
    study, out = write_study(tmp_path, tiny_study(tasks=tasks, search=settings)), tmp_path / "out"
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out]
    log = tmp_path / "log"
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as search:
        killed: set[int] = set()
        for n_begun, n_ended in ((1, 1), (N_TRIALS, 3)):  # in the middle, and when there is nothing left to hand out
            while _count(out) < (n_begun, n_ended) or set(_workers(search)) <= killed:
                assert search.poll() is None, log.read_text()
                time.sleep(0.05)
            victim = next(worker for worker in _workers(search) if worker not in killed)
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
        assert _count(out)[1] < N_TRIALS, "the second kill came too late"
        assert search.wait(600) == 0, log.read_text()
    rows = check_whole(out, "tiny", N_TRIALS, n_points=21)
    assert {row.verdict.status for row in rows if row.verdict} == {"finished"}
