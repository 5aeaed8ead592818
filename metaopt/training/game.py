"""One update of each player, as losses to differentiate: the loss of the task with its penalties and augmentations."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metaopt.gan import GanLoss, diff_augment

Classes = tuple[()] | tuple[Tensor]
"""What a player is told besides its input: nothing, or classes int64 (n,)."""


class DLoss(NamedTuple):
    """What comes of one look of D at real and generated images."""

    objective: Tensor
    """What D minimises, (): the loss of the game and the penalties."""
    loss: Tensor
    """The loss of the game alone, (): what V* and the signals are about."""
    real_logits: Tensor
    """(n,)"""
    fake_logits: Tensor
    """(n,)"""


@dataclass(frozen=True, kw_only=True)
class Game:
    """The rules that both players follow."""

    loss: GanLoss
    r1: float = 0.0
    """Weight gamma of ``gamma / 2 E_x[|grad_x D(x)|^2]`` (Mescheder et al. 2018, R1), >= 0."""
    diff_augment: str = ""
    """Differentiable augmentations of all that D sees; see `metaopt.gan.diff_augment`."""

    def d_loss(
        self, discriminator: nn.Module, real: Tensor, fake: Tensor, classes: Classes, generator: torch.Generator | None
    ) -> DLoss:
        """D's losses on as many real and generated images (n, C, H, H) in [-1, 1], of the same classes.

        `generator` draws augmentations and lines between images. None, where FLOPs are counted on a device that has no
        generators: no augmentations, which have none, and lines of torch's own.
        """
        real, fake = self._augmented(real, generator), self._augmented(fake, generator)
        if self.r1:
            real = real.requires_grad_()
        real_logits = discriminator(real, *classes)
        fake_logits = discriminator(fake, *classes)
        loss = objective = self.loss.d_loss(real_logits, fake_logits)
        if self.r1:
            objective = objective + self.r1 / 2 * _gradient(real_logits, real).square().sum(dim=1).mean()
        if self.loss.gradient_penalty:
            penalty = _slope_penalty(discriminator, real, fake, classes, generator)
            objective = objective + self.loss.gradient_penalty * penalty
        return DLoss(objective=objective, loss=loss, real_logits=real_logits, fake_logits=fake_logits)

    def g_loss(
        self, discriminator: nn.Module, fake: Tensor, classes: Classes, generator: torch.Generator | None
    ) -> Tensor:
        """G's loss, (), on generated images (n, C, H, H)."""
        return self.loss.g_loss(discriminator(self._augmented(fake, generator), *classes))

    def after_d_update(self, discriminator: nn.Module) -> None:
        """Cut D's weights to [-c, c] where the loss asks for it (Arjovsky et al. 2017, algorithm 1)."""
        clip = self.loss.weight_clip
        if clip is None:
            return
        with torch.no_grad():
            weights = tuple(discriminator.parameters())
            torch._foreach_clamp_min_(weights, -clip)
            torch._foreach_clamp_max_(weights, clip)

    def _augmented(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.diff_augment or generator is None:
            return images
        return diff_augment(images, self.diff_augment, generator)


def _gradient(logits: Tensor, images: Tensor) -> Tensor:
    """Gradient of each image's logit by its pixels: (n, C * H * H)."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.flatten(1)


def _slope_penalty(
    discriminator: nn.Module, real: Tensor, fake: Tensor, classes: Classes, generator: torch.Generator | None
) -> Tensor:
    """``E[(|grad D(x^)|_2 - 1)^2]``, ``x^ = u x + (1 - u) G(z)``, u uniform an image (Gulrajani et al. 2017)."""
    u = torch.rand(len(real), 1, 1, 1, generator=generator, device=real.device)
    between = (u * real.detach() + (1 - u) * fake).requires_grad_()
    slopes: Tensor = torch.linalg.vector_norm(_gradient(discriminator(between, *classes), between), dim=1)
    return (slopes - 1).square().mean()
