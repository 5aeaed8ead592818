"""Augmentation of real images, on the device on which they are: one draw an image, and no loop over images."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from metaopt.gan.policy import policy_names

PAD = 4
"""Pixels by which an image is moved at most (He et al. 2016, section 4.2, for CIFAR-10)."""


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, c, h, w), each mirrored left to right with probability 1/2."""
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(chosen, images.flip(-1), images)


def crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, c, h, w) padded by 4 pixels on each side, and a random h x w window of each.

    The padding mirrors the image at its border pixels, ``c b | a b c``, as black borders would be learned
    by a generator. h and w must be larger than 4.
    """
    n, _, height, width = images.shape
    rows = _moved(n, height, images.device, generator)
    columns = _moved(n, width, images.device, generator)
    which = torch.arange(n, device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _moved(n: int, length: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """For each image, the pixels (n, length) that come to lie along a side; shifts are uniform on [-4, 4]."""
    shift = torch.randint(-PAD, PAD + 1, (n, 1), generator=generator, device=device)
    index = (torch.arange(length, device=device) + shift).abs()
    return (length - 1) - ((length - 1) - index).abs()


AUGMENTATIONS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {"flip": flip, "crop": crop}


def check_augment(spec: str) -> tuple[str, ...]:
    """Names in a policy such as ``flip,crop``; ConfigError unless all are keys of `AUGMENTATIONS`, each once."""
    return policy_names(spec, AUGMENTATIONS, what="augmentation")


def augment(images: Tensor, policy: str, generator: torch.Generator) -> Tensor:
    """Real images with random changes that keep them real.

    Args:
        images: (n, c, h, w), uint8 or float, left as they are.
        policy: names of `AUGMENTATIONS` with commas between, applied in that order; empty: none.
        generator: on the device of the images.
    """
    for name in check_augment(policy):
        images = AUGMENTATIONS[name](images, generator)
    return images
