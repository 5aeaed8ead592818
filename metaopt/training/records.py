"""What a training yields: one record each time it logs, the last one with the outcome."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How a training ended. A value, not an exception."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    COLLAPSED = "collapsed"


@dataclass(frozen=True, kw_only=True)
class Record:
    """The state of a training at one moment. Two trainings are the same if their records are equal."""

    iteration: float
    """Iterations spent (one D plus one G update each), charged by measured FLOPs."""
    progress: float
    """Share of the budget spent, in [0, 1]."""
    d_updates: int
    g_updates: int
    loss_d: float
    """Exponential average, decay 0.95 per update."""
    loss_g: float
    lr_d: float
    """Learning rate in force for the next update."""
    lr_g: float
    update_ratio: float
    loss_gap: float
    """What schedules can read, with the next three; see `metaopt.schedules.Signals`."""
    d_sign: float
    d_accuracy: float
    """Average share of images on the right side of 0, in [0, 1]."""
    log_grad_ratio: float
    """``ln(|grad D| / |grad G|)``."""
    fid: float | None = None
    """Frechet distance to the real images at this moment; None where none was taken."""
    kid: float | None = None
    """The other metrics of the task, taken with the FID; None where they were not; see `metaopt.metrics`."""
    inception_score: float | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    modes: float | None = None
    mode_balance: float | None = None
    warning: str = ""
    """What is going wrong without ending the training: ``kind: signal``, with ``; `` between several."""
    outcome: Outcome | None = None
    """Set in the last record only."""
    reason: str = ""
    """What was seen, if the outcome is not `finished`."""
    wall_s: float = field(default=0.0, compare=False)
    """Seconds since the training started or was resumed."""

    def as_dict(self) -> dict[str, float | int | str | None]:
        """Flat, with plain types."""
        return asdict(self) | {"outcome": None if self.outcome is None else str(self.outcome)}
