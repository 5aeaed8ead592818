"""Transfer: the same trainings under several schedules, paired by seed; each is kept on disk, and found there again."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from metaopt.errors import MetaoptError
from metaopt.gan import Task
from metaopt.meta.reference import Recorded, find, store, training_key
from metaopt.schedules import NamedSchedule
from metaopt.training import Training
from metaopt.training.grid import grid_png
from metaopt.training.resources import resources

_GRID_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A schedule that is compared, with what else it changes."""

    name: str
    """What tables call it."""
    schedule: NamedSchedule
    task_changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the task that it sets, such as an optimizer option that is part of a rule."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training of the comparison."""

    contestant: Contestant
    task: Task
    seed: int

    @property
    def trained_task(self) -> Task:
        """The task with what the contestant changes."""
        return replace(self.task, **self.contestant.task_changes)

    def key(self) -> str:
        """Name of the training by what it is a function of; loads the task's data."""
        task = self.trained_task
        return training_key(task, self.contestant.schedule, self.seed, resources(task).identity)


def cells_of(contestants: Sequence[Contestant], tasks: Sequence[Task], seeds: Sequence[int]) -> list[Cell]:
    """Every contestant on every task with every seed; all contestants of one task and seed beside each other."""
    return [
        Cell(contestant=contestant, task=task, seed=seed)
        for seed in seeds
        for task in tasks
        for contestant in contestants
    ]


def recorded(cell: Cell, folder: Path) -> Recorded | None:
    """The training of `cell` if it is finished and kept in `folder`."""
    return find(folder, cell.key())


def trained(cell: Cell, device: str = "cpu") -> Recorded:
    """Train `cell` from scratch."""
    training = Training(cell.trained_task, cell.contestant.schedule.build(), cell.seed, device=device)
    records = tuple(training.run())
    grids = (grid_png(training.sample(_GRID_IMAGES)),) if training.healthy else ()
    return Recorded(records=records, grids=grids)


def missing(cells: Sequence[Cell], folder: Path) -> list[Cell]:
    """Those of `cells` that `folder` does not hold yet; of equal trainings, one."""
    unique = {cell.key(): cell for cell in cells}
    return [cell for key, cell in unique.items() if find(folder, key) is None]


def train_cells(cells: Sequence[Cell], folder: Path, *, workers: int = 1, device: str = "cpu") -> Iterator[Cell]:
    """Train what `folder` does not hold yet, `workers` processes of one thread each; yields each as it is kept.

    Raises:
        MetaoptError: a training failed or a worker died; what was finished is kept.
    """
    left = missing(cells, folder)
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread)
    try:
        jobs = {pool.submit(trained, cell, device): cell for cell in left}
        for job in as_completed(jobs):
            store(folder, jobs[job].key(), _result(jobs[job], job))
            yield jobs[job]
    except BrokenProcessPool as error:
        raise MetaoptError("A worker died. What was finished is kept; the same command goes on.") from error
    finally:  # interrupted or failed: what still runs is not waited for
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()


def _result(cell: Cell, job: Future[Recorded]) -> Recorded:
    try:
        return job.result()
    except (MetaoptError, BrokenProcessPool):
        raise
    except Exception as error:  # a user's own network, a device: anything can come out of a training
        what = f"{cell.contestant.name} on {cell.task.name}, seed {cell.seed}"
        raise MetaoptError(f"{what}: the training failed: {type(error).__name__}: {error}") from error


def _one_thread() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A parent that was killed cannot end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
