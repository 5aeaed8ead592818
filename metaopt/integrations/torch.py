"""Follow a schedule in any PyTorch loop: a controller over two optimizers, and a pair of LR schedulers.

metaopt's own trainings run on the same controller, so a schedule means the same in both places.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from metaopt.errors import ConfigError
from metaopt.schedules.artifact import ScheduleArtifact
from metaopt.schedules.turns import Player, after_update, next_player
from metaopt.schedules.types import LOG_4, Controls, Schedule, Signals, State, loss_scale

DECAY = 0.95
GRAD_RATIO_DECAY = 0.5
_SMALLEST_NORM = 1e-12


class ScheduleController:
    """Says whose turn it is, sets the learning rates, and gathers the signals for closed-loop schedules.

    Losses and logits stay where they are and are read once in `signals_every` updates of D, so that a GPU is not
    synchronised at every step. Call order: ``zero_grad, backward, optimizer.step(), controller.update(...)``.

    Example::

        controller = ScheduleController(load_schedule("best.json"), opt_g, opt_d, iterations=10_000)
        while not controller.done:
            if controller.turn == "d":
                ...                                     # zero_grad, loss_d.backward(), opt_d.step()
                controller.update(loss_d, real_logits=real, fake_logits=fake)
            else:
                ...                                     # zero_grad, loss_g.backward(), opt_g.step()
                controller.update(loss_g)
    """

    def __init__(
        self,
        schedule: Schedule,
        optimizer_g: Optimizer,
        optimizer_d: Optimizer,
        *,
        iterations: float,
        d_cost: float = 0.5,
        ideal_d_loss: float | None = None,
        signals_every: int = 10,
    ) -> None:
        """Set the learning rates for the first update.

        Args:
            schedule: what to follow; a `ScheduleArtifact` brings its own `ideal_d_loss`.
            optimizer_g: optimizer of the generator.
            optimizer_d: optimizer of the discriminator.
            iterations: the budget; one iteration is the compute of one D update plus one G update; > 0.
            d_cost: compute of one D update as a share of an iteration, in (0, 1); 0.5 if both cost the same.
            ideal_d_loss: V*, log 4 for the non-saturating loss, 0 for a Wasserstein loss; >= 0.
            signals_every: D updates between two readings of the signals, >= 1.
        """
        if not iterations > 0:
            raise ConfigError(f"`iterations > 0` must hold, but got iterations={iterations!r}.")
        if not 0 < d_cost < 1:
            raise ConfigError(f"`0 < d_cost < 1` must hold, but got d_cost={d_cost!r}.")
        if signals_every < 1:
            raise ConfigError(f"`signals_every >= 1` must hold, but got signals_every={signals_every!r}.")
        if ideal_d_loss is None:
            ideal_d_loss = schedule.ideal_d_loss if isinstance(schedule, ScheduleArtifact) else LOG_4
        if not ideal_d_loss >= 0:
            raise ConfigError(f"`ideal_d_loss >= 0` must hold, but got ideal_d_loss={ideal_d_loss!r}.")
        self.schedule = schedule
        self.iterations = float(iterations)
        self.d_updates = 0
        self.g_updates = 0
        self.signals = Signals(progress=0.0, ideal_d_loss=ideal_d_loss)
        self._finite = self.signals.finite
        self._optimizers: dict[Player, Optimizer] = {"g": optimizer_g, "d": optimizer_d}
        self._cost: dict[Player, float] = {"d": d_cost, "g": 1 - d_cost}
        self._ideal_d_loss = ideal_d_loss
        self._scale = loss_scale(ideal_d_loss)
        self._signals_every = signals_every
        self._average_d = (ideal_d_loss, 0.0, 0.5)
        self._average_g = self._scale / 2
        self._unread_d: list[tuple[Tensor, Tensor | None, Tensor | None]] = []
        self._unread_g: list[Tensor] = []
        self._log_norm: dict[Player, Tensor | None] = {"d": None, "g": None}  # in this order
        self._latest: Player | None = None
        self._log_grad_ratio: float | None = None
        self._state: State = schedule.init()
        self._state, self.controls = schedule.step(self._state, self.signals)
        self._owed = self.controls.update_ratio
        self._apply()

    @property
    def turn(self) -> Player:
        """The player to update next: "d" or "g"."""
        return next_player(self._owed)

    @property
    def iteration(self) -> float:
        """Iterations spent so far, charged by compute."""
        return self.d_updates * self._cost["d"] + self.g_updates * self._cost["g"]

    @property
    def progress(self) -> float:
        """Share of the budget spent, in [0, 1]."""
        return min(self.iteration / self.iterations, 1.0)

    @property
    def done(self) -> bool:
        """Whether the budget is spent."""
        return self.iteration >= self.iterations * (1 - 1e-12)

    @property
    def fresh(self) -> bool:
        """Whether the latest update was one at which the signals were read."""
        return self._latest == "d" and self._measuring("d")

    @property
    def log_grad_norms(self) -> tuple[float, float]:
        """``ln |grad|`` of D and G as last measured; 0 before the first measurement."""
        norm_d, norm_g = (0.0 if norm is None else float(norm) for norm in self._log_norm.values())
        return norm_d, norm_g

    @property
    def losses(self) -> tuple[float, float]:
        """Averages of the losses of D and G as last read."""
        return self.signals.loss_gap * self._scale + self._ideal_d_loss, self.signals.g_loss * self._scale

    def update(self, loss: Tensor, *, real_logits: Tensor | None = None, fake_logits: Tensor | None = None) -> None:
        """Account for the update that the player of this turn has just made, and set the rates for the next one.

        Args:
            loss: the player's loss, a scalar.
            real_logits: D's outputs on real images, any shape, for `d_sign` and `d_accuracy`; D's turn only.
            fake_logits: D's outputs on generated images, likewise.
        """
        player = self.turn
        if loss.dim() != 0:
            raise ConfigError(f"`loss` must be a scalar, but got the shape {tuple(loss.shape)}.")
        if player == "g" and not (real_logits is None and fake_logits is None):
            raise ConfigError("`real_logits` and `fake_logits` must come with D's updates, but it is G's turn.")
        if player == "d":
            self.d_updates += 1
            self._unread_d.append((loss.detach(), _detached(real_logits), _detached(fake_logits)))
        else:
            self.g_updates += 1
            self._unread_g.append(loss.detach())
        measuring = self._measuring(player)
        if measuring:
            self._log_norm[player] = _log_grad_norm(self._optimizers[player])
        self._latest = player
        self._owed = after_update(self._owed, player, self.controls.update_ratio)
        if measuring and player == "d":
            self.signals = self._read()
            self._finite = self.signals.finite
        else:
            self.signals = _at(self.signals, self.progress)
        self._follow()

    def observe_kid(self, p: float) -> None:
        """Tell the schedule of a new test of the generator; it answers at once, and keeps the p-value until the next.

        For schedules whose `reads_kid` is true, such as those of the family kid_halving. Between the tests lies a
        constant share of the budget; metaopt's own trainings make ten an evaluation.

        Args:
            p: p-value, in [0, 1], that the generator is not better than it was ten such times ago, as
                ``metaopt.metrics.p_not_better`` takes it. None is due before the eleventh.
        """
        if not 0 <= p <= 1:
            raise ConfigError(f"`0 <= p <= 1` must hold, but got p={p!r}.")
        self.signals = replace(self.signals, kid_tests=self.signals.kid_tests + 1, kid_p=float(p))
        self._follow()

    def switch_to(self, schedule: Schedule) -> None:
        """Follow another schedule from its beginning; what it says at this moment holds for the next update."""
        self.schedule, self._state = schedule, schedule.init()
        self._follow()

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, as plain numbers; loads with ``torch.load(weights_only=True)`` or from JSON."""
        self._gather()
        return {
            "d_updates": self.d_updates,
            "g_updates": self.g_updates,
            "owed": self._owed,
            "latest": self._latest,
            "state": list(self._state),
            "signals": {name: getattr(self.signals, name) for name in Signals.__slots__},
            "controls": [self.controls.lr_g, self.controls.lr_d, self.controls.update_ratio],
            "average_d": list(self._average_d),
            "average_g": self._average_g,
            "log_norm": {k: None if v is None else float(v) for k, v in self._log_norm.items()},
            "log_grad_ratio": self._log_grad_ratio,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, and set the learning rates of that moment."""
        self.d_updates, self.g_updates = state["d_updates"], state["g_updates"]
        self._owed = state["owed"]
        self._latest = state["latest"]
        self._state = tuple(state["state"])
        self.signals = replace(Signals(**state["signals"]), ideal_d_loss=self._ideal_d_loss)
        self._finite = self.signals.finite
        lr_g, lr_d, update_ratio = state["controls"]
        self.controls = Controls(lr_g=lr_g, lr_d=lr_d, update_ratio=update_ratio)
        self._average_d = tuple(state["average_d"])
        self._average_g = state["average_g"]
        self._unread_d, self._unread_g = [], []
        norms = {k: None if v is None else torch.tensor(v, dtype=torch.float64) for k, v in state["log_norm"].items()}
        self._log_norm = {"d": norms["d"], "g": norms["g"]}
        self._log_grad_ratio = state["log_grad_ratio"]
        self._apply()

    def _follow(self) -> None:
        """Set what the schedule says to the signals of this moment."""
        if self._finite:  # rates after a NaN would be NaN too: keep the last ones, the caller sees `signals`
            self._state, self.controls = self.schedule.step(self._state, self.signals)
        self._apply()

    def _measuring(self, player: Player) -> bool:
        updates = self.d_updates if player == "d" else self.g_updates
        return updates > 0 and updates % self._signals_every == 0

    @torch.no_grad()
    def _gather(self) -> None:
        """Bring the averages up to date: one transfer for all updates since the last time."""
        reals = [real for _, real, _ in self._unread_d if real is not None]
        fakes = [fake for _, _, fake in self._unread_d if fake is not None]
        losses = [loss for loss, _, _ in self._unread_d]
        numbers = iter(_numbers([*losses, *self._unread_g], [*reals, *fakes]))
        of_losses, of_g, of_reals, of_fakes = (
            iter([next(numbers) for _ in of]) for of in (losses, self._unread_g, reals, fakes)
        )
        for _, real, fake in self._unread_d:
            loss_d, sign, accuracy = self._average_d
            loss_d = _averaged(loss_d, next(of_losses))
            now_real = next(of_reals) if real is not None else None
            now_fake = next(of_fakes) if fake is not None else None
            if now_real is not None:
                sign = _averaged(sign, now_real)
            if now_real is not None and now_fake is not None:
                # a logit of exactly 0 counts as half right
                accuracy = _averaged(accuracy, 0.5 + (now_real - now_fake) / 4)
            self._average_d = (loss_d, sign, accuracy)
        for loss_g in of_g:
            self._average_g = _averaged(self._average_g, loss_g)
        self._unread_d, self._unread_g = [], []

    def _read(self) -> Signals:
        self._gather()
        loss_d, d_sign, d_accuracy = self._average_d
        norm_d, norm_g = self._log_norm["d"], self._log_norm["g"]
        if norm_d is not None and norm_g is not None:
            now = float(norm_d) - float(norm_g)
            before = now if self._log_grad_ratio is None else self._log_grad_ratio
            self._log_grad_ratio = GRAD_RATIO_DECAY * before + (1 - GRAD_RATIO_DECAY) * now
        return replace(
            self.signals,
            progress=self.progress,
            loss_gap=(loss_d - self._ideal_d_loss) / self._scale,
            d_sign=d_sign,
            d_accuracy=d_accuracy,
            g_loss=self._average_g / self._scale,
            log_grad_ratio=self._log_grad_ratio or 0.0,
        )

    def _apply(self) -> None:
        _set_lr(self._optimizers["g"], self.controls.lr_g)
        _set_lr(self._optimizers["d"], self.controls.lr_d)


def _detached(logits: Tensor | None) -> Tensor | None:
    return None if logits is None else logits.detach()


def _averaged(average: float, now: float) -> float:
    return DECAY * average + (1 - DECAY) * now


def _numbers(losses: list[Tensor], logits: list[Tensor]) -> list[float]:
    """The losses, then the mean sign of each tensor of logits: few operations and one transfer where they are alike."""
    parts = [torch.stack(part) for part in _alike(losses)]
    parts += [torch.stack(part).sign().reshape(len(part), -1).mean(1, dtype=torch.float32) for part in _alike(logits)]
    return torch.cat([part.float() for part in parts]).tolist() if parts else []


def _alike(tensors: list[Tensor]) -> list[list[Tensor]]:
    """All together where they have one shape and type, else each alone."""
    one = len({(x.shape, x.dtype) for x in tensors}) == 1
    return [tensors] if one else [[x] for x in tensors]


def _at(signals: Signals, progress: float) -> Signals:
    """Before each update of either player: half the time that `dataclasses.replace` takes."""
    return Signals(
        progress=progress,
        loss_gap=signals.loss_gap,
        d_sign=signals.d_sign,
        d_accuracy=signals.d_accuracy,
        g_loss=signals.g_loss,
        log_grad_ratio=signals.log_grad_ratio,
        ideal_d_loss=signals.ideal_d_loss,
        kid_tests=signals.kid_tests,
        kid_p=signals.kid_p,
    )


@torch.no_grad()
def _log_grad_norm(optimizer: Optimizer) -> Tensor | None:
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not grads:  # cleared before `update`: unknown
        return None
    return torch.nn.utils.get_total_norm(grads).clamp_min(_SMALLEST_NORM).log()


def _set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


class ScheduleLR(LRScheduler):
    """The learning rate of one player of an open-loop schedule, as a PyTorch scheduler stepped once an iteration.

    Sets the rate itself (not a multiple of the optimizer's), in every parameter group:
    ``lr(k) = lr_player(min(k / iterations, 1))`` after ``k`` calls of ``step()``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        *,
        player: Player,
        iterations: int,
        last_epoch: int = -1,
    ) -> None:
        """Set the first rate.

        Args:
            optimizer: the player's optimizer.
            schedule: an open-loop schedule; one that reads signals is refused, as there are none here.
            player: "g" or "d".
            iterations: number of ``step()`` calls that make up the budget, >= 1.
            last_epoch: as in PyTorch: -1 starts anew.
        """
        if getattr(schedule, "closed_loop", False):
            name = schedule.family if isinstance(schedule, ScheduleArtifact) else type(schedule).__name__
            raise ConfigError(
                f"The schedule must read progress alone, as a learning rate scheduler sees no live signals, "
                f"but {name!r} reads them; use ScheduleController."
            )
        if player not in ("d", "g"):
            raise ConfigError(f"`player` must be 'd' or 'g', but got {player!r}.")
        if iterations < 1:
            raise ConfigError(f"`iterations >= 1` must hold, but got iterations={iterations!r}.")
        self.iterations = iterations
        self.player = player
        self._curve = schedule
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The rate in force, once a parameter group."""
        progress = min(self.last_epoch / self.iterations, 1.0)
        ideal_d_loss = self._curve.ideal_d_loss if isinstance(self._curve, ScheduleArtifact) else LOG_4
        signals = Signals(progress=progress, ideal_d_loss=ideal_d_loss)
        _, controls = self._curve.step(self._curve.init(), signals)
        lr = controls.lr_g if self.player == "g" else controls.lr_d
        return [lr] * len(self.optimizer.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers only; the schedule itself is given anew at construction."""
        return {k: v for k, v in super().state_dict().items() if k != "_curve"}


def lr_schedulers(
    schedule: Schedule, optimizer_g: Optimizer, optimizer_d: Optimizer, *, iterations: int
) -> tuple[ScheduleLR, ScheduleLR]:
    """Schedulers for G and D, for loops that keep their own update ratio; ``step()`` each once an iteration."""
    return (
        ScheduleLR(optimizer_g, schedule, player="g", iterations=iterations),
        ScheduleLR(optimizer_d, schedule, player="d", iterations=iterations),
    )
