"""What is said where a process dies at once, and that it is not said where it does not."""

import os
import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys
from metaopt.cli.last_word import last_word
with last_word("it's 100% over: $HOME \\\\n"):
    {act}
"""


@pytest.mark.parametrize(
    ("act", "code", "said"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("os._exit(1)", 1, "it's 100% over: $HOME \\n\n"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "it's 100% over: $HOME \\n\n"),
    ],
)
def test_it_is_said_by_the_dead_alone(act: str, code: int, said: str) -> None:
    script = SCRIPT.format(act=act)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (code, said)


def test_it_outlives_what_is_typed_at_the_terminal() -> None:
    script = SCRIPT.format(act="print('in', flush=True); sys.stdin.read()")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], text=True, start_new_session=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "in\n"
        os.killpg(process.pid, signal.SIGKILL)
        _, said = process.communicate(timeout=600)
    assert said == "it's 100% over: $HOME \\n\n"
