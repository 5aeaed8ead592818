"""What this machine keeps of the studies that were submitted from it: the package, and where it went."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from metaopt.cache import default_cache_dir
from metaopt.errors import ConfigError, StorageError
from metaopt.search.study_spec import NAME
from metaopt.tracking.locks import locked
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
    source: str
    """The study, as it was typed."""
    overrides: tuple[str, ...]
    leave_out: str | None
    allow_import: bool = False
    """Whether the study might name code."""


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """A folder for a package that does not exist yet, for this user alone; gone with the block unless it was kept."""
    root = default_cache_dir() / "jobs"
    try:
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)
    except OSError as error:
        raise StorageError(f"{root} could not be written: {error.strerror}.") from error
    folder = root / f".{uuid4().hex}"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def package_of(study: str) -> Path:
    """The package of a study that was submitted from here; there may be none."""
    return _folder(study) / "package"


def keep(submitted: Submitted, package: Path) -> None:
    """Write down a submission that was accepted, with its package; StorageError if the disk is full."""
    kept = package_of(submitted.study)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with locked(kept.parent / "lock"):
        if package != kept:
            shutil.rmtree(kept, ignore_errors=True)
            package.rename(kept)
        write_whole(kept.parent / _FILE, json.dumps(asdict(submitted), indent=2) + "\n")


def kept(study: str) -> Submitted | None:
    """The latest submission of a study from here; None if there was none. ConfigError for what is no name."""
    file = _folder(study) / _FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Submitted(**content | {"overrides": tuple(content["overrides"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _folder(study: str) -> Path:
    if not re.fullmatch(NAME, study):
        raise ConfigError(f"The name of a study must match {NAME}, but got {study!r}.")
    return default_cache_dir() / "jobs" / study
