"""YAML as studies need it: numbers as YAML 1.2 reads them, keys once, and every value's line known."""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from metaopt.errors import ConfigError

MAX_BYTES = 1_000_000
_MAX_NODES = 100_000

_PLAIN_TAGS = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's core scalars: `1e-4` is a number, `no` is a string, `012` is 12."""


_Loader.yaml_implicit_resolvers = {}


_SCALARS = (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"null|Null|NULL|~|", ("n", "N", "~", "")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


@dataclass
class Document:
    """Plain data, and where each value stands."""

    content: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    """Path of keys and indices -> line, from 1."""


def parse(text: str, name: str) -> Document:
    """Parse YAML; ConfigError with `name` and the line for anything that is not plain, unambiguous data."""
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name}: a study must be at most {MAX_BYTES} characters, but it has {len(text)}.")
    loader = _Loader(text.removeprefix("\ufeff"))
    document = Document()
    try:
        node = loader.get_single_node()
        if node is not None:
            document.content = _plain(loader, node, (), document.lines, name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{name}:{line}: this is not YAML: {error.problem}.") from error
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: this is not YAML: {error}.") from error
    finally:
        loader.dispose()
    return document


def _plain(loader: _Loader, node: yaml.Node, path: Path, lines: dict[Path, int], name: str) -> Any:
    lines[path] = line = node.start_mark.line + 1
    if len(lines) > _MAX_NODES:
        raise ConfigError(f"{name}:{line}: a study must hold at most {_MAX_NODES} values.")
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
        raise ConfigError(f"{name}:{line}: a study must be plain data, but got the tag {node.tag!r}.")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*path, i), lines, name) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        content: dict[str, Any] = {}
        for key_node, value in node.value:
            key = loader.construct_object(key_node)
            at = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigError(f"{name}:{at}: keys must be strings, but got {key!r}.")
            if key in content:
                raise ConfigError(f"{name}:{at}: each key must be given once, but `{key}` is there twice.")
            content[key] = _plain(loader, value, (*path, key), lines, name)
            lines[(*path, key)] = at
        return content
    return loader.construct_object(node)
