"""Differentiable augmentation of all that D sees, real or generated: "DiffAugment" (Zhao et al. 2020).

The paper is https://arxiv.org/abs/2006.10738. Strengths are those of the authors' code, https://github.com/mit-han-lab/data-efficient-gans.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from metaopt.gan.policy import policy_names

TRANSLATION = 1 / 8
"""Largest shift, as a share of a side."""
CUTOUT = 1 / 2
"""Side of the box that is cut out, as a share of the image's."""


def color(x: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, then saturation, then contrast of images (n, c, h, w), with u uniform on [0, 1) for each image.

    ``x + u - 1/2``; ``m + 2 u (x - m)`` with m the mean over channels of each pixel, which leaves gray images as
    they are; ``m + (u + 1/2) (x - m)`` with m the mean of the image.
    """
    x = x + (_uniform(x, generator) - 0.5)
    x = _from_mean(x, (1,), 2.0 * _uniform(x, generator))
    return _from_mean(x, (1, 2, 3), _uniform(x, generator) + 0.5)


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device, dtype=x.dtype)


def _from_mean(x: Tensor, dims: tuple[int, ...], factor: Tensor) -> Tensor:
    mean = x.mean(dims, keepdim=True)
    return mean + factor * (x - mean)


def translation(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image (n, c, h, w) moved by up to 1/8 of its sides, a whole number of pixels; zeros come in."""
    n, _, height, width = x.shape
    rows = _moved(n, height, x.device, generator)
    columns = _moved(n, width, x.device, generator)
    which = torch.arange(n, device=x.device)[:, None, None]
    padded = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    return padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _moved(n: int, length: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """For each image, the pixels (n, length) of one padded by one zero that come to lie along a side."""
    most = int(length * TRANSLATION + 0.5)
    shift = torch.randint(-most, most + 1, (n, 1), generator=generator, device=device)
    return (torch.arange(length, device=device) + shift + 1).clamp_(0, length + 1)


def cutout(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image (n, c, h, w) with a box of half its sides set to zero; what juts out of the image is cut off."""
    n, _, height, width = x.shape
    rows = _boxed(n, height, x.device, generator)[:, :, None]
    columns = _boxed(n, width, x.device, generator)[:, None, :]
    return x.masked_fill((rows & columns).unsqueeze(1), 0.0)


def _boxed(n: int, length: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """For each image, whether the pixels (n, length) along a side lie in its box."""
    box = int(length * CUTOUT + 0.5)
    middle = torch.randint(0, length + 1 - box % 2, (n, 1), generator=generator, device=device)
    offset = torch.arange(length, device=device) - (middle - box // 2)
    return (offset >= 0) & (offset < box)


DIFF_AUGMENTATIONS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
}


def check_diff_augment(spec: str) -> tuple[str, ...]:
    """Names in a policy such as ``color,translation,cutout``; ConfigError unless all are known, each once."""
    return policy_names(spec, DIFF_AUGMENTATIONS, what="differentiable augmentation")


def diff_augment(images: Tensor, policy: str, generator: torch.Generator) -> Tensor:
    """Images with random changes through which gradients flow.

    Args:
        images: (n, c, h, w), float, in [-1, 1] or nearly.
        policy: names of `DIFF_AUGMENTATIONS` with commas between, applied in that order; empty: none.
        generator: on the device of the images.
    """
    for name in check_diff_augment(policy):
        images = DIFF_AUGMENTATIONS[name](images, generator)
    return images
