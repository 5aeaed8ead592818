"""Events on disk until they are delivered: one JSON line each, appended, never changed.

The file begins with a line that names its format and the study (a random uid, made once). A small file
beside it, ``<name>.ack``, holds the byte offset up to which all is delivered. Both survive ``kill -9``: a torn
last line is removed at the next opening, and a lost ``.ack`` only means that events are sent again.
"""

import json
import logging
import os
import sys
import threading
import time
import uuid
from pathlib import Path

from metaopt.errors import ArtifactError, StorageError
from metaopt.tracking.events import Event, decode, encode
from metaopt.tracking.locks import try_lock

FORMAT = "metaopt.spool/1"
SYNC_PERIOD_S = 1.0
"""A crash of the machine (not of the process) may cost the events of this time."""
_BATCH = 1 << 20
_BLOCK = 1 << 16

log = logging.getLogger(__name__)


class Spool:
    """The spool of one study; one process at a time may hold it open. Thread-safe.

    Raises:
        ArtifactError: the file is not a spool.
        StorageError: the file cannot be opened or written, or another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ack_path = path.with_name(path.name + ".ack")
        self._lock = threading.Lock()
        self._n_left = 0
        self._dirty = False
        self._synced_at = time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise StorageError(f"the spool {path} must be writable, but got: {error}") from error
        try:
            self._open()
        except BaseException:
            os.close(self._fd)
            raise

    def _open(self) -> None:
        if not try_lock(self._fd):
            raise StorageError(f"one process at a time may write {self.path}, but another one holds it")
        try:
            self._cut_torn_line()
            if os.fstat(self._fd).st_size == 0:
                header = {"format": FORMAT, "uid": uuid.uuid4().hex}
                self._write(json.dumps(header).encode() + b"\n")
        except OSError as error:
            raise StorageError(f"the spool {self.path} must be writable, but got: {error}") from error
        self.uid, self.start = self._read_header()
        self.acknowledged = self._read_acknowledged()

    def append(self, event: Event) -> None:
        """Hand the event to the kernel: from here on it survives the death of the process.

        Raises:
            OSError: the disk is full or broken, or the spool closed; the file is as it was before.
            TypeError, ValueError: a field of the event has a wrong type.
        """
        line = encode(event)
        with self._lock:
            self._write(line)
            self._dirty = True

    def sync(self) -> None:
        """Bring appended events to the disk itself, at most once in `SYNC_PERIOD_S`.

        Raises:
            OSError: the disk is full or broken.
        """
        now = time.monotonic()
        if self._dirty and now - self._synced_at >= SYNC_PERIOD_S:
            self._dirty = False
            self._synced_at = now
            os.fsync(self._fd)

    def read(self, offset: int, stop: int | None = None) -> tuple[list[Event], int]:
        """About 1 MB of events from ``offset`` on, none at or beyond ``stop``, and the offset after them.

        A line that is not an event is reported by a warning and skipped. At the end, ``offset`` comes back.
        """
        room = sys.maxsize if stop is None else stop - offset
        n_bytes = min(_BATCH, room)
        chunk = os.pread(self._fd, n_bytes, offset)
        while b"\n" not in chunk and len(chunk) == n_bytes < room:
            n_bytes = min(2 * n_bytes, room)
            chunk = os.pread(self._fd, n_bytes, offset)
        complete = chunk[: chunk.rfind(b"\n") + 1]
        events = []
        for line in complete.splitlines():
            try:
                events.append(decode(line))
            except ValueError as error:
                log.warning("skipped a line of %s: %s", self.path, error)
        return events, offset + len(complete)

    def acknowledge(self, offset: int) -> None:
        """Note that everything before ``offset`` is delivered.

        Raises:
            OSError: the note could not be written; the old one stays, and events may be sent again.
        """
        self.acknowledged = offset
        fresh = self._ack_path.with_name(self._ack_path.name + ".tmp")
        fresh.write_text(json.dumps({"uid": self.uid, "offset": offset}) + "\n", encoding="utf-8")
        fresh.replace(self._ack_path)

    def n_pending(self) -> int:
        """Number of events that are not acknowledged; after `close`, as it was then."""
        with self._lock:
            return self._count_pending() if self._fd >= 0 else self._n_left

    def close(self) -> None:
        """Bring everything to the disk and give the file free; a second time does nothing.

        Raises:
            OSError: the disk is full or broken; the file is free nevertheless.
        """
        with self._lock:
            if self._fd < 0:
                return
            self._n_left = self._count_pending()
            fd, self._fd = self._fd, -1
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def _count_pending(self) -> int:
        count, offset = 0, self.acknowledged
        while chunk := os.pread(self._fd, _BATCH, offset):
            count += chunk.count(b"\n")
            offset += len(chunk)
        return count

    def _write(self, line: bytes) -> None:
        size = os.fstat(self._fd).st_size
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except BaseException:
            # a full disk takes part of a line; the half would swallow the line after it
            os.ftruncate(self._fd, size)
            raise

    def _cut_torn_line(self) -> None:
        size = end = os.fstat(self._fd).st_size
        while end > 0:
            begin = max(0, end - _BLOCK)
            found = os.pread(self._fd, end - begin, begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        if end < size:
            log.warning("cut %d bytes of an unfinished last line off %s", size - end, self.path)
            os.ftruncate(self._fd, end)

    def _read_header(self) -> tuple[str, int]:
        line = os.pread(self._fd, 4096, 0).split(b"\n", 1)[0]
        try:
            header = json.loads(line)
            found, uid = header["format"], header["uid"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{self.path} must begin with a {FORMAT} header, but got {line[:80]!r}") from error
        if found != FORMAT or not isinstance(uid, str):
            raise ArtifactError(f"{self.path}: `format == {FORMAT!r}` must hold, but got {found!r}")
        return uid, len(line) + 1

    def _read_acknowledged(self) -> int:
        try:
            note = json.loads(self._ack_path.read_text(encoding="utf-8"))
            offset = int(note["offset"]) if note["uid"] == self.uid else self.start
        except (OSError, ValueError, KeyError, TypeError):
            return self.start
        at_line_start = offset >= self.start and os.pread(self._fd, 1, offset - 1) == b"\n"
        return offset if at_line_start else self.start
