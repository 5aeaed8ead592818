"""What passes between the driver of a search and its workers. Imports little, as every worker does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from metaopt.meta.maml import Initialisation
from metaopt.meta.maml.meta_run import MetaRecord
from metaopt.training import Record


class Saved(dict[int, bytes]):
    """Trainings on their way, by index. Passed on and not copied, so that who is done with them can clear them."""

    def __deepcopy__(self, memo: object) -> "Saved":
        return self


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something for a worker: one reference training, a candidate on all tasks and seeds, or an interval of one.

    Or to wait, where others must come to an end first: without a job, a worker's process ends.
    """

    kind: Literal["reference", "candidate", "interval", "wait"]
    family: str
    params: Mapping[str, Any]
    number: int = -1
    """Trial number of a candidate."""
    training: int = -1
    """Which training, of a reference."""
    larger: bool = False
    """Whether it gets a larger share of its node, as it has run out of memory before."""
    evaluation: int = 0
    """Of an interval: the evaluation at which it ends; the one before begins it."""
    since: int = 0
    """Likewise: the evaluation at which `start` was saved; 0: from scratch."""
    start: Saved = field(default_factory=Saved, repr=False)  # Tune spells a trial's job out
    """Likewise: what its trainings go on from."""


@dataclass(frozen=True, kw_only=True, repr=False)  # Tune spells each out for a log that is not kept
class Slice:
    """What a worker reports: the new records of each training, and sample grids where there are any."""

    records: Mapping[int, Sequence[Record | MetaRecord]]
    """By index of the training."""
    grids: Mapping[int, bytes] = field(default_factory=dict)
    """Sample grid at the end of the slice as PNG, by index of the training."""
    starts: Mapping[int, Initialisation] = field(default_factory=dict)
    """What was learned, where that is a start and the slice is the last."""
    wall_s: float
    """Seconds of training and evaluation since the job began."""
    memory_mb: float = 0.0
    """The most host memory of the worker so far, in MiB; it may have had other jobs before."""
    gpu_memory_mb: float = 0.0
    """The most GPU memory of the job so far, in MiB."""
    saved: Saved = field(default_factory=Saved)
    """The trainings at the end of an interval, to go on from."""
