"""How many trials fit: what one of them occupies, from the study or measured. Sizes in MiB."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from metaopt.errors import ConfigError
from metaopt.training.footprint import Footprint

_MARGIN = 1.2
"""On what was measured: allocators fragment, and a schedule with a higher update ratio has other peaks."""
_USABLE = 0.95
"""Of a GPU's memory; its driver has the rest."""
_GRAIN = 10_000
"""Parts of a GPU or a CPU that Ray counts with."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a trial occupies on its node."""

    cpu: float = 1.0
    gpu: float = 0.0
    """Part of one GPU, or whole ones; 0 trains on the CPU."""
    memory_mb: float | None = None
    """Host memory that Ray sets aside; None: it counts none."""
    gpu_context_mb: float = 0.0
    """What a process takes of the GPU beside its tensors."""

    @property
    def device(self) -> str:
        """A torch device name."""
        return "cuda" if self.gpu > 0 else "cpu"

    @property
    def n_threads(self) -> int:
        """CPU threads of a training."""
        return max(1, int(self.cpu))

    def __str__(self) -> str:
        parts = [f"{self.cpu:g} CPU"]
        parts += [f"{self.gpu:g} GPU"] if self.gpu else []
        parts += [f"{self.memory_mb:.0f} MiB"] if self.memory_mb is not None else []
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Node:
    """What a machine of the cluster has."""

    cpu: float
    gpu: float = 0.0
    memory_mb: float = math.inf
    gpu_memory_mb: float = 0.0
    """Of each of its GPUs; 0 where that was not asked for."""
    name: str = ""

    def room(self, share: Share) -> int:
        """Trials that fit at once."""
        gpu = math.inf
        if share.gpu >= 1:
            gpu = self.gpu // share.gpu
        elif share.gpu:  # a part is of one GPU, never of two
            gpu = int(self.gpu) * (_GRAIN // round(share.gpu * _GRAIN))
        memory = self.memory_mb / share.memory_mb if share.memory_mb else math.inf
        return int(min(round(self.cpu * _GRAIN) // round(share.cpu * _GRAIN), gpu, memory))


def measured_share(
    footprints: Mapping[int, Footprint], stages: Sequence[Sequence[int]], nodes: Sequence[Node]
) -> Share:
    """The share of a trial whose process trains one GAN of every training of a stage at once.

    With GPUs, ``1/k`` of one: as many trials as fit into the memory of the smallest GPU, and not more than there are
    CPUs for. A process on a larger GPU gets the same part of that.

    Args:
        footprints: by number of the training.
        stages: trainings that advance together.
        nodes: of the cluster; those with GPUs with their memory.

    Raises:
        ConfigError: a trial does not fit into a GPU.
    """
    process = max(one.process_mb for one in footprints.values())

    def most(of: Mapping[int, float]) -> float:
        return _MARGIN * max(sum(of[i] for i in stage) for stage in stages)

    memory = math.ceil(process + most({i: one.memory_mb for i, one in footprints.items()}))
    with_gpu = [node for node in nodes if node.gpu >= 1]
    if not with_gpu:
        return Share(memory_mb=memory)
    context = max(one.gpu_context_mb for one in footprints.values())
    needed = context + most({i: one.gpu_memory_mb for i, one in footprints.items()})
    smallest = min(with_gpu, key=lambda node: node.gpu_memory_mb)
    fitting = int(_USABLE * smallest.gpu_memory_mb / needed)
    if fitting < 1:
        raise ConfigError(
            f"`search.resources: auto`: a trial must fit into each GPU, but takes {needed:.0f} MiB, and one of node "
            f"{smallest.name} has {smallest.gpu_memory_mb:.0f} MiB; take fewer tasks or seeds, a smaller batch or "
            "width, or leave that node out."
        )
    for_cpus = max(1, int(min(node.cpu / int(node.gpu) for node in with_gpu)))
    k = min(fitting, for_cpus)
    return Share(memory_mb=memory, gpu=_GRAIN // k / _GRAIN, gpu_context_mb=context)


def larger(share: Share, nodes: Sequence[Node]) -> Share:
    """Up to twice the share, as much as one node has of each: for a trial that ran out of memory.

    Of the nodes that have room for the share; the share itself where there is none, or none has more.
    """
    found = [_on(node, share) for node in nodes if node.room(share) >= 1]
    return max(found, key=lambda one: (one.memory_mb or 0.0, one.gpu, one.cpu), default=share)


def _on(node: Node, share: Share) -> Share:
    memory_mb = None if share.memory_mb is None else min(2 * share.memory_mb, node.memory_mb)
    return replace(share, cpu=min(2 * share.cpu, node.cpu), gpu=larger_gpu(share.gpu), memory_mb=memory_mb)


def larger_gpu(gpu: float) -> float:
    """GPUs of the larger share: twice a part of one, but no more than all of it; of whole ones, as many."""
    return min(2 * gpu, 1.0) if 0 < gpu < 1 else gpu
