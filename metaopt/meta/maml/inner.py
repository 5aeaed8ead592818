"""Inner loops: weights after some updates on a support set, as a function of the first ones."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.schedules import Schedule, Signals
from metaopt.schedules.turns import Player, after_update, next_player
from metaopt.schedules.types import LOG_4

Batch = TypeVar("Batch")
Weights = Mapping[Player, Mapping[str, Tensor]]
"""Player -> name -> tensor."""
Loss = Callable[[Weights, Batch], Tensor]
"""What a player minimises, (), as a function of everybody's weights and a batch that holds all that is random."""
Derivatives = Literal["second", "first", "none"]
"""How the result depends on the first weights: fully; with the inner gradients taken as constants; not at all."""


@dataclass(frozen=True, kw_only=True)
class Players(Generic[Batch]):
    """Who is adapted. A single player is "g"."""

    losses: Mapping[Player, Loss[Batch]]
    frozen: Mapping[Player, frozenset[str]] = field(default_factory=dict)
    """Weights that inner loops leave as they are (ANIL: all but the head; FreezeD: the lower layers of D)."""
    ideal_d_loss: float = LOG_4
    """V* of the game, for schedules that tell losses apart."""
    copies: int | None = None
    """Episodes that are adapted to side by side, where the players are `stacked`."""

    def __post_init__(self) -> None:
        if self.copies is not None and self.copies < 1:
            raise ConfigError(f"`copies >= 1` must hold, but got copies={self.copies!r}.")
        if "g" not in self.losses:
            raise ConfigError(f"`losses` must have the player 'g', but has {sorted(self.losses)}.")


def stacked(players: Players[Batch], copies: int) -> Players[Batch]:
    """Players that adapt to `copies` episodes at once: one pass of large tensors where many small ones take longer.

    Their batches are those of `players` with a first dimension of `copies` in each tensor. Losses must be made of
    operations that `torch.vmap` knows; they are summed, so that each copy has its own gradient.
    """

    def summed(loss: Loss[Batch]) -> Loss[Batch]:
        return lambda weights, batch: torch.vmap(loss)(weights, batch).sum()

    return replace(players, losses={player: summed(loss) for player, loss in players.losses.items()}, copies=copies)


@dataclass(frozen=True, kw_only=True)
class Episode(Generic[Batch]):
    """One task of meta-learning: what players adapt to, and what they are judged on then."""

    support: Sequence[Batch]
    query: Sequence[Batch]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Learned multipliers of the schedule's rates, by player and weight."""

    values: Weights
    """Each of the shape of its weight (Meta-SGD), or (steps,) where `per_step` (MAML++)."""
    per_step: bool = False

    def of(self, player: Player, name: str, step: int) -> Tensor:
        """What the step of a weight is multiplied by; past the steps that were learned, as at the last of them."""
        value = self.values[player][name]
        return value[min(step, len(value) - 1)] if self.per_step else value


@dataclass(frozen=True, kw_only=True)
class Inner:
    """The inner loop. A step is the D updates that the update ratio owes, then one of G; a single player has one."""

    schedule: Schedule
    """Rates of plain gradient steps, and the update ratio. It is told the progress; other signals stay in balance."""
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"`steps >= 1` must hold, but got steps={self.steps!r}.")


def adapt(
    players: Players[Batch],
    weights: Weights,
    support: Sequence[Batch],
    inner: Inner,
    rates: Rates | None = None,
    *,
    derivatives: Derivatives,
) -> Iterator[Weights]:
    """The weights after each step of ``w <- w - lr(t) rate * grad L``, lr(t) the schedule's.

    Args:
        players: whose losses are followed.
        weights: where to start; they must require gradients unless `derivatives` is "none".
        support: batches; update n of a player takes number n modulo their count.
        inner: schedule and steps.
        rates: multipliers; none: 1.
        derivatives: what the result can be differentiated by.
    """
    if derivatives == "none":
        weights = leaves(weights)
    for step, turns in enumerate(updates(players, inner)):
        for player, number, lr in turns:
            rate = partial(_rate, lr, rates, player, step)
            batch = support[number % len(support)]
            weights = {**weights, player: _updated(players, weights, player, batch, rate, derivatives=derivatives)}
        yield weights


class Update(NamedTuple):
    """One update of an inner loop."""

    player: Player
    number: int
    """Updates that the player has had before."""
    lr: float


def updates(players: Players[Batch], inner: Inner) -> Iterator[list[Update]]:
    """What each step of the inner loop does: the updates of D that are owed, then one of G."""
    schedule, state = inner.schedule, inner.schedule.init()
    owed, n_updates = None, Counter[Player]()
    for step in range(inner.steps):
        now = Signals(progress=step / inner.steps, ideal_d_loss=players.ideal_d_loss)
        state, controls = schedule.step(state, now)
        owed = controls.update_ratio if owed is None else owed
        found = []
        for player in _turns(players, owed):
            found.append(Update(player, n_updates[player], controls.lr_d if player == "d" else controls.lr_g))
            owed = after_update(owed, player, controls.update_ratio)
            n_updates[player] += 1
        yield found


def _turns(players: Players[Batch], owed: float) -> Iterator[Player]:
    while "d" in players.losses and next_player(owed) == "d":
        yield "d"
        owed -= 1
    yield "g"


def _rate(lr: float, rates: Rates | None, player: Player, step: int, name: str) -> float | Tensor:
    return lr if rates is None else lr * rates.of(player, name, step)


def _updated(
    players: Players[Batch],
    weights: Weights,
    player: Player,
    batch: Batch,
    rate: Callable[[str], float | Tensor],
    *,
    derivatives: Derivatives,
) -> Mapping[str, Tensor]:
    # A view of one's own, or the gradient would include what these weights have done to the other player before.
    own = {name: weight.view_as(weight) for name, weight in weights[player].items()}
    moving = [name for name in own if name not in players.frozen.get(player, frozenset())]
    if not moving:
        return weights[player]
    gradients = torch.autograd.grad(
        players.losses[player]({**weights, player: own}, batch),
        [own[name] for name in moving],
        create_graph=derivatives == "second",
        materialize_grads=True,
    )
    after = dict(own)
    for name, gradient in zip(moving, gradients, strict=True):
        after[name] = own[name] - rate(name) * gradient
    return leaves({player: after})[player] if derivatives == "none" else after


def leaves(weights: Weights) -> dict[Player, dict[str, Tensor]]:
    """The same values, to be differentiated by; they share memory."""
    return {player: {name: w.detach().requires_grad_() for name, w in of.items()} for player, of in weights.items()}
