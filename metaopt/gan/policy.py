"""Augmentations as users write them: names with commas between, such as ``flip,crop``."""

from collections.abc import Iterable

from metaopt.errors import ConfigError
from metaopt.gan.choice import unknown


def policy_names(spec: str, known: Iterable[str], *, what: str) -> tuple[str, ...]:
    """``"flip,crop"`` -> ``("flip", "crop")``, ``""`` -> ``()``; ConfigError for a name that is unknown or comes twice.

    Args:
        spec: names with commas between; spaces around them do not count.
        known: names that there are.
        what: what a name stands for, for messages.
    """
    if not isinstance(spec, str):
        raise ConfigError(f"{what}s must be a string such as {','.join(known)!r}, but got {spec!r}.")
    if not spec.strip():
        return ()
    names = tuple(name.strip() for name in spec.split(","))
    for name in names:
        if name not in known:
            raise ConfigError(unknown(what, name, known))
    if len(set(names)) < len(names):
        raise ConfigError(f"each {what} must come once, but got {spec!r}.")
    return names
