"""Schedules that read live signals."""

from dataclasses import dataclass
from typing import ClassVar

from metaopt.errors import ConfigError
from metaopt.schedules.types import Controls, Signals, State


@dataclass(frozen=True, kw_only=True)
class GapAware:
    """The gap-aware scheduler (Hazimeh & Ponomareva, AISTATS 2023, arXiv:2302.00089).

    With ``V <- 0.95 V + 0.05 L_D`` from ``V*`` and ``x = |V - V*|``::

        V >  V*:  s = clip(f_max^(x / x_max), 1, f_max)     D is too weak:   raise its learning rate
        V <= V*:  s = clip(h_min^(x / x_min), h_min, 1)     D is too strong: lower it
        lr_d = base * s;  lr_g is left alone

    The signal ``loss_gap`` is ``(V - V*) / V*``, so ``x_min`` and ``x_max`` are stated as fractions of ``V*``;
    a Wasserstein loss has ``V* = 0`` and takes the unit of `loss_scale` in its place.
    The averaging lives in the signal; the schedule itself has no state.
    """

    closed_loop: ClassVar[bool] = True
    """It reads signals other than progress."""

    lr_g: float
    """Learning rate of G, constant."""
    lr_d: float
    """Base learning rate of D."""
    update_ratio: float = 1.0
    """D updates per G update, constant."""
    h_min: float = 0.1
    """Smallest multiplier, in (0, 1]."""
    f_max: float = 2.0
    """Largest multiplier, >= 1."""
    x_min: float = 0.1
    """Gap below V* at which the smallest multiplier is reached, as a fraction of V*, > 0."""
    x_max: float = 0.1
    """Gap above V* at which the largest multiplier is reached, as a fraction of V*, > 0."""

    def __post_init__(self) -> None:
        if not 0 < self.h_min <= 1:
            raise ConfigError(f"`0 < h_min <= 1` must hold, but got h_min={self.h_min!r}.")
        if not self.f_max >= 1:
            raise ConfigError(f"`f_max >= 1` must hold, but got f_max={self.f_max!r}.")
        for name, value in (("x_min", self.x_min), ("x_max", self.x_max)):
            if not value > 0:
                raise ConfigError(f"`{name} > 0` must hold, but got {name}={value!r}.")

    def init(self) -> State:
        """No state."""
        return ()

    def step(self, state: State, signals: Signals) -> tuple[State, Controls]:
        """Scale the base rate of D by the gap of its loss."""
        lr_d = self.lr_d * self.multiplier(signals.loss_gap)
        return state, Controls(lr_g=self.lr_g, lr_d=lr_d, update_ratio=self.update_ratio)

    def multiplier(self, loss_gap: float) -> float:
        """``s`` as a function of ``V / V* - 1``; in [h_min, f_max]."""
        if loss_gap > 0:
            return float(self.f_max ** min(loss_gap / self.x_max, 1.0))
        return float(self.h_min ** min(-loss_gap / self.x_min, 1.0))
