"""Published rules that keep a state: an integral controller on the sign of D, and one that says whose turn it is."""

import math
from dataclasses import dataclass
from typing import ClassVar

from metaopt.errors import ConfigError
from metaopt.schedules.types import MAX_UPDATE_RATIO, Controls, Signals, State


@dataclass(frozen=True, kw_only=True)
class SignControlled:
    """The controller of adaptive augmentation (ADA: Karras et al. 2020, arXiv:2006.06676), driving lr_d.

    ADA raises the probability of augmentation while ``r = E[sign D(x)] > 0.6`` and lowers it otherwise, at a constant
    speed. Here the same integral controller moves the log of a multiplier of ``lr_d``, which is our own use of it::

        u <- clip(u - sign(r - target) ln(1 / h_min) dt / span, ln h_min, 0);   lr_d = base e^u

    with ``dt`` the progress since the last step: `span` is the share of the budget in which u crosses its range.
    """

    closed_loop: ClassVar[bool] = True
    """It reads signals other than progress."""

    lr_g: float
    """Learning rate of G, constant."""
    lr_d: float
    """Largest learning rate of D."""
    update_ratio: float = 1.0
    """D updates per G update, constant."""
    target: float = 0.6
    """Sign that is aimed at, in [-1, 1]."""
    span: float = 0.1
    """Share of the budget, > 0."""
    h_min: float = 0.1
    """Smallest multiplier, in (0, 1]."""

    def __post_init__(self) -> None:
        if not -1 <= self.target <= 1:
            raise ConfigError(f"`-1 <= target <= 1` must hold, but got target={self.target!r}.")
        if not self.span > 0:
            raise ConfigError(f"`span > 0` must hold, but got span={self.span!r}.")
        if not 0 < self.h_min <= 1:
            raise ConfigError(f"`0 < h_min <= 1` must hold, but got h_min={self.h_min!r}.")

    def init(self) -> State:
        """``(u, progress)``."""
        return 0.0, 0.0

    def step(self, state: State, signals: Signals) -> tuple[State, Controls]:
        """Move u towards where the sign is on target."""
        u, before = state
        lowest = math.log(self.h_min)
        passed = max(signals.progress - before, 0.0)
        direction = (signals.d_sign > self.target) - (signals.d_sign < self.target)
        u = min(max(u + direction * lowest * passed / self.span, lowest), 0.0)
        controls = Controls(lr_g=self.lr_g, lr_d=self.lr_d * math.exp(u), update_ratio=self.update_ratio)
        return (u, signals.progress), controls


@dataclass(frozen=True, kw_only=True)
class LossChange:
    """Whose turn it is by the relative change of the losses (Ouyang, Chen & Agam, WACV 2021, arXiv:2008.12463).

    ``r_d = |(L_d - L_d') / L_d'|``, ``r_g`` likewise, from one reading of the signals to the next; D is updated while
    ``r_d > balance r_g``, G otherwise. Here the averaged losses are read, and "only D" is an update ratio of `most`,
    "only G" one of ``1 / most``, so that both losses go on being seen.
    """

    closed_loop: ClassVar[bool] = True
    """It reads signals other than progress."""

    lr_g: float
    """Learning rate of G, constant."""
    lr_d: float
    """Learning rate of D, constant."""
    balance: float = 1.0
    """lambda, > 0."""
    most: float = 5.0
    """Largest update ratio, in [1, 8]."""

    def __post_init__(self) -> None:
        if not self.balance > 0:
            raise ConfigError(f"`balance > 0` must hold, but got balance={self.balance!r}.")
        if not 1 <= self.most <= MAX_UPDATE_RATIO:
            raise ConfigError(f"`1 <= most <= 8` must hold, but got most={self.most!r}.")

    def init(self) -> State:
        """``(whether losses were read before, L_d, L_g, update ratio)``, losses in the unit of the signals."""
        return 0.0, 0.0, 0.0, 1.0

    def step(self, state: State, signals: Signals) -> tuple[State, Controls]:
        """Compare with the last reading; between readings nothing changes."""
        seen, loss_d, loss_g, ratio = state
        now_d = signals.loss_gap + (1.0 if signals.ideal_d_loss > 0 else 0.0)
        now_g = signals.g_loss
        if not seen or (now_d, now_g) != (loss_d, loss_g):
            if seen:
                d_first = _change(now_d, loss_d) > self.balance * _change(now_g, loss_g)
                ratio = self.most if d_first else 1 / self.most
            state = 1.0, float(now_d), float(now_g), ratio
        return state, Controls(lr_g=self.lr_g, lr_d=self.lr_d, update_ratio=ratio)


_SMALLEST_LOSS = 1e-12


def _change(now: float, before: float) -> float:
    return abs(now - before) / max(abs(before), _SMALLEST_LOSS)
