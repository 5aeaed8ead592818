"""From records to one number: how much better than the reference a schedule trains GANs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from metaopt.errors import ConfigError
from metaopt.meta.statistics import cvar
from metaopt.training import Outcome

TrainingId = tuple[str, int]
"""Name of the task, seed."""

_SMALLEST_FID = 1e-12


def log_fid(fid: float) -> float:
    """``ln FID``, of a FID >= 0; what is below 1e-12 counts as that, so that a perfect one is finite too."""
    return math.log(max(fid, _SMALLEST_FID))


@dataclass(frozen=True, kw_only=True)
class TrainingCurve:
    """What the score needs of one training: its FIDs in order, and how it ended."""

    fids: tuple[float, ...]
    """FID of the untrained generator, then one an evaluation."""
    outcome: Outcome | None = None
    """None while it is running."""

    def __post_init__(self) -> None:
        if not self.fids or not all(math.isfinite(fid) and fid >= 0 for fid in self.fids):
            raise ConfigError(f"FIDs must be one or more finite numbers >= 0, but got {self.fids!r}.")

    @property
    def untrained(self) -> float:
        """FID before the first update."""
        return self.fids[0]

    def fid_at(self, evaluation: int) -> float:
        """FID at the n-th evaluation (0: untrained); one that diverged counts as its untrained generator.

        A training that ended early in another way counts with its last FID.
        """
        if self.outcome is Outcome.DIVERGED:
            return self.untrained
        return self.fids[min(evaluation, len(self.fids) - 1)]


class Judged(Protocol):
    """What a score needs of a record."""

    @property
    def fid(self) -> float | None: ...
    @property
    def outcome(self) -> Outcome | None: ...


def curve(records: Iterable[Judged]) -> TrainingCurve:
    """The curve of one training from its records."""
    fids, outcome = [], None
    for record in records:
        if record.fid is not None:
            fids.append(record.fid)
        outcome = record.outcome or outcome
    return TrainingCurve(fids=tuple(fids), outcome=outcome)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How the tasks' ratios become one number; lower is better.

    With ``L_t`` the mean over seeds of ``ln(FID / FID_ref)`` on task t: `mean` is ``mean_t L_t``; `worst` is ``max_t
    L_t``; `mean_tail` is ``(mean_t L_t + CVaR(L)) / 2``, CVaR the mean of the worst share `tail` of the tasks
    (Rockafellar & Uryasev 2000).
    """

    name: Literal["mean", "mean_tail", "worst"] = "mean"
    tail: float = 0.25
    """In (0, 1]."""

    def __call__(self, by_task: Sequence[float]) -> float:
        """Of the tasks' ratios, one or more."""
        mean = math.fsum(by_task) / len(by_task)
        if self.name == "mean":
            return mean
        return max(by_task) if self.name == "worst" else (mean + cvar(by_task, self.tail)) / 2


MEAN = Objective()


def ratios(
    curves: Mapping[TrainingId, TrainingCurve], reference: Mapping[TrainingId, TrainingCurve], evaluation: int
) -> dict[TrainingId, float]:
    """``ln(FID / FID_ref)`` of each training at the n-th evaluation of both, in order.

    Same task and same seed are compared (paired). ConfigError if the two are not of the same trainings.
    """
    if set(curves) != set(reference):
        raise ConfigError(f"Trainings must be those of the reference {sorted(reference)}, but got {sorted(curves)}.")
    return {
        key: log_fid(curves[key].fid_at(evaluation)) - log_fid(reference[key].fid_at(evaluation))
        for key in sorted(curves)
    }


def score(
    curves: Mapping[TrainingId, TrainingCurve],
    reference: Mapping[TrainingId, TrainingCurve],
    evaluation: int,
    objective: Objective = MEAN,
) -> float:
    """The `objective` of the tasks' mean ``ln(FID / FID_ref)`` at the n-th evaluation of both.

    0: as good as the reference; with the mean, -0.69: half its FID. ConfigError as of `ratios`.
    """
    found = ratios(curves, reference, evaluation)
    by_task: dict[str, list[float]] = {}
    for (task, _), ratio in found.items():
        by_task.setdefault(task, []).append(ratio)
    return objective([math.fsum(part) / len(part) for part in by_task.values()])


def outcome(curves: Sequence[TrainingCurve]) -> Outcome | None:
    """The worst outcome of the trainings: diverged, collapsed, finished; None while any is running."""
    outcomes = {one.outcome for one in curves}
    if None in outcomes:
        return None
    return next(found for found in (Outcome.DIVERGED, Outcome.COLLAPSED, Outcome.FINISHED) if found in outcomes)
