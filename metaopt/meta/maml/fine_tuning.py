"""Fine-tuning: what adapts a start that was not learned for plain gradient steps."""

from collections.abc import Iterator, Sequence

import torch
from torch.optim import Adam

from metaopt.meta.maml.inner import Batch, Inner, Players, Weights, leaves, updates

BETAS = (0.5, 0.999)
"""Radford et al. 2016."""


def fine_tune(players: Players[Batch], weights: Weights, support: Sequence[Batch], inner: Inner) -> Iterator[Weights]:
    """The weights after each step of the inner loop with Adam in place of plain gradient steps.

    Args:
        players: whose losses are followed; what they freeze stays.
        weights: where to start; not changed.
        support: batches, taken as in `adapt`.
        inner: schedule and steps.
    """
    own = leaves({player: {name: w.clone() for name, w in of.items()} for player, of in weights.items()})
    moving = {
        player: [w for name, w in of.items() if name not in players.frozen.get(player, frozenset())]
        for player, of in own.items()
    }
    optimizers = {player: Adam(of, betas=BETAS) for player, of in moving.items() if of}
    for turns in updates(players, inner):
        for player, number, lr in turns:
            if player not in optimizers:
                continue
            loss = players.losses[player](own, support[number % len(support)])
            for weight, gradient in zip(moving[player], torch.autograd.grad(loss, moving[player]), strict=True):
                weight.grad = gradient
            optimizers[player].param_groups[0]["lr"] = lr
            optimizers[player].step()
        yield {player: {name: w.detach().clone() for name, w in of.items()} for player, of in own.items()}
