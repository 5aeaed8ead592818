"""Failures seen while training: each check returns what it saw, or None."""

import math
from collections.abc import Iterable
from itertools import pairwise

from metaopt.schedules import Signals
from metaopt.schedules.types import loss_scale
from metaopt.training.records import Outcome

MAX_LOSS = 1e3
"""Average loss, in units of `loss_scale`, at which a training counts as exploded."""
MAX_GRAD_NORM = 1e6
MIN_SPREAD = 0.01
"""Spread of generated over that of real images below which all of them are the same image."""
COLLAPSE_GRACE = 0.1
"""Share of the budget before which a generator may still be flat."""

MIN_FEATURE_SPREAD = 0.1
"""Variance of generated over that of real features below which modes are missing."""
MIN_FEATURE_RANK = 0.15
"""The same of the directions that features vary in: two images again and again have 0.1, one class has 0.35 or more."""
SPREAD_GRACE = 0.5
"""Share of the budget before which the features of a generator may still be alike."""
SATURATED_ACCURACY = 0.99
SATURATED_GAP = -0.95
"""Loss gap of D below which a D that is always right gives G nothing to follow."""
WINDOW = 20
"""Readings of the loss gap that oscillation is seen in."""
SWING = 0.2
"""Loss gap beyond which one of the players is ahead: D below -SWING, G above SWING."""
MIN_TURNS = 4
"""Changes of the lead in the window from which the game counts as oscillating."""

Finding = tuple[Outcome, str]


def diverged(signals: Signals, log_grad_norms: tuple[float, float], ideal_d_loss: float) -> Finding | None:
    """A loss that is not finite, or a loss or gradient norm that exploded.

    Args:
        signals: as just read.
        log_grad_norms: ``ln |grad|`` of D and G.
        ideal_d_loss: V* of the loss.
    """
    if not signals.finite or not all(math.isfinite(norm) for norm in log_grad_norms):
        return Outcome.DIVERGED, "non-finite loss or gradient"
    scale = loss_scale(ideal_d_loss)
    for player, loss in (("D", signals.loss_gap + ideal_d_loss / scale), ("G", signals.g_loss)):
        if abs(loss) > MAX_LOSS:
            return Outcome.DIVERGED, f"exploding loss of {player}: {loss:.3g} times {scale:.3g}"
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


def lost_modes(feature_spread: float, feature_rank: float, progress: float) -> str:
    """A warning where generated images are far less diverse than real ones; else "".

    Args:
        feature_spread: trace of the covariance of generated over that of real features.
        feature_rank: the same of their participation ratios.
        progress: share of the budget spent.
    """
    if progress < SPREAD_GRACE:
        return ""
    if feature_spread < MIN_FEATURE_SPREAD:
        return f"mode collapse: feature_spread {feature_spread:.2g} of the real images'"
    if feature_rank < MIN_FEATURE_RANK:
        return f"mode collapse: feature_rank {feature_rank:.2g} of the real images'"
    return ""


def saturated(signals: Signals, ideal_d_loss: float) -> str:
    """A warning where D tells nearly all images apart and its loss is nearly 0; else "".

    A Wasserstein loss (V* = 0) has no such bound and never saturates.
    """
    if ideal_d_loss <= 0 or signals.d_accuracy < SATURATED_ACCURACY or signals.loss_gap > SATURATED_GAP:
        return ""
    return f"discriminator saturation: d_accuracy {signals.d_accuracy:.3f}, loss_gap {signals.loss_gap:.2f}"


def oscillating(gaps: Iterable[float]) -> str:
    """A warning where the lead went to and fro in the last `WINDOW` readings of the loss gap; else "".

    Args:
        gaps: `Signals.loss_gap` at each of those readings, oldest first.
    """
    leads = [gap > 0 for gap in gaps if abs(gap) > SWING]
    turns = sum(a != b for a, b in pairwise(leads))
    if turns < MIN_TURNS:
        return ""
    return f"oscillation: loss_gap crossed from beyond {SWING:+} to beyond {-SWING:+} or back {turns} times"
