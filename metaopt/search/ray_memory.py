"""A worker that Ray ends where memory runs out is a worker that died, and not the end of the search.

Ray Tune (2.60) takes such an end for an error of its own, and raises it out of `Tuner.fit` with all trials lost.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError


@contextmanager
def memory_is_a_death() -> Iterator[None]:
    """Have Tune hear of a worker that has died, within the block."""
    manager: Any = RayActorManager
    before = manager._actor_task_failed

    def failed(of: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        before(of, tracked_actor_task, exception)

    manager._actor_task_failed = failed
    try:
        yield
    finally:
        manager._actor_task_failed = before
