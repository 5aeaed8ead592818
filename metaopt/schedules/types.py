"""The vocabulary of schedules: what one reads (Signals), what it sets (Controls), and how it is called."""

import math
from dataclasses import dataclass
from typing import Protocol

from metaopt.errors import ConfigError

MAX_LR = 10.0
MIN_UPDATE_RATIO = 1 / 8
MAX_UPDATE_RATIO = 8.0

LOG_4 = math.log(4)
"""V* of the minimax and the non-saturating loss."""

State = tuple[float, ...]
"""State of a schedule: plain numbers, to be saved as JSON. Open-loop schedules have none: ``()``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Controls:
    """What is in force at one moment of a training."""

    lr_g: float
    """Learning rate of the generator, in [0, 10]."""
    lr_d: float
    """Learning rate of the discriminator, in [0, 10]."""
    update_ratio: float = 1.0
    """Discriminator updates per generator update, in [1/8, 8]."""

    def __post_init__(self) -> None:
        for name in ("lr_g", "lr_d"):
            value = getattr(self, name)
            if not 0 <= value <= MAX_LR:
                raise ConfigError(f"`0 <= {name} <= {MAX_LR:g}` must hold, but got {name}={value!r}.")
        if not MIN_UPDATE_RATIO <= self.update_ratio <= MAX_UPDATE_RATIO:
            raise ConfigError(f"`1/8 <= update_ratio <= 8` must hold, but got update_ratio={self.update_ratio!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Signals:
    """Live statistics that a schedule may read. All are scale-free; defaults are those of a balanced game.

    Every average is exponential with decay 0.95 per update of the player it is about; ``log_grad_ratio`` with
    decay 0.5 per measurement. How they are taken: ``metaopt.integrations.torch``. The two about tests are there only
    where the schedule has an attribute ``reads_kid`` that is true, and otherwise stay at 0.
    """

    progress: float
    """Fraction of the budget that is spent, in [0, 1]."""
    loss_gap: float = 0.0
    """``(V - V*) / scale``, ``V`` the average loss of D, ``V*`` its ideal value, `loss_scale`; < 0: D is winning."""
    d_sign: float = 0.0
    """Average of ``sign D(x)``, x real, in [-1, 1]; near 1: D knows the training images (Karras 2020)."""
    d_accuracy: float = 0.5
    """Average share of images that D puts on the right side of 0, in [0, 1]."""
    g_loss: float = 0.5
    """``L / scale`` with ``L`` the average generator loss; 0.5 in a balanced non-saturating game."""
    log_grad_ratio: float = 0.0
    """``ln(|grad D| / |grad G|)`` of the latest updates, averaged."""
    ideal_d_loss: float = LOG_4
    """V*, >= 0: tells the kinds of losses apart, as which player's rate should be the larger one depends on it."""
    kid_tests: float = 0.0
    """Tests made so far of whether the generator is better than it was ten logging points ago, a whole number >= 0."""
    kid_p: float = 0.0
    """p-value of the latest test, that it is not better, in [0, 1]; see ``metaopt.metrics.p_not_better``."""

    def __post_init__(self) -> None:
        if not 0 <= self.progress <= 1:
            raise ConfigError(f"`0 <= progress <= 1` must hold, but got progress={self.progress!r}.")

    @property
    def finite(self) -> bool:
        """Whether every signal is a finite number."""
        return all(math.isfinite(getattr(self, name)) for name in self.__slots__)


def loss_scale(ideal_d_loss: float) -> float:
    """The unit in which schedules read losses: V* where it is > 0, else 1.

    A Wasserstein loss has V* = 0 and nothing to divide by. Its unit is 1: a distance of 1 between real and
    generated images whose pixels lie in [-1, 1], as far as D is 1-Lipschitz.
    """
    return ideal_d_loss if ideal_d_loss > 0 else 1.0


class Schedule(Protocol):
    """A pure function from (state, signals) to (state, controls). It owns no optimizer and hides nothing."""

    def init(self) -> State:
        """State before the first step."""
        ...

    def step(self, state: State, signals: Signals) -> tuple[State, Controls]:
        """Controls to use now, and the state to pass next time. Called before each update of either player."""
        ...
