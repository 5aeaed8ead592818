"""Families of tasks for one player: regression on sinusoids, and n-way classification of classes never seen."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metaopt.errors import DataError
from metaopt.meta.maml.inner import Episode, Inner, Players, Rates, Weights, adapt, stacked


class Pairs(NamedTuple):
    """Inputs and what they should give."""

    x: Tensor
    y: Tensor


def single_player(
    module: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], *, frozen: frozenset[str] = frozenset()
) -> Players[Pairs]:
    """One player: ``loss(module(x), y)`` of the module's parameters; inner loops leave the `frozen` ones."""

    def of(weights: Weights, batch: Pairs) -> Tensor:
        return loss(functional_call(module, dict(weights["g"]), (batch.x,)), batch.y)

    return Players(losses={"g": of}, frozen={"g": frozen} if frozen else {})


def predictions(
    module: nn.Module,
    players: Players[Pairs],
    start: Weights,
    episode: Episode[Pairs],
    inner: Inner,
    *,
    rates: Rates | None = None,
) -> Iterator[Tensor]:
    """What an adapted player says to each episode's query inputs, before the first inner step and after each.

    Args:
        module: the player.
        players: the same as of `single_player`.
        start: its weights before.
        episode: n stacked ones.
        inner: the inner loop.
        rates: learned multipliers; none: 1.

    Yields:
        outputs of `module`, (n, ...).
    """
    x = episode.query[0].x
    copied: Weights = {"g": {name: w.detach().expand(len(x), *w.shape) for name, w in start["g"].items()}}
    steps = adapt(stacked(players, len(x)), copied, episode.support, inner, rates, derivatives="none")
    for now in (copied, *steps):
        yield torch.vmap(lambda w, x: functional_call(module, w, (x,)))(dict(now["g"]), x).detach()


def first_weights(module: nn.Module) -> Weights:
    """The parameters of a single player as they are."""
    return {"g": {name: weight.detach() for name, weight in module.named_parameters()}}


def sinusoids(n: int, shots: int, random: torch.Generator) -> Episode[Pairs]:
    """`n` stacked episodes of ``A sin(x - p)``, A in [0.1, 5], p in [0, pi], x in [-5, 5], uniform (Finn et al. 2017).

    `shots` points to adapt to and as many to be judged on, float32 (n, shots, 1).
    """
    amplitude = 0.1 + 4.9 * torch.rand(n, 1, 1, generator=random)
    phase = torch.pi * torch.rand(n, 1, 1, generator=random)

    def drawn() -> Pairs:
        x = 10 * torch.rand(n, shots, 1, generator=random) - 5
        return Pairs(x, amplitude * torch.sin(x - phase))

    return Episode(support=[drawn()], query=[drawn()])


def n_way(images: Tensor, classes: Tensor, *, ways: int, shots: int, n: int, random: torch.Generator) -> Episode[Pairs]:
    """`n` stacked episodes: some classes, numbered anew, with `shots` images each to adapt to and to be judged on.

    Args:
        images: float (N, C, H, W).
        classes: int64 (N,).
        ways: classes an episode.
        shots: images a class.
        n: episodes.
        random: draws classes and images, all without replacement within an episode.

    Returns:
        batches of images (n, ways * shots, C, H, W) and numbers int64 (n, ways * shots).

    Raises:
        DataError: there are fewer classes than `ways`, or a class has fewer than ``2 * shots`` images.
    """
    members = {int(c): (classes == c).nonzero().flatten() for c in classes.unique()}
    if len(members) < ways:
        raise DataError(f"There must be at least {ways} classes for {ways} ways, but there are {len(members)}.")
    for c, found in members.items():
        if len(found) < 2 * shots:
            raise DataError(
                f"A class must have at least {2 * shots} images, {shots} to adapt to and {shots} to be judged on, "
                f"but class {c} has {len(found)}."
            )
    names = list(members)
    support, query = [], []
    for _ in range(n):
        chosen = torch.randperm(len(names), generator=random)[:ways].tolist()
        drawn = [members[names[i]] for i in chosen]
        drawn = [of[torch.randperm(len(of), generator=random)[: 2 * shots]] for of in drawn]
        support.append(torch.cat([of[:shots] for of in drawn]))
        query.append(torch.cat([of[shots:] for of in drawn]))
    y = torch.arange(ways).repeat_interleave(shots).expand(n, -1)
    return Episode(
        support=[Pairs(images[torch.stack(support)], y)],
        query=[Pairs(images[torch.stack(query)], y)],
    )
