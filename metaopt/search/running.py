"""What the driver knows of a job that a worker has, and of a trial that waits for its score."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from metaopt.meta.maml import Initialisation
from metaopt.search.jobs import Job
from metaopt.search.problems import AnyRecord


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A trial that has ended and waits for its score."""

    number: int
    records: Mapping[int, list[AnyRecord]] = field(default_factory=dict)
    """Empty: those of the reference trainings."""
    wall_s: float = 0.0
    memory_mb: float = 0.0
    gpu_memory_mb: float = 0.0
    lost: str = ""
    start: Initialisation | None = None


@dataclass(kw_only=True)
class Running:
    """A job in the hands of a worker, and what it has reported."""

    job: Job
    records: dict[int, list[AnyRecord]] = field(default_factory=dict)
    grids: dict[int, list[bytes]] = field(default_factory=dict)
    starts: dict[int, Initialisation] = field(default_factory=dict)
    wall_s: float = 0.0
    memory_mb: float = 0.0
    gpu_memory_mb: float = 0.0
    lost: str = ""
    """Why it is to be stopped."""
    placed: bool = True
    """Whether a worker has it, or it waits for one."""
    heard: float
    """When it was handed out, or has reported last."""
