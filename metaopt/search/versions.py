"""Versions that a driver and its workers must have in common, so that a training means the same on each."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import metaopt
from metaopt.errors import ConfigError

_PACKAGES = ("torch", "torchvision", "ray")


def versions() -> dict[str, str]:
    """Those of this process, without what says how they were built."""
    found = {"metaopt": metaopt.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            found[package] = "none"
    return found


def difference(here: Mapping[str, str], there: Mapping[str, str], who: str) -> str:
    """What `who` has in another version, for a message; empty if there is nothing."""
    apart = [name for name in here if there.get(name) != here[name]]
    if not apart:
        return ""
    has = ", ".join(f"{name} {there.get(name, 'none')}" for name in apart)
    return f"{who} has {has}, but the search has {', '.join(f'{name} {here[name]}' for name in apart)}"


def refuse_node(difference: str) -> None:
    """ConfigError for a node with another version."""
    raise ConfigError(
        f"The nodes must have the versions that the search has, but {difference}. Install those there and restart its "
        "Ray, or take the node away, and go on; `metaopt doctor --address` compares all nodes."
    )
