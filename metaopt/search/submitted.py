"""What this machine keeps of the studies that were submitted from it: the package, and where it went."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from metaopt.cache import default_cache_dir
from metaopt.errors import ConfigError
from metaopt.search.study_spec import NAME
from metaopt.whole_file import write_whole

_FILE = "job.json"


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A study that was submitted from here."""

    study: str
    address: str
    """Of the head's dashboard."""
    folder: str
    """Of the study, on the head."""
    command: str
    """As it was typed, to go on with it."""


def packages() -> Path:
    """Where packages are kept, by the names of their studies."""
    return default_cache_dir() / "jobs"


def keep(submitted: Submitted) -> None:
    """Write down a submission; StorageError if the disk is full."""
    write_whole(_folder(submitted.study) / _FILE, json.dumps(asdict(submitted), indent=2) + "\n")


def kept(study: str) -> Submitted | None:
    """The latest submission of a study from here; None if there was none. ConfigError for what is no name."""
    file = _folder(study) / _FILE
    try:
        return Submitted(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _folder(study: str) -> Path:
    if not re.fullmatch(NAME, study):
        raise ConfigError(f"The name of a study must match {NAME}, but got {study!r}.")
    return packages() / study
