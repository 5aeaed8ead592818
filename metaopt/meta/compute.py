"""How soon a training is as good as the reference is at its end."""

import math
from collections.abc import Mapping

from metaopt.errors import ConfigError
from metaopt.meta.objective import TrainingCurve, TrainingId, log_fid


def share_to_reach(curve: TrainingCurve, fid: float, evaluations: int) -> float:
    """Share of the budget after which a training's FID is first at or below `fid`, in (0, 1]; 1 if it never is.

    Between two of the `evaluations`, of which the first is of the untrained generator, ln FID is taken to be linear:
    with k the first evaluation with ``FID_k <= fid``, L = ln FID and n = `evaluations`,

        share = (k - 1 + (L_{k-1} - ln fid) / (L_{k-1} - L_k)) / n,    at least 1 / (10 n).
    """
    if curve.untrained <= fid:
        return 0.1 / evaluations
    for k in range(1, evaluations + 1):
        if curve.fid_at(k) <= fid:
            before, after = log_fid(curve.fid_at(k - 1)), log_fid(curve.fid_at(k))
            return max(k - 1 + (before - log_fid(fid)) / (before - after), 0.1) / evaluations
    return 1.0


def log_compute(
    curves: Mapping[TrainingId, TrainingCurve], reference: Mapping[TrainingId, TrainingCurve], evaluations: int
) -> float:
    """Mean over trainings of ln of the share of the budget that the final FID of the reference takes, as of
    `share_to_reach`.

    0: all of it, or more; -0.69: half of it. Same task and same seed are compared. ConfigError if the two are not of
    the same trainings.
    """
    if set(curves) != set(reference):
        raise ConfigError(f"Trainings must be those of the reference {sorted(reference)}, but got {sorted(curves)}.")
    shares = [share_to_reach(curves[key], reference[key].fid_at(evaluations), evaluations) for key in curves]
    return math.fsum(map(math.log, shares)) / len(shares)
