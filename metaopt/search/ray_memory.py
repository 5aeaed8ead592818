"""Two things that Ray Tune (2.60) does with memory, done otherwise while a search runs.

A worker that Ray ends where memory runs out is a worker that died: Tune takes such an end for an error of its own, and
raises it out of `Tuner.fit` with all trials lost. And a result that has been dealt with is let go: Tune keeps the
reference of every task of a worker, and thereby what it returned in the driver's memory, until its Tune trial ends.
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


@contextmanager
def results_are_let_go() -> Iterator[None]:
    """Have Tune forget, within the block, the tasks of a worker that are over."""
    manager: Any = RayActorManager
    before = manager._actor_task_resolved

    def resolved(of: Any, tracked_actor_task: Any, result: Any) -> None:
        before(of, tracked_actor_task, result)
        futures = of._tracked_actors_to_task_futures.get(tracked_actor_task._tracked_actor)
        if futures:
            futures &= of._actor_task_events.get_futures()

    manager._actor_task_resolved = resolved
    try:
        yield
    finally:
        manager._actor_task_resolved = before
