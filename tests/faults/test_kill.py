"""The whole driver process tree is killed with SIGKILL at random moments; the study must end as if it had not been."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
from search_checks import check_whole, left_behind, wait_until_all_have_ended
from sessions import opened, work_all
from studies import metaopt, tiny_study, write_study

from metaopt.search.optuna_space import read_rows

N_TRIALS = 24
N_POINTS = 21


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to a process and all below it, Ray's daemons included."""
    try:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        tree = []
    for victim in tree:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def start_and_kill(study: Path, out: Path, n_files: int, after_s: float, *, alone: bool) -> None:
    """Begin or go on with a search; kill it `after_s` seconds after workers' reports have made `n_files` more files.

    With all that it has started, or `alone`: then the rest must end by itself.
    """
    enough, mark = n_reported(out) + n_files, f"METAOPT_KILLED={out}"
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out, "--resume"]
    environment = os.environ | dict([mark.split("=")])
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline and n_reported(out) < enough:
        time.sleep(0.02)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        if not alone:
            kill_tree(process)
            return
        assert len(left_behind(mark)) > 3
        process.kill()
        process.wait()
        wait_until_all_have_ended(mark)


def n_reported(out: Path) -> int:
    """Files made of what workers have reported so far."""
    return len([*out.glob("references/*"), *out.glob("trials/*/*")])


def ended(out: Path) -> dict[int, tuple[str, float | None]]:
    """State and score of the trials that have ended."""
    return {
        row.number: (row.state, row.verdict.score if row.verdict else None)
        for row in read_rows(out, "tiny")
        if row.state not in ("RUNNING", "WAITING")
    }


def test_killed_driver_loses_and_doubles_nothing(tmp_path: Path) -> None:
    content = tiny_study(search={"trials": N_TRIALS, "seed": 1, "sampler": "random"})
    study, out = write_study(tmp_path, content), tmp_path / "out"
    moments = random.Random(0)
    before: dict[int, tuple[str, float | None]] = {}
    for alone in (None, False, True, False):
        if alone is None:  # while it starts
            start_and_kill(study, out, 0, moments.uniform(0.0, 12.0), alone=False)
        else:
            start_and_kill(study, out, moments.randint(4, 10), moments.uniform(0.0, 0.3), alone=alone)
        after = ended(out)
        assert before.items() <= after.items(), "a finished trial was lost or run again"
        before = after
    assert 0 < len(before) < N_TRIALS, "no kill fell into the search"
    done = metaopt("search", study, "--out", out, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = check_whole(out, "tiny", N_TRIALS, N_POINTS)
    assert before.items() <= ended(out).items()
    clean = tmp_path / "clean"
    clean.mkdir()
    undisturbed = work_all(opened(clean, N_TRIALS))
    assert [(row.params, row.verdict and row.verdict.score) for row in rows] == [
        (row.params, row.verdict and row.verdict.score) for row in undisturbed
    ]
