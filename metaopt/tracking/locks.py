"""One writer at a time, across processes. The lock of a killed process is free at once."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl


def try_lock(file: IO[bytes] | int) -> bool:
    """Take the lock of an open file without waiting; False if another holder has it.

    File systems without locks (some network mounts) answer True: there, one writer is the user's promise.
    """
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` (made if missing, left behind), waiting for it as long as it takes."""
    with path.open("ab") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
