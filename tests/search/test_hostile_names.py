"""Names and paths in a study that mean harm, or nothing at all: each is refused, and none becomes a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import invoke
from studies import tiny_study, write_study

from metaopt.errors import ConfigError
from metaopt.search.initialisation_study import load_any_study
from metaopt.search.problems import images
from metaopt.search.submitted import kept, package_of

NAMES = {
    "above": "../x",
    "absolute": "/etc/passwd",
    "slash": "a/b",
    "dots": "..",
    "hidden": ".hidden",
    "option": "-rf",
    "empty": "",
    "null": "a\0b",
    "newline": "a\nb",
    "last newline": "a\n",
    "escape": "a\x1b[31mb",
    "quote": "a'b",
    "double quote": 'a"b',
    "fragment": "a#b",
    "space": "a b",
    "letter": "é",
    "emoji": "😀",
    "long": "x" * 4096,
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder in which nothing appears."""
    folder = tmp_path / "a" / "b" / "here"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    study = write_study(tmp_path, {})
    yield tmp_path
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "b", folder, study]


def _read(folder: Path, **changes: Any) -> None:
    study = load_any_study(str(write_study(folder, tiny_study(**changes))))
    for task in study.tasks:
        images(task)


def _task(**changes: Any) -> list[dict[str, Any]]:
    return [{"data": "digits", "budget": 60} | changes]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_of_studies_and_tasks(here: Path, name: str) -> None:
    for changes in ({"name": name}, {"tasks": _task(name=name)}):
        with pytest.raises(ConfigError, match=r"study\.yaml:\d+: `(tasks\.0\.)?name`: string should match pattern"):
            _read(here, **changes)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_of_submitted_studies(here: Path, name: str) -> None:
    for look in (kept, package_of):
        with pytest.raises(ConfigError, match="The name of a study must match"):
            look(name)


@pytest.mark.parametrize("name", [name for name in NAMES.values() if name != ".."])
def test_files_that_are_none(here: Path, name: str) -> None:
    corruption = {"foreign": 0.1, "foreign_data": f"npz:{name}"}
    tasks = [_task(data=f"{kind}:{name}") for kind in ("npz", "npy", "folder")]
    tasks += [_task(data=name), _task(features=f"inception:{name}"), _task(corruption=corruption)]
    schedules = [{"reference": reference} for reference in (name, f"{name}.json")]
    for changes in [*({"tasks": task} for task in tasks), *schedules]:
        with pytest.raises(ConfigError):
            _read(here, **changes)
    with pytest.raises(ConfigError):
        load_any_study(name)


def test_a_path_that_is_too_long_for_any_command(tmp_path: Path) -> None:
    long = "x" * 4096
    for command in (
        ["search", "smoke", "--out", long],
        ["search", long],
        ["sync", "--study", long],
        ["report", "--study", long],
        ["train", "--task", "digits", "--out", long],
        ["submit", long, "--address", "http://127.0.0.1:9"],
    ):
        done = invoke(*command, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr) < 1000, "a message is no place for all of it"
