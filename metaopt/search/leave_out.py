"""Leave one data set out: where sets are few, each in turn is what a study chooses its winner on."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from metaopt.errors import ConfigError
from metaopt.gan.datasets import same_files
from metaopt.search import yaml_file
from metaopt.search.study_spec import NAME
from metaopt.search.yaml_file import Document

_STRANGE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 64


def left_out(
    document: Document, data: str, where: Mapping[yaml_file.Path, str], name: str
) -> tuple[Document, dict[yaml_file.Path, str]]:
    """The study with its tasks on a data set as tasks of validation, named ``NAME-without-DATA``.

    Args:
        document: the study as written, overrides applied.
        data: as the tasks name it.
        where: place of each value; comes back for where values have gone.
        name: of the file, for messages.

    Raises:
        ConfigError: no task has that data set, no other has another one, one that stays has foreign images of it, or
            there is no `validation` to move it to.
    """
    content = document.content if isinstance(document.content, dict) else {}
    tasks, validation = content.get("tasks"), content.get("validation")
    own = validation.get("tasks") or [] if isinstance(validation, dict) else []
    if not isinstance(tasks, list) or not isinstance(own, list):
        return document, dict(where)  # refused for what it is
    moved = [i for i, task in enumerate(tasks) if _is_of(_data_of(task), data)]
    stays = [i for i in range(len(tasks)) if i not in moved]
    if not moved or not stays:
        known = ", ".join(dict.fromkeys(str(_data_of(task)) for task in tasks))
        rule = "one of several that the tasks have" if not moved else "left out where the tasks have another one, too"
        raise ConfigError(f"{name}: --leave-out must be {rule}, but got {data!r}. The tasks have: {known}.")
    if not isinstance(validation, dict):
        raise ConfigError(f"{name}: `validation` must be there for --leave-out, with its `seeds`, but it is missing.")
    for i in stays:
        corruption = tasks[i].get("corruption") if isinstance(tasks[i], dict) else None
        if isinstance(corruption, dict) and _is_of(corruption.get("foreign_data"), data):
            raise ConfigError(f"{name}: no task that stays may have `foreign_data` of {data!r}, which is left out.")
    changed = content | {
        **_named(content.get("name"), data),
        "tasks": [tasks[i] for i in stays],
        "validation": validation | {"tasks": [*own, *(tasks[i] for i in moved)]},
    }
    new: dict[int, yaml_file.Path] = {old: ("tasks", i) for i, old in enumerate(stays)}
    new |= {old: ("validation", "tasks", len(own) + i) for i, old in enumerate(moved)}
    return Document(content=changed, lines=document.lines), {_gone(path, new): there for path, there in where.items()}


def _named(name: Any, data: str) -> dict[str, Any]:
    """The name of the study without the data; a name that is none is left to be refused."""
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        return {}
    whole = f"{name}-without-{_STRANGE.sub('-', data)}"
    if len(whole) > _LONGEST_NAME:
        digest = hashlib.sha256(f"{name} {data}".encode()).hexdigest()[:8]
        whole = f"{whole[: _LONGEST_NAME - 9]}-{digest}"
    return {"name": whole}


def _data_of(task: Any) -> Any:
    return task.get("data") if isinstance(task, dict) else None


def _is_of(spec: Any, data: str) -> bool:
    return isinstance(spec, str) and same_files(spec) == same_files(data)


def _gone(path: yaml_file.Path, new: Mapping[int, yaml_file.Path]) -> yaml_file.Path:
    if len(path) > 1 and path[0] == "tasks" and isinstance(path[1], int):
        return (*new[path[1]], *path[2:])
    return path
