"""A real GAN of 60 weights on points in the plane, and a reference of the controller in plain Python."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import Adam, Optimizer

from metaopt.integrations.torch import ScheduleController
from metaopt.schedules import Controls, Schedule, ScheduleArtifact, Signals, State, build_schedule

BATCH = 7
LOG_4 = math.log(4)


@dataclass
class Update:
    """What one update of a player looked like, as plain numbers."""

    player: str
    loss: float
    grad_norm: float
    real: list[float]
    fake: list[float]


class TinyGan:
    """Two networks, two optimizers, one stream of random numbers."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.g = self._network(2)
        self.d = self._network(1)
        for network in (self.g, self.d):
            network.to(dtype)
        self.dtype = dtype
        self.optimizer_g: Optimizer = Adam(self.g.parameters(), betas=(0.5, 0.999))
        self.optimizer_d: Optimizer = Adam(self.d.parameters(), betas=(0.5, 0.999))

    def step(self, controller: ScheduleController) -> Update:
        """One update of the player whose turn it is, as a user's loop does it."""
        player = controller.turn
        fake = self.g(self._normal())
        if player == "d":
            real = self.d(self._normal() * 0.3 + 1.0)
            logits = self.d(fake.detach())
            loss = softplus(-real).mean() + softplus(logits).mean()
            self._descend(self.optimizer_d, loss)
            controller.update(loss, real_logits=real, fake_logits=logits)
            return _seen(player, loss, self.d, real, logits)
        loss = softplus(-self.d(fake)).mean()
        self._descend(self.optimizer_g, loss)
        controller.update(loss)
        return _seen(player, loss, self.g)

    def state_dict(self) -> dict[str, Any]:
        """All that changes, less the controller."""
        parts = {name: getattr(self, name).state_dict() for name in ("g", "d", "optimizer_g", "optimizer_d")}
        return parts | {"random": self.random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("g", "d", "optimizer_g", "optimizer_d"):
            getattr(self, name).load_state_dict(state[name])
        self.random.set_state(state["random"])

    def rates(self) -> tuple[float, float]:
        """Learning rates in the optimizers, of G and of D."""
        return self.optimizer_g.param_groups[0]["lr"], self.optimizer_d.param_groups[0]["lr"]

    def _network(self, out: int) -> nn.Sequential:
        network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, out))
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.5, generator=self.random)
        return network

    def _normal(self) -> Tensor:
        return torch.randn(BATCH, 2, generator=self.random, dtype=self.dtype)

    def _descend(self, optimizer: Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _seen(player: str, loss: Tensor, network: nn.Module, *logits: Tensor) -> Update:
    squares = [g * g for p in network.parameters() if p.grad is not None for g in p.grad.flatten().tolist()]
    real, fake = [[float(x) for x in values.detach().flatten()] for values in logits] or ([], [])
    return Update(player, loss.item(), math.sqrt(sum(squares)), real, fake)


class ReadsAll:
    """A closed-loop schedule with a memory: every signal moves every control."""

    closed_loop = True

    def init(self) -> State:
        return 0.0, 1.0

    def step(self, state: State, signals: Signals) -> tuple[State, Controls]:
        count, memory = state
        mix = math.tanh(
            signals.loss_gap
            + 0.3 * signals.d_sign
            - 0.5 * signals.d_accuracy
            + 0.2 * signals.g_loss
            + 0.1 * signals.log_grad_ratio
            + 0.4 * signals.kid_p
            + signals.progress
        )
        memory = 0.9 * memory + 0.1 * mix
        controls = Controls(lr_g=2e-3 * (1 + mix / 2), lr_d=2e-3 * (1 + memory / 2), update_ratio=1.3 + mix)
        return (count + 1, memory), controls


KNOTS = build_schedule(
    "knots",
    {
        **{"lr_g_0": 1e-4, "lr_g_1": 4e-3, "lr_g_2": 1e-3},
        **{"lr_d_0": 3e-3, "lr_d_1": 1e-4, "lr_d_2": 2e-3},
        **{"update_ratio_0": 0.5, "update_ratio_1": 3.0, "update_ratio_2": 1.0},
    },
)
GAP_AWARE = ScheduleArtifact(
    family="gap_aware",
    params={"lr_g": 5e-3, "lr_d": 5e-3, "update_ratio": 1.5, "h_min": 0.1, "f_max": 2.0, "x_min": 0.5, "x_max": 0.5},
)
SCHEDULES: dict[str, Schedule] = {"knots": KNOTS, "gap_aware": GAP_AWARE, "reads_all": ReadsAll()}


@dataclass
class Reference:
    """The controller's contract once more, in plain Python on recorded numbers; it never sees a tensor."""

    schedule: Schedule
    iterations: float
    d_cost: float
    every: int
    ideal: float = LOG_4
    made: dict[str, int] = field(default_factory=lambda: {"d": 0, "g": 0})
    signals: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loss_d, self.loss_g, self.sign, self.accuracy = self.ideal, self.ideal / 2, 0.0, 0.5
        self.norms: dict[str, float] = {}
        self.ratio: float | None = None
        self.fresh = False
        self.signals = {
            **{"progress": 0.0, "loss_gap": 0.0, "d_sign": 0.0},
            **{"d_accuracy": 0.5, "g_loss": 0.5, "log_grad_ratio": 0.0},
            **{"ideal_d_loss": self.ideal, "kid_tests": 0.0, "kid_p": 0.0},
        }
        self.state, self.controls = self.schedule.step(self.schedule.init(), Signals(**self.signals))
        self.owed = self.controls.update_ratio

    @property
    def turn(self) -> str:
        return "d" if self.owed > 1e-9 else "g"

    @property
    def iteration(self) -> float:
        return self.made["d"] * self.d_cost + self.made["g"] * (1 - self.d_cost)

    def update(self, update: Update) -> None:
        """Account for one recorded update."""
        player = update.player
        self.made[player] += 1
        self.owed += -1 if player == "d" else self.controls.update_ratio
        if player == "d":
            right = [x > 0 for x in update.real] + [x < 0 for x in update.fake]
            signs = [1 if x > 0 else -1 for x in update.real]
            self.loss_d = 0.95 * self.loss_d + 0.05 * update.loss
            self.sign = 0.95 * self.sign + 0.05 * sum(signs) / len(signs)
            self.accuracy = 0.95 * self.accuracy + 0.05 * sum(right) / len(right)
        else:
            self.loss_g = 0.95 * self.loss_g + 0.05 * update.loss
        measured = self.made[player] % self.every == 0
        if measured:
            self.norms[player] = update.grad_norm
        self.fresh = measured and player == "d"
        if self.fresh:
            self._read()
        self.signals["progress"] = min(self.iteration / self.iterations, 1.0)
        self.state, self.controls = self.schedule.step(self.state, Signals(**self.signals))

    def observe_kid(self, p: float) -> None:
        """Account for a test of the generator."""
        self.signals |= {"kid_tests": self.signals["kid_tests"] + 1, "kid_p": p}
        self.state, self.controls = self.schedule.step(self.state, Signals(**self.signals))

    def _read(self) -> None:
        if len(self.norms) == 2:
            now = math.log(self.norms["d"] / self.norms["g"])
            self.ratio = now if self.ratio is None else (self.ratio + now) / 2
        self.signals |= {
            "loss_gap": self.loss_d / self.ideal - 1,
            "d_sign": self.sign,
            "d_accuracy": self.accuracy,
            "g_loss": self.loss_g / self.ideal,
            "log_grad_ratio": self.ratio or 0.0,
        }
