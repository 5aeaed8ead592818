"""Lookahead-Minmax: slow weights that both players step back to, at the same moments."""

from collections.abc import Iterable

import torch
from torch.nn import Parameter

ALPHA = 0.5
"""Share of the way from the slow weights to the fast ones, as published."""


class Lookahead:
    """Lookahead for a game of two players (Chavdarova et al. ICLR 2021, arXiv:2006.14567, algorithm 1).

    With theta the weights that the optimizers move, of both players together, and phi their slow copy, equal to theta
    at the start: after every k-th update of G ``phi <- phi + (theta - phi) / 2; theta <- phi``. As in the paper,
    moments are counted by updates of G, however many of D go with each. Buffers, such as the statistics of BatchNorm,
    and the state of the optimizers are left alone.
    """

    def __init__(self, weights: Iterable[Parameter], k: int) -> None:
        """Start with the slow weights at the fast ones.

        Args:
            weights: of both players, on one device; they are changed in place.
            k: updates of G between two moments, >= 1.
        """
        self.k = k
        self.n_updates = 0
        self._fast = tuple(weights)
        self._slow = tuple(weight.detach().clone() for weight in self._fast)

    @torch.no_grad()
    def after_g_update(self) -> None:
        """Count an update of G, and bring slow and fast weights together where it is the k-th."""
        self.n_updates += 1
        if self.n_updates % self.k == 0:
            torch._foreach_lerp_(self._slow, self._fast, ALPHA)
            torch._foreach_copy_(self._fast, self._slow)

    def state_dict(self) -> dict[str, object]:
        """All that changes, but for the fast weights, which are the players' own."""
        return {"slow": list(self._slow), "n_updates": self.n_updates}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue where `state_dict` was taken."""
        torch._foreach_copy_(self._slow, state["slow"])  # type: ignore[arg-type]
        self.n_updates = state["n_updates"]  # type: ignore[assignment]
