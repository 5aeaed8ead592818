"""Losses of the game: what D and G minimise, given the logits that D gives to real and generated images."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True, kw_only=True)
class GanLoss:
    """The two losses of a game, and their values when nobody can tell generated images from real ones."""

    name: str
    """Its key in `LOSSES`."""
    d_loss: Callable[[Tensor, Tensor], Tensor]
    """``(real_logits (n,), fake_logits (m,)) -> ()``: what the discriminator minimises."""
    g_loss: Callable[[Tensor], Tensor]
    """``fake_logits (m,) -> ()``: what the generator minimises."""
    ideal_d_loss: float
    """V*: `d_loss` of the best discriminator against a generator that makes what the data are."""
    ideal_g_loss: float
    """`g_loss` at that point."""


def non_saturating_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """``E_x[-log s(D(x))] + E_z[-log(1 - s(D(G(z))))]``, ``s`` the logistic function (Goodfellow et al.
    2014).

    Written with ``softplus(a) = log(1 + e^a)``, as ``-log s(a) = softplus(-a)`` and ``-log(1 - s(a)) =
    softplus(a)``, which neither overflows nor loses the gradient for large logits.

    V*: for densities ``p`` of real and ``q`` of generated images the best discriminator is ``s(D) = p / (p +
    q)`` with loss ``log 4 - 2 JSD(p, q)`` (same paper, proposition 1 and theorem 1). Where ``q = p``, that is
    ``D = 0`` and ``log 2 + log 2 = log 4``: the largest loss that a best discriminator can have.
    """
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def non_saturating_g_loss(fake_logits: Tensor) -> Tensor:
    """``E_z[-log s(D(G(z)))]`` (Goodfellow et al. 2014, section 3); ``log 2`` at ``D = 0``.

    It has the fixed point of the minimax loss ``E_z[log(1 - s(D(G(z))))]``, and a strong gradient where D
    rejects what G makes.
    """
    return softplus(-fake_logits).mean()


LOSSES: Mapping[str, GanLoss] = {
    "non_saturating": GanLoss(
        name="non_saturating",
        d_loss=non_saturating_d_loss,
        g_loss=non_saturating_g_loss,
        ideal_d_loss=math.log(4),
        ideal_g_loss=math.log(2),
    ),
}
