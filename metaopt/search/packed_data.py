"""Data that came with a job, found at one path on every node.

Ray puts a job's files elsewhere on each node and in each session, and a study knows its data by their path. Light, as
every process of a job imports it first; as ``python -m metaopt.search.packed_data`` it is the driver's first command.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from metaopt.errors import StorageError

DATA = "data"
_PLACES = Path("/tmp")
_DIGEST = 16


def place_of(name: str) -> Path:
    """Where the packed data of that name, ``DIGEST-...``, are found on every node."""
    return _PLACES / f"metaopt-{name}"


def digest_of(files: Mapping[str, Path]) -> str:
    """Of the content of files and their names within a folder; of one file, whose name is empty, of its content."""
    digest = hashlib.sha256()
    for name, file in files.items():
        digest.update(f"{name}\n{file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            while part := content.read(2**20):
                digest.update(part)
    return digest.hexdigest()[:_DIGEST]


def link_data() -> None:
    """Make packed data be found at their place; the working folder is the job's.

    Raises:
        StorageError: something else is at such a place.
    """
    data = Path.cwd() / DATA
    for item in sorted(data.iterdir()) if data.is_dir() else ():
        place = place_of(item.name)
        fresh = place.with_name(f".{place.name}.{uuid4().hex}")
        try:
            fresh.symlink_to(item)
            fresh.replace(place)  # whole at any moment, as other processes do the same
        except OSError as error:
            fresh.unlink(missing_ok=True)
            if not _holds(place, item.name):  # another user's job may have brought the same
                raise StorageError(f"{place} must be free for data of this job, but it is not: {error}.") from error


def _holds(place: Path, name: str) -> bool:
    try:
        names = [str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()]
        names.sort(key=lambda name: name.replace(os.sep, "\0"))  # as `image_files` has them
        files = {name: place / name for name in names} if place.is_dir() else {"": place}
        return digest_of(files) == name[:_DIGEST]
    except OSError:
        return False


if __name__ == "__main__":
    link_data()
