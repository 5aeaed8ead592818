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


def _worker(search: "subprocess.Popen[bytes]") -> int | None:
    """A process that trains."""
    found = psutil.Process(search.pid).children(recursive=True)
    return next(
        (process.pid for process in found if process.name().startswith("ray::") and ".train" in process.name()), None
    )


def test_a_trial_whose_worker_is_killed_is_run_again(tmp_path: Path) -> None:
    tasks = [{"data": "digits", "budget": 1200, "n_samples": 100, "width": 16}]
    settings = {"trials": N_TRIALS, "seed": 1, "sampler": "random", "workers": 1}
    study, out = write_study(tmp_path, tiny_study(tasks=tasks, search=settings)), tmp_path / "out"
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as search:
        killed: set[int] = set()
        for n_ended in (1, 3):
            while not (out / "study.json").exists() or _n_ended(out) < n_ended or _worker(search) in (None, *killed):
                assert search.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.05)
            victim = _worker(search)
            assert victim is not None
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
        assert search.wait(600) == 0, (tmp_path / "log").read_text()
    rows = check_whole(out, "tiny", N_TRIALS, n_points=21)
    assert {row.verdict.status for row in rows if row.verdict} == {"finished"}


def _n_ended(out: Path) -> int:
    return sum(row.verdict is not None for row in read_rows(out, "tiny"))
