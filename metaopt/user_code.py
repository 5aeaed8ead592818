"""One's own networks and features by import path: finding them, and telling one version of them from another."""

import importlib
import inspect
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from metaopt.errors import ConfigError


def is_import_path(spec: str) -> bool:
    """Whether `spec` is ``package.module:name`` rather than a name."""
    return ":" in spec


def imported(spec: str, *, what: str) -> Any:
    """The object at ``package.module:name``; ConfigError where the path leads nowhere.

    Args:
        spec: the import path.
        what: what it stands for, for messages.
    """
    module, _, name = spec.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{what} {spec!r} must be importable, but there is no module {error.name!r}; put its folder on PYTHONPATH."
        ) from error
    except Exception as error:  # the user's own code may raise anything
        raise ConfigError(f"{what} {spec!r} must be importable, but: {type(error).__name__}: {error}.") from error
    if not hasattr(found, name):
        raise ConfigError(f"{what} {spec!r} must be there, but module {module!r} has no {name!r}.")
    return getattr(found, name)


@lru_cache(maxsize=64)
def source_version(spec: str, *, what: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the source: a changed file is another object.

    All ``.py`` files of the package count, or the one file of a module that is in no package, as they are when this
    process first asks.
    """
    module = imported_module(spec, what=what)
    file = inspect.getsourcefile(module)
    if file is None:
        return ""
    package = module.__name__.partition(".")[0]
    top = importlib.import_module(package)
    folders = list(getattr(top, "__path__", []))
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.py")) or [Path(file)]
    digest = sha256(spec.encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def imported_module(spec: str, *, what: str) -> Any:
    """The module of an import path, after the object in it was found."""
    imported(spec, what=what)
    return importlib.import_module(spec.partition(":")[0])
