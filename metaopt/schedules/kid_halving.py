"""Rates that are halved where the generator has stopped getting better, as a test on its images says."""

from dataclasses import dataclass
from typing import ClassVar

from metaopt.errors import ConfigError
from metaopt.schedules.types import Controls, Signals, State


@dataclass(frozen=True, kw_only=True)
class KidHalving:
    """Learning rates by the three-sample test (Binkowski et al. ICLR 2018, arXiv:1801.01401), of both players alike.

    Each new test that the generator is not better than it was, with the p-value p (`Signals.kid_p`)::

        failures <- failures + 1 if p > p_value else 0
        failures >= patience:  halvings <- halvings + 1, failures <- 0
        lr = base factor^halvings

    As published with ``p_value = 0.1, patience = 3, factor = 1/2``, but for two things: the rates have no lower bound
    (there 1e-6), and the past generators that are compared with stay the same after a halving (there but three are
    forgotten), so that the count alone starts again.
    """

    closed_loop: ClassVar[bool] = True
    """It reads signals other than progress."""
    reads_kid: ClassVar[bool] = True
    """It needs the tests, which a training makes for those that ask only."""

    lr_g: float
    """First learning rate of G."""
    lr_d: float
    """First learning rate of D."""
    update_ratio: float = 1.0
    """D updates per G update, constant."""
    p_value: float = 0.1
    """Above it a test counts as failed, in [0, 1]."""
    patience: float = 3.0
    """Failures in a row that halve the rates, >= 1; between whole numbers it is the next one."""
    factor: float = 0.5
    """What the rates are multiplied by, in (0, 1]; 1: they are constant."""

    def __post_init__(self) -> None:
        if not 0 <= self.p_value <= 1:
            raise ConfigError(f"`0 <= p_value <= 1` must hold, but got p_value={self.p_value!r}.")
        if not self.patience >= 1:
            raise ConfigError(f"`patience >= 1` must hold, but got patience={self.patience!r}.")
        if not 0 < self.factor <= 1:
            raise ConfigError(f"`0 < factor <= 1` must hold, but got factor={self.factor!r}.")

    def init(self) -> State:
        """``(tests seen, failures in a row, halvings)``."""
        return 0.0, 0.0, 0.0

    def step(self, state: State, signals: Signals) -> tuple[State, Controls]:
        """Count the test if it is a new one; between tests nothing changes."""
        seen, failures, halvings = state
        if signals.kid_tests > seen:
            seen = float(signals.kid_tests)
            failures = failures + 1 if signals.kid_p > self.p_value else 0.0
            if failures >= self.patience:
                failures, halvings = 0.0, halvings + 1
        share = self.factor**halvings
        controls = Controls(lr_g=self.lr_g * share, lr_d=self.lr_d * share, update_ratio=self.update_ratio)
        return (seen, failures, halvings), controls
