"""Code that a study names by import path: a study is data, and runs none unless its user says so."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from metaopt.errors import ConfigError
from metaopt.search import yaml_file
from metaopt.user_code import is_import_path

_KEYS = ("network", "features")
"""Keys of a study under which an import path may stand."""
_FILE = "inception:"
"""Features with weights of one's own, which are a file and no code."""


def refuse_code(content: Any, where: Mapping[yaml_file.Path, str], name: str, typed: Sequence[str] = ()) -> None:
    """ConfigError if a study names code; nothing is imported.

    Args:
        content: what the study says.
        where: place of each value, for messages.
        name: place of the whole.
        typed: overrides; a path in one of them was typed by the user, and is no news to them.
    """
    labels = {f"--set {override}" for override in typed}
    for path, spec in _import_paths(content, ()):
        place = next((where[path[:n]] for n in range(len(path), -1, -1) if path[:n] in where), name)
        if place not in labels:
            key = ".".join(map(str, path))
            raise ConfigError(
                f"{place}: `{key}` names code, {spec!r}, which would be imported and run; where you trust it, add "
                "--allow-import."
            )


def _import_paths(content: Any, path: yaml_file.Path) -> Iterator[tuple[yaml_file.Path, str]]:
    if isinstance(content, dict):
        for key, value in content.items():
            if key in _KEYS and isinstance(value, str) and is_import_path(value) and not value.startswith(_FILE):
                yield (*path, key), value
            yield from _import_paths(value, (*path, key))
    elif isinstance(content, list):
        for i, value in enumerate(content):
            yield from _import_paths(value, (*path, i))
