"""The outer loop: an initialisation, and rates, learned over many episodes. It yields; others log, stop and save."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import Tensor
from torch.optim import Adam

from metaopt.errors import ConfigError
from metaopt.meta.maml.algorithms import Algorithm
from metaopt.meta.maml.inner import Batch, Episode, Inner, Players, Rates, Weights, leaves
from metaopt.meta.maml.outer import Outer, joint_gradient, maml_gradient, multi_step_weights, reptile_gradient
from metaopt.schedules.turns import Player


@dataclass(frozen=True, kw_only=True)
class OuterRecord:
    """One outer iteration."""

    iteration: int
    """Counted from 1."""
    losses: Mapping[Player, float]
    """Mean over episodes, on the query sets after adaptation; Reptile: on the support sets; joint: on both, before."""
    gradient_norm: float
    """Of the outer gradient by the weights of all players."""
    diverged: bool = False
    """Whether a loss or the gradient was not finite; then nothing was changed, and this is the last record."""


class MetaTraining(Generic[Batch]):
    """Everything of a meta-training that changes. `run` advances it; `state_dict` takes it along.

    Adam takes the mean outer gradient over the episodes of an iteration, each player's apart. (Nichol et al. move
    plainly towards the adapted weights, Clouatre takes Adam; so do we, for all algorithms.)
    """

    def __init__(
        self,
        players: Players[Batch],
        weights: Weights,
        inner: Inner,
        algorithm: Algorithm,
        *,
        lr: float,
        iterations: int,
        beta1: float = 0.9,
    ) -> None:
        """Start from `weights`, which are copied.

        Args:
            players: who is adapted.
            weights: random ones, or pretrained.
            inner: the inner loop.
            algorithm: of `ALGORITHMS`; one that moves the head alone needs `players` that freeze the rest.
            lr: Adam's learning rate for weights and multipliers, > 0.
            iterations: outer iterations, >= 1.
            beta1: Adam's decay of the mean gradient, in [0, 1); 0.5 is usual for GANs.
        """
        if not (0 < lr < math.inf and iterations >= 1):
            raise ConfigError(
                f"`lr > 0` and `iterations >= 1` must hold, but got lr={lr!r} and iterations={iterations!r}."
            )
        if algorithm.head_only and not players.frozen:
            raise ConfigError("An algorithm that moves the head alone must have players that freeze the rest.")
        self.players, self.inner, self.algorithm, self.iterations = players, inner, algorithm, iterations
        self.iteration = 0
        self._weights = leaves({player: {name: w.clone() for name, w in of.items()} for player, of in weights.items()})
        self._rates = _first_rates(self._weights, players, algorithm, inner.steps)
        self._optimizer = Adam(self._tensors(), lr=lr, betas=(beta1, 0.999))

    @property
    def weights(self) -> Weights:
        """The initialisation as it is now; it goes on changing."""
        return self._weights

    @property
    def rates(self) -> Rates | None:
        """Learned multipliers, where the algorithm has any."""
        return self._rates

    def run(self, episodes: Iterator[Sequence[Episode[Batch]]]) -> Iterator[OuterRecord]:
        """Take one item of `episodes` an iteration, until all are done or the training has diverged."""
        while self.iteration < self.iterations:
            parts = [self._gradient(episode) for episode in next(episodes)]
            losses = {player: math.fsum(p.losses[player] for p in parts) / len(parts) for player in parts[0].losses}
            for tensor, gradients in zip(self._tensors(), zip(*map(self._flat, parts), strict=True), strict=True):
                tensor.grad = torch.stack(gradients).mean(0)
            of_weights = [tensor.grad for of in self._weights.values() for tensor in of.values()]
            norm = float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in of_weights if g is not None])))
            self.iteration += 1
            diverged = not all(map(math.isfinite, (*losses.values(), norm)))
            if not diverged:
                self._optimizer.step()
            yield OuterRecord(iteration=self.iteration, losses=losses, gradient_norm=norm, diverged=diverged)
            if diverged:
                return

    def state_dict(self) -> dict[str, Any]:
        """All that changes: tensors and plain values."""
        return {
            "iteration": self.iteration,
            "tensors": [tensor.detach() for tensor in self._tensors()],
            "optimizer": self._optimizer.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.iteration = state["iteration"]
        for tensor, saved in zip(self._tensors(), state["tensors"], strict=True):
            tensor.copy_(saved)
        self._optimizer.load_state_dict(state["optimizer"])

    def _gradient(self, episode: Episode[Batch]) -> Outer:
        if self.algorithm.joint:
            return joint_gradient(self.players, self._weights, episode)
        if self.algorithm.derivatives == "none":
            return reptile_gradient(self.players, self._weights, episode.support, self.inner)
        step_weights = None
        if self.algorithm.multi_step:
            step_weights = multi_step_weights(self.inner.steps, self.iteration / self.iterations)
        return maml_gradient(
            self.players,
            self._weights,
            episode,
            self.inner,
            self._rates,
            derivatives=self.algorithm.derivatives,
            step_weights=step_weights,
        )

    def _tensors(self) -> list[Tensor]:
        return _all(self._weights) + ([] if self._rates is None else _all(self._rates.values))

    def _flat(self, part: Outer) -> list[Tensor]:
        ordered = [part.gradients[player][name] for player, of in self._weights.items() for name in of]
        if self._rates is not None and part.rate_gradients is not None:
            ordered += [part.rate_gradients[player][name] for player, of in self._rates.values.items() for name in of]
        return ordered


def _all(weights: Weights) -> list[Tensor]:
    return [tensor for of in weights.values() for tensor in of.values()]


def _first_rates(weights: Weights, players: Players[Batch], algorithm: Algorithm, steps: int) -> Rates | None:
    """Multipliers of 1, for what inner loops move."""
    if not algorithm.rates:
        return None
    per_step = algorithm.rates == "steps"
    values: dict[Player, dict[str, Tensor]] = {}
    for player, of in weights.items():
        moving = (name for name in of if name not in players.frozen.get(player, frozenset()))
        values[player] = {name: of[name].new_ones((steps,) if per_step else of[name].shape) for name in moving}
    return Rates(values=leaves(values), per_step=per_step)
