"""The driver of a population is killed with all below it, or a worker; the end is as if neither had been."""

import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from populations import outcome, population_study, session_of, train_all
from search_checks import check_whole
from studies import metaopt, write_study
from test_kill import kill_tree

from metaopt.search.optuna_space import TrialRow

N_TRIALS, EVALUATIONS = 7, 5
N_POINTS = 10 * EVALUATIONS + 1
TASKS = [{"data": "digits", "budget": 200, "n_samples": 100, "width": 12}]
CONTENT = population_study(trials=N_TRIALS, name="tiny", tasks=TASKS, evaluations=EVALUATIONS)


def done_in(out: Path) -> int:
    """Intervals that have been kept, and evaluations that have decided."""
    return len(list(out.glob("population/*.json")))


def killed_after(study: Path, out: Path, n: int, after_s: float) -> None:
    """Begin or go on with a search; kill it and all below it `after_s` seconds after `n` more files were kept."""
    enough = done_in(out) + n
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out, "--resume"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 900
    while process.poll() is None and time.monotonic() < deadline and done_in(out) < enough:
        time.sleep(0.02)
    assert process.poll() is None, "the search ended before it could be killed"
    time.sleep(after_s)
    kill_tree(process)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[TrialRow]:
    return train_all(session_of(tmp_path_factory.mktemp("undisturbed"), CONTENT))


def test_a_population_whose_driver_is_killed_ends_as_one_whose_driver_was_not(
    tmp_path: Path, undisturbed: list[TrialRow]
) -> None:
    study, out = write_study(tmp_path, CONTENT), tmp_path / "out"
    moments = random.Random(0)
    for n in (3, 8, 9):
        killed_after(study, out, n, moments.uniform(0.0, 0.3))
    assert 20 <= done_in(out) < 6 * EVALUATIONS + EVALUATIONS - 1
    saved = sorted((out / "population").glob("*.pt"))
    for torn in saved[::2]:
        torn.write_bytes(torn.read_bytes()[:1000])
    for flipped in saved[1::2]:
        content = flipped.read_bytes()
        flipped.write_bytes(content[:5000] + bytes(byte ^ 255 for byte in content[5000:5008]) + content[5008:])
    done = metaopt("search", study, "--out", out, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "were damaged or gone, and trained again from" in done.stdout
    rows = check_whole(out, "tiny", N_TRIALS, N_POINTS)
    assert any(row.verdict and "were damaged or gone" in row.verdict.reason for row in rows)
    assert [row[:3] for row in outcome(rows)] == [row[:3] for row in outcome(undisturbed)]
    for one, other in zip(rows, undisturbed, strict=True):
        assert one.verdict and other.verdict
        assert (one.verdict.scores, one.verdict.intervals, one.verdict.copied) == (
            other.verdict.scores,
            other.verdict.intervals,
            other.verdict.copied,
        )


def test_an_interval_whose_worker_is_killed_is_trained_again(tmp_path: Path, undisturbed: list[TrialRow]) -> None:
    study, out = write_study(tmp_path, CONTENT), tmp_path / "out"
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        killed = 0
        for n in (8, 18):
            deadline = time.monotonic() + 900
            while process.poll() is None and time.monotonic() < deadline and killed < n // 8:
                time.sleep(0.02)
                if done_in(out) >= n and (worker := _at_work(process.pid)):
                    worker.kill()
                    killed += 1
        assert killed == 2
        assert process.wait(900) == 0
    rows = check_whole(out, "tiny", N_TRIALS, N_POINTS)
    assert outcome(rows) == outcome(undisturbed)


def _at_work(driver: int) -> psutil.Process | None:
    """A process that trains."""
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if process.name().startswith("ray::") and ".train" in process.name():
                return process
        except psutil.NoSuchProcess:
            continue
    return None
