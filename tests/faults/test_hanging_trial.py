"""A training that hangs: it is ended, run once more, and then an error; the others go on."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
from search_checks import check_whole, n_ended, wait_until
from studies import tiny_study, write_study

from metaopt.search.optuna_space import TrialRow, read_rows

NETWORKS = """\
import os
import time

from my_networks import make_pair as sound


def make_pair(**shape):
    g, d = sound(**shape)
    d.register_forward_pre_hook(lambda *_: time.sleep(10_000) if os.path.exists("HANG") else None)
    return g, d
"""


def _ended(out: Path, status: str) -> list[TrialRow]:
    rows = read_rows(out, "tiny") if (out / "study.json").exists() else []
    return [row for row in rows if row.verdict and row.verdict.status == status]


def test_a_process_that_is_stopped_altogether_is_ended_too(tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    tasks = [{"data": "digits", "budget": 2000, "n_samples": 100, "width": 16}]
    search = {"trials": 6, "seed": 1, "sampler": "random", "workers": 1, "evaluation_limit_s": 25.0}
    study = write_study(tmp_path, tiny_study(tasks=tasks, search=search))
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out]
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        wait_until(process, log.read_text, lambda: n_ended(out) > 0 and bool(_training(process)))
        _training(process)[0].suspend()
        assert process.wait(600) == 0, log.read_text()
    rows = check_whole(out, "tiny", 6, n_points=21)
    assert {row.verdict.status for row in rows if row.verdict} == {"finished"}


def _training(search: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    below = psutil.Process(search.pid).children(recursive=True)
    return [process for process in below if process.name().startswith("ray::") and ".train" in process.name()]


def test_what_hangs_is_ended_and_the_search_goes_on(tmp_path: Path) -> None:
    out, hang = tmp_path / "out", tmp_path / "hang"
    (tmp_path / "hanging.py").write_text(NETWORKS.replace("HANG", str(hang)))
    tasks = [{"data": "digits", "budget": 60, "n_samples": 100, "network": "hanging:make_pair"}]
    search = {"trials": 40, "seed": 1, "sampler": "random", "workers": 1, "evaluation_limit_s": 25.0}
    study = write_study(tmp_path, tiny_study(tasks=tasks, search=search))
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1] / "gan")])
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out, "--allow-import"]
    environment = os.environ | {"PYTHONPATH": paths}
    log = tmp_path / "log"
    with log.open("w") as said, subprocess.Popen(command, env=environment, stdout=said, stderr=said) as process:
        for status, act in (("finished", hang.touch), ("error", hang.unlink)):
            while not _ended(out, status):
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            act()
        assert process.wait(600) == 0, log.read_text()
    (row,) = _ended(out, "error")
    assert row.verdict and row.verdict.reason == "no evaluation within 25 s, and its process was ended"
    check_whole(out, "tiny", 40, n_points=21, n_errors=1)
