"""The journal file of a search, written by its driver alone."""

import errno
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

_TO_DISK = frozenset({0, 6})
"""Optuna's codes of operations that must outlive a crash of the machine: a study is made, a trial's state changes."""


class DriverJournal(BaseJournalBackend):
    """A file in the format of Optuna's `JournalFileBackend`, for the one process that may write it.

    Optuna's own locks the file, opens it and brings it to the disk for every attribute of every trial, and keeps the
    place of every line. Here a line is one write, which survives a kill of the process, and the disk has it once the
    state of its trial has changed. As lines are only added, a crash of the machine can cost some of trials that were
    running, which are drawn again as they were.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file; its last line must be whole."""
        self._path = path.absolute()
        self._file = path.open("ab+", buffering=0)  # closes itself: Optuna never closes a backend
        self._fd = self._file.fileno()
        self._n_read, self._offset = 0, 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The operations from that number on, which must be the first one that was not read yet.

        Raises:
            ValueError: it is another one, or a line is no JSON.
        """
        if log_number_from != self._n_read:
            raise ValueError(f"the next operation to read must be {self._n_read}, but got {log_number_from}")
        for line in io.BytesIO(os.pread(self._fd, os.fstat(self._fd).st_size - self._offset, self._offset)):
            if not line.endswith(b"\n"):
                return
            self._n_read, self._offset = self._n_read + 1, self._offset + len(line)
            yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add operations.

        Raises:
            OSError: the path no longer leads to the file, or the disk is full or broken; the file is as it was before.
        """
        if not self._is_there():
            raise OSError(errno.ESTALE, f"{self._path.name} was moved away or replaced: put it back", str(self._path))
        rest = memoryview("".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode())
        size = os.fstat(self._fd).st_size
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except BaseException:
            os.ftruncate(self._fd, size)  # half a line would swallow the one after it
            raise
        if any(log["op_code"] in _TO_DISK for log in logs):
            os.fsync(self._fd)

    def _is_there(self) -> bool:
        """Whether the path still leads to the file: what is written through an open one goes with a moved folder."""
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._fd))
        except FileNotFoundError:
            return False
