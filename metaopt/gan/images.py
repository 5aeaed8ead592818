"""Images as tensors: their range, their size, and the rules that they must keep to be a data set."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from metaopt.errors import ConfigError, DataError

MIN_SIZE = 8
MAX_SIZE = 32
_CHUNK = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class RawImages:
    """What a loader read: uint8 images that have not been checked or resized yet."""

    x: Tensor
    """Images, uint8, (N, C, H, W) with C in {1, 3}."""
    y: Tensor | None
    """Class of each image, int64 (N,); None where there are no classes."""
    where: str
    """Where the images come from, for messages."""


def to_unit(images: Tensor) -> Tensor:
    """``x / 127.5 - 1``: images of bytes, any shape, as float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1.0


def to_uint8(images: Tensor) -> Tensor:
    """``round(127.5 (x + 1))`` cut to [0, 255]: the inverse of `to_unit`. Images must be finite."""
    return images.detach().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def check_size(size: int | None) -> None:
    """ConfigError unless `size` is None or a whole number in [8, 32]."""
    if size is None:
        return
    if isinstance(size, bool) or not isinstance(size, int) or not MIN_SIZE <= size <= MAX_SIZE:
        raise ConfigError(f"`size` must be a whole number from {MIN_SIZE} to {MAX_SIZE} pixels, but got {size!r}.")


def resized(x: Tensor, size: int) -> Tensor:
    """Square images, uint8 (N, C, H, H), made `size` x `size`: bilinear with antialias, rounded.

    Images that have that size are left as they are. Antialias widens the kernel when images shrink, so that
    no pixel is left out.
    """
    if x.shape[-2:] == (size, size):
        return x
    return torch.cat([_interpolated(chunk, size) for chunk in torch.split(x, _CHUNK)])


def _interpolated(x: Tensor, size: int) -> Tensor:
    scaled = F.interpolate(x.to(torch.float32), (size, size), mode="bilinear", antialias=True)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)


def content_hash(x: Tensor) -> str:
    """SHA-256, in hex, over shape, dtype and bytes of `x`: it tells images apart, not their sources."""
    array = x.detach().cpu().contiguous().numpy()
    digest = hashlib.sha256(f"{tuple(array.shape)} {array.dtype.name} ".encode())
    digest.update(array.data)
    return digest.hexdigest()


def fitted(raw: RawImages, size: int | None) -> Tensor:
    """The images at `size` (their own if None), checked; DataError names what breaks which rule.

    Args:
        raw: images as their loader read them.
        size: pixels along one side, in [8, 32]; None: as they are.
    """
    height, width = raw.x.shape[-2:]
    if height != width or height == 0:
        raise DataError(f"{raw.where}: images must be square, `H == W > 0`, but are {height} x {width} pixels (H x W).")
    if size is None and not MIN_SIZE <= height <= MAX_SIZE:
        raise DataError(
            f"{raw.where}: images must have {MIN_SIZE} to {MAX_SIZE} pixels a side, but have {height};"
            f" give a size in that range to have them resized."
        )
    x = resized(raw.x, height if size is None else size).contiguous()
    lowest, highest = (int(value) for value in x.aminmax())
    if lowest == highest:
        raise DataError(f"{raw.where}: pixels must differ, but all are {lowest} in all {len(x):,} images.")
    return x
