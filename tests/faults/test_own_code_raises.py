"""One's own network raises: that trial is an error with its own traceback, and the others go on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search_checks import check_whole, n_ended, wait_until
from sqlalchemy import create_engine, text
from studies import metaopt, tiny_study, write_study

from metaopt.search.optuna_space import read_rows

NETWORKS = """\
import os
from my_networks import make_pair as sound


def fail(*_):
    if os.path.exists("BROKEN"):
        raise KeyError("who has taken my key?")


def make_pair(**shape):
    g, d = sound(**shape)
    d.register_forward_pre_hook(fail)
    return g, d
"""
FEWER = NETWORKS.replace(
    '    if os.path.exists("BROKEN"):\n',
    """    if os.path.exists("LEFT") and (left := open("LEFT").read()):
        with open("LEFT", "w") as file:
            file.write(left[1:])
""",
)
"""Fails once for each character in a file."""
N_TRIALS = 12


@contextmanager
def _searching(folder: Path, code: str, **search: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A search with networks of that code, into out and log in `folder`."""
    (folder / "failing.py").write_text(code)
    tasks = [{"data": "digits", "budget": 60, "n_samples": 100, "network": "failing:make_pair"}]
    search_spec = {"trials": N_TRIALS, "seed": 1, "sampler": "random", "workers": 1} | search
    study = write_study(folder, tiny_study(tasks=tasks, search=search_spec))
    paths = os.pathsep.join([str(folder), str(Path(__file__).parents[1] / "gan")])
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", folder / "out", "--allow-import"]
    environment = os.environ | {"PYTHONPATH": paths}
    with (
        (folder / "log").open("w") as said,
        subprocess.Popen(command, env=environment, stdout=said, stderr=said) as process,
    ):
        yield process


def test_the_traceback_of_ones_own_code_is_what_is_said(tmp_path: Path) -> None:
    out, broken, log = tmp_path / "out", tmp_path / "broken", tmp_path / "log"
    with _searching(tmp_path, NETWORKS.replace("BROKEN", str(broken))) as process:
        wait_until(process, log.read_text, lambda: n_ended(out, status="finished") > 0)
        broken.touch()
        wait_until(process, log.read_text, lambda: n_ended(out, status="error") > 0)
        broken.unlink()
        assert process.wait(600) == 0, log.read_text()
    errors = [row for row in read_rows(out, "tiny") if row.verdict and row.verdict.status == "error"]
    check_whole(out, "tiny", N_TRIALS, n_points=21, n_errors=len(errors))
    shown = log.read_text()
    assert shown.count(f'File "{tmp_path / "failing.py"}", line 7, in fail') == 1, "the first error in full"
    lines = [line for line in shown.splitlines() if line.startswith("trial ") and "KeyError: 'who has taken" in line]
    assert len(lines) == len(errors), "and each in a line"
    with create_engine(f"sqlite:///{out / 'mlflow.db'}").connect() as store:
        reasons = store.execute(text("select value from tags where key = 'metaopt.reason' and value != ''")).scalars()
        told = [reason for reason in reasons if "KeyError" in reason]
    assert len(told) == len(errors) > 0
    for reason in [*told, *(row.verdict.reason for row in errors if row.verdict)]:
        assert f'File "{tmp_path / "failing.py"}", line 7, in fail' in reason
        assert reason.rstrip().endswith("KeyError: 'who has taken my key?'")


def test_what_raises_twice_and_then_works_is_no_error_where_it_may_be_retried(tmp_path: Path) -> None:
    out, left, log = tmp_path / "out", tmp_path / "left", tmp_path / "log"
    with _searching(tmp_path, FEWER.replace("LEFT", str(left)), retries=2) as process:
        wait_until(process, log.read_text, lambda: n_ended(out, status="finished") > 0)
        left.write_text("xx")
        assert process.wait(600) == 0, log.read_text()
    assert left.read_text() == "", "it was over before anything failed"
    assert log.read_text().count("is run again: KeyError: 'who has taken my key?'") == 2
    rows = check_whole(out, "tiny", N_TRIALS, n_points=21)
    assert {row.verdict.status for row in rows if row.verdict} == {"finished"}


def test_a_reference_that_raises_ends_the_search_with_it(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    (tmp_path / "failing.py").write_text(NETWORKS.replace("BROKEN", str(tmp_path / "broken")))
    tasks = [{"data": "digits", "budget": 60, "n_samples": 100, "network": "failing:make_pair"}]
    study = write_study(tmp_path, tiny_study(tasks=tasks))
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1] / "gan")])
    environment = os.environ | {"PYTHONPATH": paths}
    done = metaopt("search", study, "--out", tmp_path / "out", "--allow-import", env=environment)
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert "KeyError: 'who has taken my key?'" in done.stderr
