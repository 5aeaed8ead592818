"""Trainings of a comparison as Ray tasks: the other way of running them, for clusters."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import torch

from metaopt.errors import MetaoptError
from metaopt.meta.reference import Recorded, store
from metaopt.meta.transfer import Cell, missing, trained
from metaopt.search.ray_runner import Room, check_room, started
from metaopt.search.ray_trial import this_node
from metaopt.search.study_spec import ResourcesSpec
from metaopt.search.versions import difference, refuse_node, versions


def train_cells_on_ray(
    cells: Sequence[Cell], folder: Path, resources: ResourcesSpec, workers: int | None = None
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
        remote = ray.remote(num_cpus=resources.cpu, num_gpus=resources.gpu, max_retries=2)(_trained)
        if workers is None:
            check_room(resources)
        room = Room(resources, workers)
        device, n_threads = "cuda" if resources.gpu > 0 else "cpu", max(1, int(resources.cpu))
        jobs: dict[Any, Cell] = {}
        while left or jobs:
            while left and len(jobs) < room():
                cell = left.pop(0)
                jobs[remote.remote(cell, device, n_threads, versions())] = cell
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


def _trained(cell: Cell, device: str, n_threads: int, driver: Mapping[str, str]) -> Recorded | str:
    """The training, or in what this node differs from the driver."""
    if refusal := difference(driver, versions(), this_node()):
        return refusal
    torch.set_num_threads(n_threads)
    return trained(cell, device)
