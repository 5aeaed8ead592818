"""From records to one number: how much better than the reference a schedule trains GANs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metaopt.errors import ConfigError
from metaopt.training import Outcome, Record

TrainingId = tuple[str, int]
"""Name of the task, seed."""

_SMALLEST_FID = 1e-12


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


def curve(records: Iterable[Record]) -> TrainingCurve:
    """The curve of one training from its records."""
    fids, outcome = [], None
    for record in records:
        if record.fid is not None:
            fids.append(record.fid)
        outcome = record.outcome or outcome
    return TrainingCurve(fids=tuple(fids), outcome=outcome)


def score(
    curves: Mapping[TrainingId, TrainingCurve], reference: Mapping[TrainingId, TrainingCurve], evaluation: int
) -> float:
    """``mean_i ln(FID_i / FID_ref_i)`` over trainings i, at the n-th evaluation of both.

    0: as good as the reference; -0.69: half its FID. Same task and same seed are compared (paired).
    ConfigError if the two are not of the same trainings.
    """
    if set(curves) != set(reference):
        raise ConfigError(f"Trainings must be those of the reference {sorted(reference)}, but got {sorted(curves)}.")
    ratios = [
        math.log(max(curves[key].fid_at(evaluation), _SMALLEST_FID))
        - math.log(max(reference[key].fid_at(evaluation), _SMALLEST_FID))
        for key in sorted(curves)
    ]
    return math.fsum(ratios) / len(ratios)


def outcome(curves: Sequence[TrainingCurve]) -> Outcome | None:
    """The worst outcome of the trainings: diverged, collapsed, finished; None while any is running."""
    outcomes = {one.outcome for one in curves}
    if None in outcomes:
        return None
    return next(found for found in (Outcome.DIVERGED, Outcome.COLLAPSED, Outcome.FINISHED) if found in outcomes)
