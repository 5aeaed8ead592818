"""Where metaopt keeps what it can compute or fetch again."""

import os
from pathlib import Path


def default_cache_dir() -> Path:
    """``$METAOPT_CACHE``, or ``$XDG_CACHE_HOME/metaopt``, or ``~/.cache/metaopt``; empty counts as unset."""
    if own := os.environ.get("METAOPT_CACHE"):
        return Path(own).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "metaopt"
    return Path.home() / ".cache" / "metaopt"


def default_data_dir() -> Path:
    """``$METAOPT_DATA``, or ``data`` in the cache: where fetched data sets lie; empty counts as unset."""
    if own := os.environ.get("METAOPT_DATA"):
        return Path(own).expanduser()
    return default_cache_dir() / "data"
