"""Searches that are asked to end: in order the first time, at once the second, and both can be taken up again."""

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from search_checks import check_whole
from studies import metaopt, tiny_study, write_study

from metaopt.search.optuna_space import read_rows

N_TRIALS = 6


def _n_ended(out: Path) -> int:
    return sum(row.verdict is not None for row in read_rows(out, "tiny")) if (out / "study.json").exists() else 0


@pytest.mark.parametrize(("kind", "times"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_search_ends_and_goes_on(tmp_path: Path, kind: signal.Signals, times: int) -> None:
    tasks = [{"data": "digits", "budget": 1500, "n_samples": 100, "width": 16}]
    study, out = write_study(tmp_path, tiny_study(tasks=tasks)), tmp_path / "out"
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as search:
        while _n_ended(out) == 0:
            assert search.poll() is None
            time.sleep(0.1)
        for _ in range(times):
            search.send_signal(kind)
            time.sleep(0.1)
        _, said = search.communicate(timeout=300)
    assert search.returncode == 130, said
    assert "Stopped. Finished trials are kept. Go on with:" in said
    assert "Traceback" not in said
    before = {row.number: row.verdict for row in read_rows(out, "tiny") if row.verdict}
    assert 0 < len(before) < N_TRIALS
    if times == 1:
        (parent,) = sqlite3.connect(out / "mlflow.db").execute("select status from runs where name = 'tiny'").fetchall()
        assert parent == ("KILLED",)
    done = metaopt("search", study, "--out", out, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    after = {row.number: row.verdict for row in check_whole(out, "tiny", N_TRIALS, n_points=21)}
    assert {number: after[number] for number in before} == before


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    tasks = [{"data": "digits", "budget": 4000, "n_samples": 100, "width": 16}]
    study, out = write_study(tmp_path, tiny_study(tasks=tasks)), tmp_path / "out"
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as search:
        while _n_ended(out) == 0:
            assert search.poll() is None
            time.sleep(0.1)
        for second in (metaopt("search", study, "--out", out, "--resume"), metaopt("sync", "--study", out)):
            assert second.returncode == 2
            assert "Another search is running in" in second.stderr
        assert search.wait(600) == 0
    check_whole(out, "tiny", N_TRIALS, n_points=21)
