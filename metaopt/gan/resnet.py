"""The network `sngan`: residual players as in Miyato et al. 2018 (table 3), cut to small images."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu

from metaopt.gan.layers import Norm, norm


class UpBlock(nn.Module):
    """norm, ReLU, nearest x2, 3 x 3, norm, ReLU, 3 x 3, beside a shortcut x2 with 1 x 1."""

    def __init__(self, channels: int, kind: Norm) -> None:
        """`channels` in and out."""
        super().__init__()
        self.before = nn.Sequential(*norm(kind, channels), nn.ReLU())
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.between = nn.Sequential(*norm(kind, channels), nn.ReLU())
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, 2 h, 2 w)."""
        h = self.second(self.between(self.first(_doubled(self.before(x)))))
        # A 1 x 1 convolution and nearest doubling commute, and this order is four times cheaper.
        out: Tensor = h + _doubled(self.shortcut(x))
        return out


class DownBlock(nn.Module):
    """norm, ReLU, 3 x 3, norm, ReLU, 3 x 3, mean over 2 x 2, beside a shortcut with 1 x 1."""

    def __init__(self, n_in: int, n_out: int, kind: Norm, *, first: bool = False, halve: bool = True) -> None:
        """Channels in and out; `first`: next to the image, with nothing before it; `halve`: pool or not."""
        super().__init__()
        self.before = nn.Sequential(*([] if first else [*norm(kind, n_in), nn.ReLU()]))
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.between = nn.Sequential(*norm(kind, n_out), nn.ReLU())
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.shortcut = nn.Conv2d(n_in, n_out, 1) if halve or n_in != n_out else nn.Identity()
        self.halve = halve

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_in, h, w) -> (n, n_out, h / 2, w / 2), or (n, n_out, h, w) where nothing is halved."""
        h = self.conv2(self.between(self.conv1(self.before(x))))
        if not self.halve:
            out: Tensor = h + self.shortcut(x)
            return out
        pooled: Tensor = avg_pool2d(h, 2) + self.shortcut(avg_pool2d(x, 2))
        return pooled


class SumPool(nn.Module):
    """ReLU, then the sum over all pixels: (n, c, h, w) -> (n, c)."""

    def forward(self, x: Tensor) -> Tensor:
        """Features of D."""
        return relu(x).sum(dim=(2, 3))


def _doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="nearest")


def resnet_generator(*, z_dim: int, start: int, steps: int, width: int, channels: int, kind: Norm) -> nn.Module:
    """A linear layer to `start` x `start`, `steps` up blocks, norm, ReLU, 3 x 3, tanh."""
    return nn.Sequential(
        nn.Linear(z_dim, width * start * start),
        nn.Unflatten(1, (width, start, start)),
        *(UpBlock(width, kind) for _ in range(steps)),
        *norm(kind, width),
        nn.ReLU(),
        nn.Conv2d(width, channels, 3, padding=1),
        nn.Tanh(),
    )


def resnet_body(*, steps: int, width: int, channels: int, kind: Norm) -> nn.Module:
    """`steps` - 1 blocks that halve, two that do not, and the sum over pixels: `width` features."""
    halving = [DownBlock(width, width, kind) for _ in range(steps - 2)]
    flat = [DownBlock(width, width, kind, halve=False) for _ in range(2)]
    return nn.Sequential(DownBlock(channels, width, kind, first=True), *halving, *flat, SumPool())


def init_resnet(module: nn.Module, generator: torch.Generator) -> None:
    """Glorot uniform, times sqrt 2 for 3 x 3 convolutions; 1 for scales of a norm; 0 for biases."""
    for name, parameter in module.named_parameters(recurse=False):
        if name == "bias":
            parameter.zero_()
        elif parameter.dim() == 1:
            parameter.fill_(1.0)
        else:
            area = parameter[0, 0].numel()
            gain = math.sqrt(2) if area == 9 else 1.0
            bound = gain * math.sqrt(6 / (area * (parameter.shape[0] + parameter.shape[1])))
            parameter.uniform_(-bound, bound, generator=generator)
