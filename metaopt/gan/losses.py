"""Losses of the game: what D and G minimise, given the logits that D gives to real and generated images.

Every `ideal_d_loss` V* is the smallest loss that a discriminator can reach where the generator makes exactly what
the data are (q = p); derivations stand in the docstrings, and the tests find the same values by minimising.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import relu, softplus


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
    """`g_loss` at that point, where D is 0."""
    gradient_penalty: float = 0.0
    """Weight of ``E[(|grad D(x^)| - 1)^2]`` on lines between real and generated images, >= 0."""
    weight_clip: float | None = None
    """Every weight of D is cut to [-c, c] after each of its updates; None: never."""


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


def minimax_g_loss(fake_logits: Tensor) -> Tensor:
    """``E_z[log(1 - s(D(G(z))))]`` (Goodfellow et al. 2014, equation 1); ``-log 2`` at ``D = 0``.

    Its gradient vanishes where D rejects what G makes; D's loss is `non_saturating_d_loss`.
    """
    return -softplus(fake_logits).mean()


def least_squares_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """``E_x[(D(x) - 1)^2] / 2 + E_z[D(G(z))^2] / 2`` (Mao et al. 2017, with a = 0, b = c = 1).

    ``D = logit + 1/2``, so that a logit of 0 is undecided, as with every loss here.

    V*: the best discriminator is ``D = p / (p + q)``; where ``q = p``, ``D = 1/2`` and ``1/8 + 1/8 = 1/4``.
    """
    return ((real_logits - 0.5).square().mean() + (fake_logits + 0.5).square().mean()) / 2


def least_squares_g_loss(fake_logits: Tensor) -> Tensor:
    """``E_z[(D(G(z)) - 1)^2] / 2``, ``D = logit + 1/2`` (Mao et al. 2017); 1/8 at a logit of 0."""
    return (fake_logits - 0.5).square().mean() / 2


def wasserstein_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """``E_z[D(G(z))] - E_x[D(x)]`` (Arjovsky et al. 2017): minus the distance, if D is 1-Lipschitz.

    V*: where ``q = p`` both terms are the same expectation, so it is 0 for every D. The gradient penalty of
    WGAN-GP is 0 for a D of slope 1, so V* = 0 with it too.
    """
    return fake_logits.mean() - real_logits.mean()


def wasserstein_g_loss(fake_logits: Tensor) -> Tensor:
    """``-E_z[D(G(z))]`` (Arjovsky et al. 2017); 0 at ``D = 0``."""
    return -fake_logits.mean()


def hinge_d_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """``E_x[max(0, 1 - D(x))] + E_z[max(0, 1 + D(G(z)))]`` (Lim & Ye 2017; Miyato et al. 2018).

    V*: where ``q = p`` it is ``E[max(0, 1 - D) + max(0, 1 + D)] >= 2``, with 2 for any ``D`` in [-1, 1].
    """
    return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()


LOSSES: Mapping[str, GanLoss] = {
    "non_saturating": GanLoss(
        name="non_saturating",
        d_loss=non_saturating_d_loss,
        g_loss=non_saturating_g_loss,
        ideal_d_loss=math.log(4),
        ideal_g_loss=math.log(2),
    ),
    "minimax": GanLoss(
        name="minimax",
        d_loss=non_saturating_d_loss,
        g_loss=minimax_g_loss,
        ideal_d_loss=math.log(4),
        ideal_g_loss=-math.log(2),
    ),
    "lsgan": GanLoss(
        name="lsgan",
        d_loss=least_squares_d_loss,
        g_loss=least_squares_g_loss,
        ideal_d_loss=0.25,
        ideal_g_loss=0.125,
    ),
    "wgan": GanLoss(
        name="wgan",
        d_loss=wasserstein_d_loss,
        g_loss=wasserstein_g_loss,
        ideal_d_loss=0.0,
        ideal_g_loss=0.0,
        weight_clip=0.01,
    ),
    "wgan_gp": GanLoss(
        name="wgan_gp",
        d_loss=wasserstein_d_loss,
        g_loss=wasserstein_g_loss,
        ideal_d_loss=0.0,
        ideal_g_loss=0.0,
        gradient_penalty=10.0,
    ),
    "hinge": GanLoss(
        name="hinge",
        d_loss=hinge_d_loss,
        g_loss=wasserstein_g_loss,
        ideal_d_loss=2.0,
        ideal_g_loss=0.0,
    ),
}
