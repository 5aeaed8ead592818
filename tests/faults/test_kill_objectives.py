"""The driver of a search for several objectives is killed; the front is that of one that was left alone."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
from populations import session_of
from search_checks import check_whole
from sessions import work_all
from studies import metaopt, tiny_study, write_study

from metaopt.search.export import front_of

N_TRIALS = 16


def test_killed_search_ends_with_the_same_front(tmp_path: Path) -> None:
    task = {"data": "digits", "budget": 60, "n_samples": 100, "width": 16}
    search = {"trials": N_TRIALS, "seed": 1, "sampler": "random", "objectives": ["quality", "compute"]}
    content = tiny_study(tasks=[task], evaluations=4, search=search)
    study, out = write_study(tmp_path, content), tmp_path / "out"
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + 600
        while driver.poll() is None and time.monotonic() < deadline and len([*out.glob("trials/*/schedule.json")]) < 4:
            time.sleep(0.02)
        assert driver.poll() is None, "the search was over before it could be killed"
        for process in [*psutil.Process(driver.pid).children(recursive=True), psutil.Process(driver.pid)]:
            process.kill()
    done = metaopt("search", study, "--out", out, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = check_whole(out, "tiny", N_TRIALS, n_points=41)
    left_alone = tmp_path / "alone"
    left_alone.mkdir()
    alone = work_all(session_of(left_alone, content))
    objectives = [row.verdict and row.verdict.objectives for row in rows]
    assert objectives == [row.verdict and row.verdict.objectives for row in alone]
    assert [row.number for row in front_of(rows)] == [row.number for row in front_of(alone)] != []
