"""Schedules that read progress alone."""

from dataclasses import dataclass

from metaopt.schedules.curves import Curve
from metaopt.schedules.types import Controls, Signals, State


@dataclass(frozen=True, kw_only=True)
class OpenLoop:
    """One curve per control; stateless."""

    lr_g: Curve
    """Progress -> learning rate of G."""
    lr_d: Curve
    """Progress -> learning rate of D."""
    update_ratio: Curve
    """Progress -> D updates per G update."""

    def init(self) -> State:
        """No state."""
        return ()

    def step(self, state: State, signals: Signals) -> tuple[State, Controls]:
        """Read each curve at ``signals.progress``."""
        t = signals.progress
        return state, Controls(lr_g=self.lr_g(t), lr_d=self.lr_d(t), update_ratio=self.update_ratio(t))
