"""Commands of metaopt as they are shown, ready to be typed."""

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from metaopt.search.study_spec import TaskSpec

AGAIN = "METAOPT_AGAIN"
"""The variable in which a job finds the command that goes on with it where it was submitted."""


def search_command(
    source: str, folder: Path, overrides: Sequence[str], leave_out: str | None, *, allow_import: bool
) -> str:
    """The command that goes on with a search, ready to be typed."""
    options = [*_without(leave_out), "--out", folder, "--resume", *_allowing(allow_import), *_sets(overrides)]
    return os.environ.get(AGAIN) or typed("search", source, *options)


def submit_command(
    source: str, address: str, folder: str, overrides: Sequence[str], leave_out: str | None, *, allow_import: bool
) -> str:
    """The same for a search on a cluster."""
    where = ["--address", address, "--out", folder]
    return typed("submit", source, *_without(leave_out), *where, *_allowing(allow_import), *_sets(overrides))


def _allowing(allow_import: bool) -> list[str]:
    return ["--allow-import"] if allow_import else []


def _without(data: str | None) -> list[str]:
    return [] if data is None else ["--leave-out", data]


def _sets(overrides: Sequence[str]) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def with_twice_the_trials(again: str, n_trials: int) -> str:
    """The command that goes on with a search, `again`, for as many trials once more."""
    command = re.sub(r" --set search\.trials=\S+", "", again)
    return f"{command} --set search.trials={2 * n_trials}"


def train_command(task: TaskSpec, schedule: Path) -> str:
    """The command that trains a task just as its study does, with `schedule`, ready to be typed."""
    settings = task.model_dump(exclude={"data", "name"}, exclude_none=True)
    corruption = settings.pop("corruption", {}).items()
    settings |= {f"corruption.{key}": value for key, value in corruption}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    return typed("train", "--task", task.data, *sets, "--schedule", schedule, "--seed", 3, "--out", "runs/train")


def typed(*arguments: object) -> str:
    """A command of metaopt, ready to be typed."""
    return shlex.join([_program(), *map(str, arguments)])


def _program() -> str:
    """What to type for metaopt: its name where that is found, else the path by which it was called."""
    called = Path(sys.argv[0])
    found = shutil.which("metaopt")
    if (found is not None and Path(found).samefile(called)) or called.suffix == ".py":
        return "metaopt"
    here = Path.cwd()
    return str(called.relative_to(here)) if called.is_relative_to(here) else str(called)
