"""The command line in this process: what `studies.metaopt` does, without the seconds that a process takes to start."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from populations import train_all

from metaopt.cli import main
from metaopt.search.session import Session


def invoke(*arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """Run the command line here; `env` is added to the environment, which is afterwards as it was."""
    command, out, err = [main.__file__, *map(str, arguments)], StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, unchanged_environment():
        patch.setattr(sys, "argv", command)
        patch.chdir(cwd or Path.cwd())
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
            main.run()
    code = end.value.code
    return CompletedProcess(
        command, code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue()
    )


@contextmanager
def unchanged_environment() -> Iterator[None]:
    """What a command sets, as for MLflow, must not reach the tests after it."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def search_without_ray(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> CompletedProcess[str]:
    """`metaopt search` here, whose jobs are worked on one after the other: for tests of what comes before and after."""

    def run_here(session: Session, observe: Callable[[Session], None]) -> None:
        train_all(session, most=sys.maxsize)
        observe(session)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metaopt.search.ray_runner.run_on_ray", run_here)
        return invoke("search", *arguments, cwd=cwd, env=env)
