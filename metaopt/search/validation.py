"""Plain data into a pydantic model: overrides, and one clear message with its place for what is wrong."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from metaopt.errors import ConfigError
from metaopt.search import yaml_file
from metaopt.search.yaml_file import Document

Model = TypeVar("Model", bound=BaseModel)


def apply(document: Document, override: str, where: dict[yaml_file.Path, str]) -> None:
    """Set one value, as in ``search.trials=20``; `where` learns that it comes from there."""
    label = f"--set {override}"
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{label}: an override must be KEY=VALUE, as in search.trials=20.")
    path: yaml_file.Path = tuple(int(part) if part.isdigit() else part for part in key.strip().split("."))
    target = document.content
    for part in path[:-1]:
        if isinstance(target, dict) and isinstance(part, str):
            target = target.setdefault(part, {})
        elif isinstance(target, list) and isinstance(part, int) and part < len(target):
            target = target[part]
        else:
            raise ConfigError(f"{label}: there is no `{part}` there.")
    last = path[-1]
    if not (isinstance(target, dict) and isinstance(last, str)) and not (
        isinstance(target, list) and isinstance(last, int) and last < len(target)
    ):
        raise ConfigError(f"{label}: there is no `{last}` there.")
    target[last] = yaml_file.parse(value, label).content  # type: ignore[index]
    for below in [other for other in where if other[: len(path)] == path]:  # places of what was there before
        del where[below]
    where[path] = label


_BRANCHES = ("float", "RangeSpec", "constrained-int", "literal['auto']", "ResourcesSpec")
"""What pydantic puts into a location to name the branch of a union; no key of the file."""

_TELLING = ("extra_forbidden", "missing")
"""Problems that explain others: a misspelt key is also a missing one."""


def validated(model: type[Model], document: Document, where: Mapping[yaml_file.Path, str], name: str) -> Model:
    """The model; ConfigError with the place, the key, the rule and the value for the most telling problem.

    Args:
        model: what the data must fit.
        document: the data.
        where: place of each value, for messages.
        name: place of the whole.
    """
    if not isinstance(document.content, dict):
        raise ConfigError(f"{name}: must be a mapping of keys, but got {type(document.content).__name__}.")
    try:
        return model.model_validate(document.content)
    except ValidationError as error:
        ranked = sorted(error.errors(), key=_rank)
        path = tuple(part for part in ranked[0]["loc"] if part not in _BRANCHES)
        key = ".".join(str(part) for part in path)
        raise ConfigError(f"{place(where, path, name)}: {_message(model, key, path, ranked[0])}") from error


def _rank(problem: Any) -> tuple[int, int]:
    """The most telling problem first, then the one deepest inside."""
    kind = _TELLING.index(problem["type"]) if problem["type"] in _TELLING else len(_TELLING)
    return kind, -len(problem["loc"])


def place(where: Mapping[yaml_file.Path, str], path: yaml_file.Path, name: str) -> str:
    """Where the value at `path` stands, or the nearest thing around it."""
    while path and path not in where:
        path = path[:-1]
    return where.get(path, name)


def _message(model: type[BaseModel], key: str, path: yaml_file.Path, problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, path[:-1])
        near = get_close_matches(str(path[-1]), known, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else "."
        return f"unknown key `{key}`{hint} Known: {', '.join(known)}."
    if problem["type"] == "missing":
        return f"`{key}` must be there, but it is missing."
    if problem["type"] == "password":
        return f"`{key}`: {problem['msg']}."
    rule = problem["msg"][0].lower() + problem["msg"][1:]
    return f"`{key}`: {rule}, but got {problem['input']!r}."


def _known_keys(model: type[BaseModel], path: yaml_file.Path) -> list[str]:
    for part in path:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        model = next(_models(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)
