"""What ended a training, in words: of the pages that Ray and torch have for it, the line that matters."""

import re

_MEMORY = re.compile(
    r"OutOfMemoryError|\bMemoryError|out of memory|can't allocate memory|bad_alloc|running low on memory"
)
_NODE = re.compile(r"because its node has died|NodeDiedError|actor's node was terminated")
_SILENT = re.compile(r"The actor \w+ is unavailable")
_KILLED = "its process was killed, as the kernel does where memory runs out"


def ran_out_of_memory(error: str) -> bool:
    """Whether an error is that of memory that ran out: of this machine or its GPU, by torch, Python or Ray."""
    return _MEMORY.search(error) is not None


def lost_its_node(error: str) -> bool:
    """Whether a worker is gone because its node is, which says nothing of what it was doing."""
    return _NODE.search(error) is not None


def is_silent(error: str) -> bool:
    """Whether a worker does not answer, and Ray does not know why: its node has lost its power, or answers late."""
    return _SILENT.search(error) is not None


def explained(error: str) -> str:
    """The error, or one line for it where memory ran out or the process was killed."""
    if ran_out_of_memory(error):
        lines = [line.strip() for line in error.splitlines() if _MEMORY.search(line)]
        return f"out of memory: {lines[0][:300]}"
    return _KILLED if "SIGKILL by OOM killer" in error and not lost_its_node(error) else error


def in_a_line(error: str) -> str:
    """What is said of an error while the search goes on."""
    if lost_its_node(error):
        return "its node has gone"
    if is_silent(error):
        return "its worker does not answer"
    lines = [line.strip() for line in explained(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "its process ended"
