"""Outer gradients: how first weights, and rates, should change so that adapted players do better on a query set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.meta.maml.inner import Batch, Derivatives, Episode, Inner, Players, Rates, Weights, adapt, leaves
from metaopt.schedules.turns import Player


@dataclass(frozen=True, kw_only=True)
class Outer:
    """What one task says about the first weights."""

    losses: Mapping[Player, float]
    """Of each player after the last step, on the query set; mean over copies, as the gradients are."""
    gradients: Weights
    """By the first weights of the player that the loss is of."""
    rate_gradients: Weights | None = None
    """By its rates, where there are any."""


def maml_gradient(
    players: Players[Batch],
    weights: Weights,
    episode: Episode[Batch],
    inner: Inner,
    rates: Rates | None = None,
    *,
    derivatives: Derivatives = "second",
    step_weights: Sequence[float] | None = None,
) -> Outer:
    """``d/dw sum_s v_s L_query(w_s)``, w_s the weights after s inner steps on the support set.

    MAML (Finn et al. 2017) with v = (0, ..., 0, 1); FOMAML with ``derivatives="first"``, which takes the inner
    gradients as constants, so that the outer gradient is that of the query loss at w_s; Meta-SGD (Li et al. 2017)
    where `rates` are of the shapes of the weights; ANIL (Raghu et al. 2020) where `players` freeze all but the head;
    other v, and rates by layer and step, are those of MAML++ (Antoniou et al. 2019).

    With two players, as in DAWSON (Liang et al. 2020), G has no likelihood on the query set: its outer loss is that
    against a D that goes on from its adapted weights to adapt to the query set, G held, for as many steps. D's is its
    loss on the query set against the adapted G. Ours: each player differentiates its own loss by its own first
    weights, and takes the other's last ones as given, since through them it would learn to make the other fail.

    Args:
        players: who is adapted.
        weights: first weights; they need not require gradients.
        episode: batches of the inner loop, and those for the outer losses, which take the first; D follows on all.
        inner: the inner loop.
        rates: multipliers to learn; none: 1.
        derivatives: "second" or "first".
        step_weights: v, of length `inner.steps`; none: the last step alone.
    """
    if derivatives == "none":
        raise ConfigError("`derivatives` must be 'second' or 'first' for an outer gradient, but got 'none'.")
    values = _one_hot(inner.steps) if step_weights is None else step_weights
    if len(values) != inner.steps:
        raise ConfigError(f"`step_weights` must have {inner.steps} numbers, one a step, but have {len(values)}.")
    first = leaves(weights)
    learned = None if rates is None else replace(rates, values=leaves(rates.values))
    n = players.copies or 1
    losses: dict[Player, Tensor] = {player: torch.zeros(()) for player in players.losses}
    last: dict[Player, Tensor] = {}
    steps = adapt(players, _copied(players, first), episode.support, inner, learned, derivatives=derivatives)
    for value, adapted in zip(values, steps, strict=True):
        if value:
            last = _query_losses(players, adapted, episode.query, inner, learned)
            losses = {player: losses[player] + value / n * loss for player, loss in last.items()}
    found = {player: _gradients(losses[player], first[player], learned, player) for player in losses}
    return Outer(
        losses={player: loss.item() / n for player, loss in last.items()},
        gradients={player: gradients for player, (gradients, _) in found.items()},
        rate_gradients=None if rates is None else {player: of_rates for player, (_, of_rates) in found.items()},
    )


def reptile_gradient(players: Players[Batch], weights: Weights, support: Sequence[Batch], inner: Inner) -> Outer:
    """``w - w_k``, w_k the weights after k inner steps: no derivatives of the inner loop (Nichol et al. 2018).

    Its losses are those on the first batch of the support set.
    """
    start = _copied(players, weights)
    *_, adapted = adapt(players, start, support, inner, derivatives="none")
    with torch.no_grad():
        moved = {p: {name: w - adapted[p][name] for name, w in of.items()} for p, of in start.items()}
        if players.copies is not None:
            moved = {p: {name: by.mean(0) for name, by in of.items()} for p, of in moved.items()}
    losses = {
        player: loss(adapted, support[0]).item() / (players.copies or 1) for player, loss in players.losses.items()
    }
    return Outer(losses=losses, gradients=moved)


def joint_gradient(players: Players[Batch], weights: Weights, episode: Episode[Batch]) -> Outer:
    """The gradient of each player's loss where it stands: no inner loop at all.

    The loss is the mean of those on the first batch of the support set and of the query set.
    """
    first = leaves(weights)
    copied, n = _copied(players, first), players.copies or 1
    batches = episode.support[0], episode.query[0]
    losses = {
        player: torch.stack([loss(copied, batch) for batch in batches]).mean() / n
        for player, loss in players.losses.items()
    }
    found = {player: _gradients(loss, first[player], None, player)[0] for player, loss in losses.items()}
    return Outer(losses={player: loss.item() for player, loss in losses.items()}, gradients=found)


def multi_step_weights(steps: int, progress: float) -> list[float]:
    """MAML++'s v: 1 / N each at progress 0, all on the last step at 1, linear between; sums to 1.

    Args:
        steps: N, >= 1.
        progress: in [0, 1]; Antoniou et al. keep 0.03 / N on the others, here they fade out.
    """
    early = (1 - progress) / steps
    return [early] * (steps - 1) + [1 - early * (steps - 1)]


def _copied(players: Players[Batch], weights: Weights) -> Weights:
    """Weights for each of the copies; as they are where there are none."""
    n = players.copies
    if n is None:
        return weights
    return {player: {name: w.expand(n, *w.shape) for name, w in of.items()} for player, of in weights.items()}


def _one_hot(steps: int) -> list[float]:
    return [0.0] * (steps - 1) + [1.0]


def _query_losses(
    players: Players[Batch], adapted: Weights, query: Sequence[Batch], inner: Inner, rates: Rates | None
) -> dict[Player, Tensor]:
    if "d" not in players.losses:
        return {"g": players.losses["g"](adapted, query[0])}
    held = {player: {name: weight.detach() for name, weight in of.items()} for player, of in adapted.items()}
    follower = _follower(players, held, query, inner, rates)
    return {
        "d": players.losses["d"]({"d": adapted["d"], "g": held["g"]}, query[0]),
        "g": players.losses["g"]({"d": follower, "g": adapted["g"]}, query[0]),
    }


def _follower(
    players: Players[Batch], held: Weights, query: Sequence[Batch], inner: Inner, rates: Rates | None
) -> Mapping[str, Tensor]:
    """D after adapting to the query set, at its learned rates, against a G that does not move."""
    alone = replace(players, frozen={**players.frozen, "g": frozenset(held["g"])})
    *_, after = adapt(alone, held, query, inner, rates, derivatives="none")
    return {name: weight.detach() for name, weight in after["d"].items()}


def _gradients(
    loss: Tensor, weights: Mapping[str, Tensor], rates: Rates | None, player: Player
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    of_rates = {} if rates is None else rates.values[player]
    found = torch.autograd.grad(
        loss, [*weights.values(), *of_rates.values()], retain_graph=True, materialize_grads=True
    )
    n = len(weights)
    return dict(zip(weights, found[:n], strict=True)), dict(zip(of_rates, found[n:], strict=True))
