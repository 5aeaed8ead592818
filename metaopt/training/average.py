"""An average of the generator's weights over the training, used for evaluation."""

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """Exponential average of a module's weights whose memory is a share of the budget.

    After the k-th update (k = 1, 2, ...) that brought the training from iteration s to t, with
    ``a = max(1 - exp(-(t - s) / (memory * budget)), 9 / (9 + k))``, ``average <- average + a (weights -
    average)``: the second term lets go of the first, random weights early (as TensorFlow's ExponentialMovingAverage
    does with `num_updates`). Buffers, such as BatchNorm's statistics, are those of the module.
    """

    def __init__(self, module: nn.Module, memory: float, budget: float) -> None:
        """Start at the module's weights.

        Args:
            module: what is averaged.
            memory: time constant as a share of the budget, in (0, 1).
            budget: iterations.
        """
        self.module = deepcopy(module).requires_grad_(False)
        self.n_updates = 0
        self._iteration = 0.0
        self._time_constant = memory * budget
        self._averaged = tuple(self.module.parameters())
        self._buffers = list(self.module.buffers())

    @torch.no_grad()
    def update(self, module: nn.Module, iteration: float) -> None:
        """Account for an update of `module` that ended at `iteration`."""
        self.n_updates += 1
        since, self._iteration = iteration - self._iteration, iteration
        weight = max(-math.expm1(-since / self._time_constant), 9 / (9 + self.n_updates))
        torch._foreach_lerp_(self._averaged, tuple(module.parameters()), weight)
        for mine, theirs in zip(self._buffers, module.buffers(), strict=True):
            mine.copy_(theirs)

    def state_dict(self) -> dict[str, Any]:
        """All that changes."""
        return {
            "module": self.module.state_dict(),
            "n_updates": self.n_updates,
            "iteration": self._iteration,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.module.load_state_dict(state["module"])
        self.n_updates, self._iteration = state["n_updates"], state["iteration"]
