"""What is said of a training that was ended from outside."""

import pytest
import torch

from metaopt.search.deaths import explained, in_a_line, is_silent, lost_its_node, ran_out_of_memory

KILLED = """\
ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.
Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was
killed by SIGKILL by OOM killer due to high memory usage. (2) ray stop --force was called.
"""


def _error(n_bytes: int) -> str:
    try:
        torch.empty(n_bytes, dtype=torch.uint8)
    except RuntimeError as error:
        return f"Traceback (most recent call last):\n  File ...\nRuntimeError: {error}"
    raise AssertionError("that much memory must not be there")


@pytest.mark.parametrize(
    "error",
    [
        _error(2**50),
        "Traceback\n  x = [0] * 2**60\nMemoryError",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB",
        "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.\nMemory on the node",
        "terminate called after throwing an instance of 'std::bad_alloc'",
    ],
)
def test_memory_is_named_in_one_line(error: str) -> None:
    assert ran_out_of_memory(error)
    assert explained(error).startswith("out of memory: ")
    assert "\n" not in explained(error)


def test_a_kill_is_named_with_what_kills() -> None:
    assert not ran_out_of_memory(KILLED)
    assert explained(KILLED) == "its process was killed, as the kernel does where memory runs out"


def test_a_node_that_is_gone_is_told_from_a_process_that_is() -> None:
    gone = "ray.exceptions.ActorDiedError: ...\nThe actor died because its node has died. Node Id: 0b\n"
    assert lost_its_node(gone) and not lost_its_node(KILLED)
    assert in_a_line(gone) == "its node has gone"


def test_a_worker_that_does_not_answer_is_told_from_one_that_died() -> None:
    silent = "The actor 94d234c0b191 is unavailable: The actor is temporarily unavailable: RPC error: Socket closed"
    assert is_silent(silent) and not is_silent(KILLED) and not lost_its_node(silent)
    assert in_a_line(silent) == "its worker does not answer"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KILLED, "its process was killed, as the kernel does where memory runs out"),
        ("", "its process ended"),
        ("a\nb\n\n", "b"),
    ],
)
def test_what_is_said_while_the_search_goes_on(error: str, line: str) -> None:
    assert in_a_line(error) == line


@pytest.mark.parametrize("error", ["", "Traceback\nValueError: no memory of that name", "no evaluation within 25 s"])
def test_other_errors_stay_as_they_are(error: str) -> None:
    assert not ran_out_of_memory(error)
    assert explained(error) == error
