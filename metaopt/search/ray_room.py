"""Where trials fit: the nodes of the cluster, what a trial occupies, and how many there may be at once."""

import json
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from metaopt.errors import ConfigError, MetaoptError
from metaopt.gan import Task
from metaopt.schedules import build_schedule
from metaopt.search.packing import Node, Share, measured_share
from metaopt.search.problems import Problem
from metaopt.search.study_spec import ResourcesSpec
from metaopt.training.footprint import Footprint, cap_gpu_memory, footprint
from metaopt.whole_file import write_whole

log = logging.getLogger(__name__)

FOOTPRINTS = "footprints.json"
_MIB = 2**20
_CONTEXT_MB = 500.0
"""Of a CUDA context, where it was not measured: what PyTorch's libraries take on current GPUs, about."""
_LOOK_S = 2.0
"""How often is looked for nodes that have come or gone."""


def nodes() -> list[Node]:
    """The machines that are in the cluster now."""
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            memory = has["memory"] / _MIB if "memory" in has else math.inf
            name = str(node["NodeManagerAddress"])
            found.append(Node(cpu=has.get("CPU", 0.0), gpu=has.get("GPU", 0.0), memory_mb=memory, name=name))
    return found


class Room:
    """Trials at once: as asked for, or as many as the nodes that are there now have room for."""

    def __init__(self, share: Share, workers: int | None) -> None:
        """For `share` each; `workers` of None: as many as there is room for."""
        self._share, self._workers = share, workers
        self._n, self._until = 0, -math.inf

    def __call__(self) -> int:
        if time.monotonic() >= self._until:
            self._n = self._look()
            self._until = time.monotonic() + _LOOK_S
        return self._n

    def _look(self) -> int:
        if self._workers is not None:
            return self._workers
        n = _n_fitting(self._share)
        if n < 1 <= self._n:
            log.warning("no node has room for a trial now: waiting for one")
        return max(1, n)  # one waits for the next node, where all have gone


def check_room(share: Share) -> None:
    """ConfigError if no node of the cluster has `share`."""
    if _n_fitting(share) < 1:
        found = nodes()
        memory = f", {sum(node.memory_mb for node in found):.0f} MiB" if share.memory_mb is not None else ""
        raise ConfigError(
            f"One trial needs `search.resources` of {share} on one node, but no node has that; all together have "
            f"{sum(node.cpu for node in found):g} CPU, {sum(node.gpu for node in found):g} GPU{memory}."
        )


def _n_fitting(share: Share) -> int:
    return sum(node.room(share) for node in nodes())


def share_of(
    spec: ResourcesSpec | str,
    tasks: Sequence[Problem],
    stages: Sequence[Sequence[int]],
    schedule: tuple[str, Mapping[str, Any]],
    folder: Path,
) -> Share:
    """What a trial occupies: as the study says, or as measured on the cluster, once, and kept in `folder`.

    Args:
        spec: `search.resources`.
        tasks: of each training of a trial.
        stages: trainings that advance together, by index.
        schedule: family and parameters of what is trained to measure.
        folder: of the study.

    Raises:
        ConfigError: a trial does not fit into a GPU. MetaoptError: the short training failed.
    """
    if isinstance(spec, ResourcesSpec):
        context_mb = _CONTEXT_MB if 0 < spec.gpu < 1 else 0.0
        return Share(cpu=spec.cpu, gpu=spec.gpu, memory_mb=spec.memory_mb, gpu_context_mb=context_mb)
    there = nodes()
    with_gpu = any(node.gpu >= 1 for node in there)
    known = Footprints(folder / FOOTPRINTS, "cuda" if with_gpu else "cpu")
    known.measure((task for task in tasks if isinstance(task, Task)), schedule)
    found = {i: known[task] for i, task in enumerate(tasks) if isinstance(task, Task)}
    return measured_share(found, stages, _with_gpu_memory() if with_gpu else there)


def keep_to(share: Share) -> None:
    """In a worker: take no more threads, nor more of a GPU's memory, than the share that Ray has given this process."""
    torch.set_num_threads(share.n_threads)
    gpu = float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0))
    if 0 < gpu < 1:
        cap_gpu_memory(gpu, share.gpu_context_mb)


class Footprints:
    """What trainings take, kept in a file by what they are trainings of."""

    def __init__(self, file: Path, device: str) -> None:
        """Those on `device` that `file` holds; one that cannot be read holds none."""
        self._file, self._device = file, device
        self._found: dict[str, Footprint] = {}
        with suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["device"] == device:
                self._found = {key: Footprint(**one) for key, one in content["trainings"].items()}

    def __getitem__(self, task: Task) -> Footprint:
        return self._found[_key(task)]

    def measure(self, tasks: Iterable[Task], schedule: tuple[str, Mapping[str, Any]]) -> None:
        """Measure those that are not known yet, each in a process of its own."""
        missing = {_key(task): task for task in tasks if _key(task) not in self._found}
        if not missing:
            return
        gpu = 1 if self._device == "cuda" else 0
        remote = ray.remote(num_cpus=1, num_gpus=gpu, max_calls=1)(_measured)
        jobs = {key: remote.remote(task, schedule, self._device) for key, task in missing.items()}
        for key, job in jobs.items():
            try:
                self._found[key] = ray.get(job)
            except ray.exceptions.RayError as error:
                raise MetaoptError(
                    f"{missing[key].name}: the training that measures its memory failed: {error}"
                ) from error
        content = {"device": self._device, "trainings": {key: asdict(one) for key, one in self._found.items()}}
        write_whole(self._file, json.dumps(content, indent=2))


def _key(task: Task) -> str:
    return replace(task, budget=1, evaluations=1).key()


def _measured(task: Task, schedule: tuple[str, Mapping[str, Any]], device: str) -> Footprint:
    torch.set_num_threads(1)
    return footprint(task, build_schedule(*schedule), device=device)


def _with_gpu_memory() -> list[Node]:
    """The nodes that have GPUs, with the memory of each; those are asked for it."""
    remote = ray.remote(num_cpus=0, num_gpus=0.01)(_gpu_memory_mb)
    found = []
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("GPU", 0.0) >= 1:
            there = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            memory_mb = ray.get(remote.options(scheduling_strategy=there).remote())
            has = node["Resources"]
            found.append(
                Node(cpu=has.get("CPU", 0.0), gpu=has["GPU"], gpu_memory_mb=memory_mb, name=node["NodeManagerAddress"])
            )
    return found


def _gpu_memory_mb() -> float:
    return torch.cuda.get_device_properties("cuda").total_memory / _MIB
