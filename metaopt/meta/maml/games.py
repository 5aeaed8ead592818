"""GANs as players: two networks and a loss -> functions of weights, for inner loops to differentiate through."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from metaopt.errors import ConfigError
from metaopt.gan import GanLoss, Pair
from metaopt.meta.maml.inner import Players, Weights
from metaopt.schedules.turns import Player

_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class Round(NamedTuple):
    """All that is random in one update of either player."""

    real: Tensor
    """Images (n, C, H, H) in [-1, 1]."""
    z: Tensor
    """Noise (n, z_dim)."""
    u: Tensor
    """Places between a real and a generated image, (n, 1, 1, 1) in [0, 1), for penalties that look there."""


def game_players(
    pair: Pair, loss: GanLoss, *, r1: float = 0.0, frozen: Mapping[Player, frozenset[str]] | None = None
) -> Players[Round]:
    """Both networks as players of ``loss``, with R1 and the loss's own gradient penalty.

    ``L_d = d_loss(D(x), D(G(z))) + r1 / 2 E|grad D(x)|^2 + lambda E(|grad D(x^)| - 1)^2``, ``x^ = u x + (1 - u) G(z)``;
    ``L_g = g_loss(D(G(z)))``.

    Args:
        pair: networks without buffers, since running statistics are state that no inner loop carries: with group norm
            or none, not with batch norm or spectral norm.
        loss: of the game; one that cuts weights after an update is refused, since that is no gradient step.
        r1: weight of R1, >= 0.
        frozen: weights that inner loops leave as they are.

    Raises:
        ConfigError: networks with buffers, or a loss with `weight_clip`.
    """
    networks: Mapping[Player, nn.Module] = {"g": pair.generator, "d": pair.discriminator}
    for player, network in networks.items():
        if buffers := [name for name, _ in network.named_buffers()]:
            raise ConfigError(
                f"The networks of an initialisation must have no buffers (use group norm or none, and no spectral "
                f"norm), but {player.upper()} has {', '.join(buffers[:3])}."
            )
    if loss.weight_clip is not None:
        raise ConfigError(f"`loss` must be one that cuts no weights, but got {loss.name!r}; try 'wgan_gp'.")

    def generated(weights: Weights, batch: Round) -> Tensor:
        images: Tensor = functional_call(pair.generator, dict(weights["g"]), (batch.z,))
        return images

    def logits(weights: Weights, images: Tensor) -> Tensor:
        found: Tensor = functional_call(pair.discriminator, dict(weights["d"]), (images,))
        return found

    def d_loss(weights: Weights, batch: Round) -> Tensor:
        def slopes(images: Tensor) -> Tensor:
            """Gradient of each logit by its image, (n, C * H * H)."""
            slope: Tensor = grad(lambda x: logits(weights, x).sum())(images)
            return slope.flatten(1)

        fake = generated(weights, batch)
        objective = loss.d_loss(logits(weights, batch.real), logits(weights, fake))
        if r1:
            objective = objective + r1 / 2 * slopes(batch.real).square().sum(1).mean()
        if loss.gradient_penalty:
            between = batch.u * batch.real + (1 - batch.u) * fake
            lengths = torch.linalg.vector_norm(slopes(between), dim=1)  # whose gradient is 0 where D is flat
            objective = objective + loss.gradient_penalty * (lengths - 1).square().mean()
        return objective

    def g_loss(weights: Weights, batch: Round) -> Tensor:
        return loss.g_loss(logits(weights, generated(weights, batch)))

    return Players(losses={"g": g_loss, "d": d_loss}, frozen=frozen or {}, ideal_d_loss=loss.ideal_d_loss)


def pair_weights(pair: Pair) -> Weights:
    """The parameters of both networks as they are."""
    return {
        "g": {name: weight.detach() for name, weight in pair.generator.named_parameters()},
        "d": {name: weight.detach() for name, weight in pair.discriminator.named_parameters()},
    }


def all_but_heads(pair: Pair) -> dict[Player, frozenset[str]]:
    """What ANIL freezes: all weights but those of the last layer of each network."""
    return {"g": _outside(pair.generator, last=True), "d": _outside(pair.discriminator, last=True)}


def lower_half(pair: Pair) -> dict[Player, frozenset[str]]:
    """What FreezeD freezes: the half of D's layers that is next to the image, rounded up (Mo, Cho & Shin 2020).

    They freeze all but the last few of a large D; of three layers, two.
    """
    return {"d": _outside(pair.discriminator, last=False)}


def _outside(network: nn.Module, *, last: bool) -> frozenset[str]:
    """Weights before a layer: before the last one, or before the upper half; with the norms in between."""
    layers = [name for name, module in network.named_modules() if isinstance(module, _LAYERS)]
    if not layers:
        raise ConfigError("A network must have linear or convolutional layers to freeze some of, but has none.")
    first = layers[-1] if last else layers[(len(layers) + 1) // 2]
    names = [name for name, _ in network.named_parameters()]
    return frozenset(names[: next(i for i, name in enumerate(names) if name.startswith(f"{first}."))])


@torch.no_grad()
def images_of(pair: Pair, weights: Mapping[str, Tensor], z: Tensor) -> Tensor:
    """What G makes of noise (n, z_dim) with these weights: (n, C, H, H) in [-1, 1]."""
    images: Tensor = functional_call(pair.generator, dict(weights), (z,))
    return images
