"""Parts that all networks share: normalisation, spectral norm, and the two ways in which classes come in."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Norm = Literal["batch", "group", "none"]
NORMS: tuple[Norm, ...] = get_args(Norm)
_CHANNELS_PER_GROUP = 4

_BATCH: Mapping[int, type[nn.Module]] = {0: nn.BatchNorm1d, 2: nn.BatchNorm2d}


def norm(kind: Norm, channels: int, *, spatial: int = 2) -> list[nn.Module]:
    """BatchNorm, GroupNorm (Wu & He 2018; groups of 4 channels, or all in one), or nothing.

    Args:
        kind: which.
        channels: channels of the layer before.
        spatial: 2 for images (n, C, H, W), 0 for vectors (n, C).
    """
    if kind == "batch":
        return [_BATCH[spatial](channels)]
    if kind == "group":
        divisible = channels % _CHANNELS_PER_GROUP == 0
        return [nn.GroupNorm(channels // _CHANNELS_PER_GROUP if divisible else 1, channels)]
    return []


class ConditionalGenerator(nn.Module):
    """G(z, y): the class joins the noise as a one-hot vector (Mirza & Osindero 2014)."""

    def __init__(self, net: nn.Module, n_classes: int) -> None:
        """Wrap a generator whose noise has `n_classes` numbers more."""
        super().__init__()
        self.net = net
        self.n_classes = n_classes

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Images (n, C, H, H) of noise (n, z_dim) and classes int64 (n,)."""
        one_hot = y[:, None] == torch.arange(self.n_classes, device=y.device)  # torch's own may wait for a GPU
        images: Tensor = self.net(torch.cat([z, one_hot.to(z.dtype)], dim=1))
        return images


class Discriminator(nn.Module):
    """D(x) = a + w . f(x); with classes, the projection discriminator D(x, y) = a + (w + v_y) . f(x).

    Source: Miyato & Koyama 2018, cGANs with projection discriminator.
    """

    def __init__(self, body: nn.Module, n_features: int, n_classes: int) -> None:
        """Put a head on `body`: images (n, C, H, H) -> features (n, n_features); 0 classes: D(x)."""
        super().__init__()
        self.body = body
        self.head = nn.Linear(n_features, 1)
        self.classes = nn.Embedding(n_classes, n_features) if n_classes else None

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits (n,) of images (n, C, H, H) and, where there are classes, int64 (n,)."""
        features = self.body(x)
        logits: Tensor = self.head(features).squeeze(1)
        if self.classes is not None:
            logits = logits + (self.classes(y) * features).sum(dim=1)
        return logits


_NORMALISED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)


def with_spectral_norm(player: nn.Module, generator: torch.Generator) -> nn.Module:
    """Divide every weight by its largest singular value, found by power iteration (Miyato et al. 2018).

    The start vectors come from `generator`; the global random state is left as it was.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    modules: list[Any] = [module for module in player.modules() if isinstance(module, _NORMALISED)]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed GPUs too
        for module in modules:
            spectral_norm(module)
    return player
