"""Searches that are asked to end: in order the first time, at once the second, and both can be taken up again."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from search_checks import check_whole, n_ended, wait_until, wait_until_all_have_ended
from studies import metaopt, tiny_study, write_study

from metaopt.search.optuna_space import read_rows

NETWORKS = """\
import os
import time

import ray
from my_networks import make_pair as sound


def hang(*_):
    in_a_worker = ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE
    if in_a_worker and os.path.exists("HANG"):
        time.sleep(10_000)


def make_pair(**shape):
    g, d = sound(**shape)
    d.register_forward_pre_hook(hang)
    return g, d
"""
N_TRIALS = 12


def test_a_search_that_is_asked_to_end_goes_on_and_has_no_second_driver(tmp_path: Path) -> None:
    out, hang = tmp_path / "out", tmp_path / "hang"
    (tmp_path / "hanging.py").write_text(NETWORKS.replace("HANG", str(hang)))
    tasks = [{"data": "digits", "budget": 60, "n_samples": 100, "network": "hanging:make_pair"}]
    study = write_study(tmp_path, tiny_study(tasks=tasks, search={"trials": N_TRIALS, "seed": 1, "sampler": "random"}))
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1] / "gan")])
    environment = os.environ | {"PYTHONPATH": paths, "METAOPT_ASKED": str(out)}
    search = ("search", study, "--out", out, "--resume", "--allow-import")
    before, took_s = {}, []
    for kind, times in ((signal.SIGTERM, 1), (signal.SIGINT, 2)):
        known, told, said = len(before), tmp_path / "told", tmp_path / "said"
        with (
            told.open("w") as stdout,
            said.open("w") as stderr,
            subprocess.Popen(
                [sys.executable, "-m", "metaopt.cli.main", *search], env=environment, stdout=stdout, stderr=stderr
            ) as driver,
        ):
            wait_until(driver, said.read_text, lambda known=known: n_ended(out) > known)
            hang.touch()  # in the middle of trials that would come to no end
            if times == 1:
                for command in (search, ("sync", "--study", out)):
                    second = metaopt(*command, env=environment)
                    assert second.returncode == 2
                    assert "Another search is running in" in second.stderr
            began = time.monotonic()
            for _ in range(times):
                driver.send_signal(kind)
                time.sleep(0.1)
            assert driver.wait(300) == 130, said.read_text()
            took_s.append(time.monotonic() - began)
        hang.unlink()
        assert "Stopped. Finished trials are kept. Go on with:" in said.read_text()
        assert "Traceback" not in told.read_text() + said.read_text()
        wait_until_all_have_ended(f"METAOPT_ASKED={out}")
        after = {row.number: row.verdict for row in read_rows(out, "tiny") if row.verdict}
        assert before.items() <= after.items()
        before = after
        if times == 1:
            with sqlite3.connect(out / "mlflow.db") as store:
                (parent,) = store.execute("select status from runs where name = 'tiny'").fetchall()
            assert parent == ("KILLED",)
    assert took_s[1] < took_s[0], "the second signal must not wait for what the first one waits for"
    assert 2 <= len(before) < N_TRIALS
    done = metaopt(*search, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    after = {row.number: row.verdict for row in check_whole(out, "tiny", N_TRIALS, n_points=21)}
    assert before.items() <= after.items()
