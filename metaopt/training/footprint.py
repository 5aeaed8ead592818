"""How much memory a training takes, by one short training of its task."""

import re
import resource
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from metaopt.errors import ConfigError
from metaopt.gan import Task
from metaopt.schedules import Schedule
from metaopt.training.training import train

_MIB = 2**20
_ITERATIONS = 20


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Memory in MiB of a process that trains one GAN, at its most; an evaluation is in it."""

    process_mb: float
    """Of the process before the training, with torch loaded."""
    memory_mb: float
    """What the training adds to that."""
    gpu_memory_mb: float = 0.0
    """What PyTorch's allocator holds on the GPU for the training."""
    gpu_context_mb: float = 0.0
    """What the process takes of the GPU besides: the CUDA context, and whatever others have there."""


def footprint(task: Task, schedule: Schedule, *, device: str = "cpu") -> Footprint:
    """Train `task` for 20 iterations and one evaluation, and see what that took.

    Peaks cannot be taken back, so that only the first call in a process says what a training adds to it. The GPU
    should have no other user.

    Raises:
        DataError, ConfigError: as of a training.
    """
    if device != "cpu":
        torch.zeros(1, device=device)
        torch.cuda.reset_peak_memory_stats(device)
    before = peak_memory_mb()
    for _ in train(replace(task, budget=_ITERATIONS, evaluations=1), schedule, device=device):
        pass
    measured = Footprint(process_mb=before, memory_mb=peak_memory_mb() - before)
    if device == "cpu":
        return measured
    free, total = torch.cuda.mem_get_info(device)
    context = total - free - torch.cuda.memory_reserved(device)
    return replace(measured, gpu_memory_mb=gpu_peak_mb(device), gpu_context_mb=max(0, context) / _MIB)


def peak_memory_mb() -> float:
    """The most host memory, in MiB, that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if sys.platform == "darwin":
        return peak / _MIB
    # on Linux ru_maxrss of a child begins with its parent's; some sandboxes have nothing else
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1] if found else peak) / 1024


def gpu_peak_mb(device: str) -> float:
    """The most memory, in MiB, that PyTorch's allocator in this process has held on the GPU since the last reset."""
    return torch.cuda.max_memory_reserved(device) / _MIB


def cap_gpu_memory(share: float, context_mb: float) -> None:
    """Let this process have `share`, in (0, 1], of its GPU and not more: tensors beyond it raise OutOfMemoryError.

    PyTorch's cap is on its allocator alone, so that `context_mb` MiB are left out of it.

    Raises:
        ConfigError: the share is no larger than the context.
    """
    device = torch.cuda.current_device()
    total_mb = torch.cuda.get_device_properties(device).total_memory / _MIB
    fraction = share - context_mb / total_mb
    if fraction <= 0:
        raise ConfigError(
            f"`search.resources.gpu`: a share must hold more than the {context_mb:.0f} MiB of a CUDA context, but "
            f"{share:g} of this GPU is {share * total_mb:.0f} MiB."
        )
    torch.cuda.set_per_process_memory_fraction(fraction, device)
