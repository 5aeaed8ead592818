"""Searches that are asked to end: in order the first time, at once the second, and both can be taken up again."""

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from search_checks import check_whole, n_ended, wait_until
from studies import metaopt, tiny_study, write_study

from metaopt.search.optuna_space import read_rows

N_TRIALS = 8


def test_a_search_that_is_asked_to_end_goes_on_and_has_no_second_driver(tmp_path: Path) -> None:
    tasks = [{"data": "digits", "budget": 2500, "n_samples": 100, "width": 16}]
    search = {"trials": N_TRIALS, "seed": 1, "sampler": "random", "workers": 1}
    study, out, log = write_study(tmp_path, tiny_study(tasks=tasks, search=search)), tmp_path / "out", tmp_path / "log"
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out, "--resume"]
    before = {}
    for kind, times in ((signal.SIGTERM, 1), (signal.SIGINT, 2)):
        known = len(before)
        with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as driver:
            wait_until(driver, log.read_text, lambda known=known: n_ended(out) > known)
            if times == 1:
                for second in (metaopt("search", study, "--out", out, "--resume"), metaopt("sync", "--study", out)):
                    assert second.returncode == 2
                    assert "Another search is running in" in second.stderr
                assert driver.poll() is None, "the search was over before the second driver was"
            for _ in range(times):
                driver.send_signal(kind)
                time.sleep(0.1)
            assert driver.wait(300) == 130, log.read_text()
        assert "Stopped. Finished trials are kept. Go on with:" in log.read_text()
        assert "Traceback" not in log.read_text()
        after = {row.number: row.verdict for row in read_rows(out, "tiny") if row.verdict}
        assert before.items() <= after.items()
        before = after
        if times == 1:
            with sqlite3.connect(out / "mlflow.db") as store:
                (parent,) = store.execute("select status from runs where name = 'tiny'").fetchall()
            assert parent == ("KILLED",)
    assert 2 <= len(before) < N_TRIALS
    done = metaopt("search", study, "--out", out, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    after = {row.number: row.verdict for row in check_whole(out, "tiny", N_TRIALS, n_points=21)}
    assert before.items() <= after.items()
