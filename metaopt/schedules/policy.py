"""Schedules that learn how to depart from a simpler one: bounded multipliers of its three controls."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from metaopt.schedules.curves import polyline
from metaopt.schedules.types import MAX_UPDATE_RATIO, MIN_UPDATE_RATIO, Controls, Schedule, Signals, State

LOG_LR_BOUNDS = (math.log(0.1), math.log(2.0))
"""A learning rate is multiplied by a number in [0.1, 2], so that no policy leaves the stable region by far."""
LOG_RATIO_BOUNDS = (-math.log(2.0), math.log(2.0))
"""The update ratio is multiplied by a number in [1/2, 2]."""
GAP_UNIT = 0.25
"""Loss gap, in units of V*, at which its feature bends."""

Term = Callable[[Signals], tuple[float, float, float]]
"""Signals -> what is added to the logs of the multipliers of (lr_g, lr_d, update_ratio)."""


@dataclass(frozen=True, kw_only=True)
class Modulated:
    """A schedule whose controls are multiplied by ``exp(clip(sum of terms))``.

    Where all terms are zero, it is the schedule itself, exactly.
    """

    base: Schedule
    """What is multiplied."""
    terms: tuple[Term, ...]
    """Logs of the multipliers, summed before they are clipped to `LOG_LR_BOUNDS` and `LOG_RATIO_BOUNDS`."""
    closed_loop: bool
    """Whether a term reads signals other than progress."""

    def init(self) -> State:
        """State of the schedule that is multiplied."""
        return self.base.init()

    def step(self, state: State, signals: Signals) -> tuple[State, Controls]:
        """Controls of the base, multiplied."""
        state, controls = self.base.step(state, signals)
        g, d, ratio = (math.fsum(logs) for logs in zip(*(term(signals) for term in self.terms), strict=True))
        update_ratio = controls.update_ratio * math.exp(_clipped(ratio, LOG_RATIO_BOUNDS))
        return state, Controls(
            lr_g=controls.lr_g * math.exp(_clipped(g, LOG_LR_BOUNDS)),
            lr_d=controls.lr_d * math.exp(_clipped(d, LOG_LR_BOUNDS)),
            update_ratio=_clipped(update_ratio, (MIN_UPDATE_RATIO, MAX_UPDATE_RATIO)),
        )


def knots_term(g: tuple[float, ...], d: tuple[float, ...], ratio: tuple[float, ...]) -> Term:
    """Each log multiplier through values at equally spaced progress, linear between them."""
    curves = polyline(g), polyline(d), polyline(ratio)

    def term(signals: Signals) -> tuple[float, float, float]:
        log_g, log_d, log_ratio = (curve(signals.progress) for curve in curves)
        return log_g, log_d, log_ratio

    return term


def loss_term(offsets: Mapping[str, tuple[float, float]]) -> Term:
    """What is added to the logs of (lr_g, lr_d) for each kind of loss; nothing for a kind that is not given."""

    def term(signals: Signals) -> tuple[float, float, float]:
        return *offsets.get(loss_kind(signals.ideal_d_loss), (0.0, 0.0)), 0.0

    return term


KINDS_OF_LOSS = {"logistic": math.log(4), "least_squares": 0.25, "hinge": 2.0, "wasserstein": 0.0}
"""V* of each kind."""


def loss_kind(ideal_d_loss: float) -> str:
    """The kind of loss whose V* is nearest: which learning rate should be the larger one depends on it."""
    return min(KINDS_OF_LOSS, key=lambda kind: abs(KINDS_OF_LOSS[kind] - ideal_d_loss))


def features(signals: Signals) -> tuple[float, float, float, float]:
    """``(tanh(loss_gap / 0.25), d_sign, 2 d_accuracy - 1, tanh(log_grad_ratio / 2))``, each in [-1, 1].

    All are 0 in a balanced game.
    """
    return (
        math.tanh(signals.loss_gap / GAP_UNIT),
        _clipped(signals.d_sign, (-1.0, 1.0)),
        _clipped(2 * signals.d_accuracy - 1, (-1.0, 1.0)),
        math.tanh(signals.log_grad_ratio / 2),
    )


def linear_term(gains: tuple[tuple[float, ...], ...]) -> Term:
    """``gains @ features``; `gains` (3, 4): rows lr_g, lr_d, update_ratio, columns as in `features`."""

    def term(signals: Signals) -> tuple[float, float, float]:
        x = features(signals)
        g, d, ratio = (_dot(row, x) for row in gains)
        return g, d, ratio

    return term


def network_term(hidden: tuple[tuple[float, ...], ...], outputs: tuple[tuple[float, ...], ...]) -> Term:
    """``outputs @ tanh(hidden @ (1, 2 progress - 1, *features))``; `hidden` (h, 6), `outputs` (3, h)."""

    def term(signals: Signals) -> tuple[float, float, float]:
        x = (1.0, 2 * signals.progress - 1, *features(signals))
        units = tuple(math.tanh(_dot(row, x)) for row in hidden)
        g, d, ratio = (_dot(row, units) for row in outputs)
        return g, d, ratio

    return term


def _dot(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def _clipped(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])
