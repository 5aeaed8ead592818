"""Failures seen while training: each check returns what it saw, or None."""

import math

from metaopt.schedules import Signals
from metaopt.training.records import Outcome

MAX_LOSS = 1e3
"""Average loss over V* at which a training counts as exploded."""
MAX_GRAD_NORM = 1e6
MIN_SPREAD = 0.01
"""Spread of generated over that of real images below which all of them are the same image."""
COLLAPSE_GRACE = 0.1
"""Share of the budget before which a generator may still be flat."""

Finding = tuple[Outcome, str]


def diverged(signals: Signals, log_grad_norms: tuple[float, float]) -> Finding | None:
    """A loss that is not finite, or a loss or gradient norm that exploded."""
    if not signals.finite or not all(math.isfinite(norm) for norm in log_grad_norms):
        return Outcome.DIVERGED, "non-finite loss or gradient"
    for player, loss in (("D", signals.loss_gap + 1), ("G", signals.g_loss)):
        if abs(loss) > MAX_LOSS:
            return Outcome.DIVERGED, f"exploding loss of {player}: {loss:.3g} times the ideal"
    for player, norm in zip("DG", log_grad_norms, strict=True):
        if norm > math.log(MAX_GRAD_NORM):
            return Outcome.DIVERGED, f"exploding gradient norm of {player}: 1e{norm / math.log(10):.1f}"
    return None


def collapsed(fake_spread: float, real_spread: float, progress: float) -> Finding | None:
    """A generator whose images are all alike after a grace period, or not finite (diverged) at any time."""
    if not math.isfinite(fake_spread):
        return Outcome.DIVERGED, "non-finite samples"
    if progress < COLLAPSE_GRACE or fake_spread >= MIN_SPREAD * real_spread:
        return None
    return Outcome.COLLAPSED, f"spread of generated images {fake_spread / real_spread:.2g} of the real ones'"
