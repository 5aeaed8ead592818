"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
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
