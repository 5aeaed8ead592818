"""What is said where this process dies at once: killed, out of memory, or ended by Ray, whose cluster has gone."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_WAIT_AND_SAY = 'read -r _ || printf "%s\\n" "$1" >&2'


@contextmanager
def last_word(text: str) -> Iterator[None]:
    """Have another process say `text` on stderr if this one does not live to the end of the block.

    The other one sees that by the end of its input, which the kernel closes however this one dies.
    """
    command = ["/bin/sh", "-c", _WAIT_AND_SAY, "sh", text]
    # a session of its own: what is typed at the terminal is for this process alone
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as other:
        try:
            yield
        finally:
            if other.stdin is not None:
                with suppress(OSError):  # it was killed itself
                    other.stdin.write(b"alive\n")
                    other.stdin.close()
