"""Files that are written whole or not at all."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from metaopt.errors import StorageError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when the block has ended; folders are made.

    What was at `path` stays as it was if the block raises, or the process or the machine dies.

    Raises:
        StorageError: the disk is full or not writable.
    """
    # A name of its own for each writer; not mkstemp, whose files no other user of a shared folder may read
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):  # what stopped the writing may stop this too
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(f"{path} could not be written: {error.strerror or error}.") from error
        raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `content`, text as UTF-8, as `whole_file` does."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


_CHECK = "sha256"


def write_checked(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as JSON with the SHA-256 of what it says, as `whole_file` does."""
    write_whole(path, json.dumps(content | {_CHECK: _digest(content)}))


def read_checked(path: Path, *, or_unchecked: bool = False) -> dict[str, Any] | None:
    """What `write_checked` wrote; None if what is there is damaged.

    Args:
        path: of the file.
        or_unchecked: also what holds no checksum, as files of older versions do.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        check = content.pop(_CHECK, None)
        whole = or_unchecked if check is None else check == _digest(content)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, TypeError, AttributeError, RecursionError):  # any damage
        return None
    return content if whole else None


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
