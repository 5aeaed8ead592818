"""Trainings of a comparison as Ray tasks: the other way of running them, for clusters."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from metaopt.errors import MetaoptError
from metaopt.meta.reference import Recorded, store
from metaopt.meta.transfer import Cell, missing, trained
from metaopt.search.packing import Share
from metaopt.search.ray_room import Room, check_room, keep_to, share_of
from metaopt.search.ray_start import started
from metaopt.search.ray_trial import this_node
from metaopt.search.study_spec import ResourcesSpec
from metaopt.search.versions import difference, refuse_node, versions


def train_cells_on_ray(
    cells: Sequence[Cell], folder: Path, resources: ResourcesSpec | str, workers: int | None = None
) -> Iterator[Cell]:
    """Train what `folder` does not hold yet, `workers` at once (None: as many as there is room for).

    Yields each as it is kept.

    Raises:
        ConfigError: no node has room for one training, or one has other versions than this process.
        MetaoptError: a training failed, or its worker died three times; what was finished is kept.
    """
    left = missing(cells, folder)
    if not left:
        return
    with started():
        tasks = [cell.task for cell in left]
        some = left[0].contestant.schedule
        share = share_of(resources, tasks, [(i,) for i in range(len(tasks))], (some.family, some.params), folder.parent)
        memory = (share.memory_mb or 0) * 2**20
        remote = ray.remote(num_cpus=share.cpu, num_gpus=share.gpu, memory=memory, max_retries=2)(_trained)
        if workers is None:
            check_room(share)
        room = Room(share, workers)
        jobs: dict[Any, Cell] = {}
        while left or jobs:
            while left and len(jobs) < room():
                cell = left.pop(0)
                jobs[remote.remote(cell, share, versions())] = cell
            ready, _ = ray.wait(list(jobs), num_returns=1)
            cell = jobs.pop(ready[0])
            try:
                done = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                raise MetaoptError(f"{cell.task.name}, seed {cell.seed}: the training failed: {error}") from error
            if isinstance(done, str):
                refuse_node(done)
            store(folder, cell.key(), done)
            yield cell


def _trained(cell: Cell, share: Share, driver: Mapping[str, str]) -> Recorded | str:
    """The training, or in what this node differs from the driver."""
    if refusal := difference(driver, versions(), this_node()):
        return refusal
    keep_to(share)
    return trained(cell, share.device)
