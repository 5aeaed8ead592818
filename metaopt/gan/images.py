"""Images as tensors: their range, their size, and the rules that they must keep to be a data set."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from metaopt.errors import ConfigError, DataError
from metaopt.gan.watched import watched

MIN_SIZE = 8
MAX_SIZE = 64
CHUNK = 1024
"""Images that are handled at a time where a whole set would not fit into memory twice."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RawImages:
    """What a loader read: uint8 images that have not been checked or resized yet."""

    x: Tensor
    """Images, uint8, (N, C, H, W) with C in {1, 3}."""
    y: Tensor | None
    """Class of each image, int64 (N,); None where there are no classes."""
    where: str
    """Where the images come from, for messages."""
    mapped: bool = False
    """Whether `x` is a memory map of a file."""
    n_left_out: int = 0
    """Files that were left out, as they are no images."""


def to_unit(images: Tensor) -> Tensor:
    """``x / 127.5 - 1``: images of bytes, any shape, as float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1.0


def to_uint8(images: Tensor) -> Tensor:
    """``round(127.5 (x + 1))`` cut to [0, 255]: the inverse of `to_unit`. Images must be finite."""
    return images.detach().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def with_channels(x: Tensor, channels: int) -> Tensor:
    """uint8 (N, C, H, W): gray as colour, or colour as gray by the luma of ITU-R BT.601.

    ``floor(0.299 R + 0.587 G + 0.114 B + 1/2)``, exact.
    """
    if channels == x.shape[1]:
        return x
    if channels == 3:
        return x.expand(-1, 3, -1, -1)
    red, green, blue = x.int().unbind(1)  # whole numbers: ties are the same on every machine
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).to(torch.uint8).unsqueeze(1)


def check_size(size: int | None) -> None:
    """ConfigError unless `size` is None or a whole number in [8, 64]."""
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
    result = torch.empty((*x.shape[:2], size, size), dtype=torch.uint8)
    for before, after in zip(torch.split(x, CHUNK), torch.split(result, CHUNK), strict=True):
        after.copy_(_interpolated(before, size))
    return result


def _interpolated(x: Tensor, size: int) -> Tensor:
    scaled = F.interpolate(x.to(torch.float32), (size, size), mode="bilinear", antialias=True)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)


def content_hash(x: Tensor) -> str:
    """SHA-256, in hex, over shape, dtype and bytes of `x`: it tells images apart, not their sources.

    A memory map is read once, a chunk at a time.
    """
    name = str(x.dtype).removeprefix("torch.")
    digest = hashlib.sha256(f"{tuple(x.shape)} {name} ".encode())
    n_chunks = -(-len(x) // CHUNK)
    for chunk in watched(torch.split(x.detach(), CHUNK), total=n_chunks, what="hashing images, by the thousand"):
        digest.update(chunk.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def fitted(raw: RawImages, size: int | None) -> Tensor:
    """The images at `size` (their own if None), checked; DataError names what breaks which rule.

    Args:
        raw: images as their loader read them.
        size: pixels along one side, in [8, 64]; None: as they are.
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
    check_differ(x, raw.where)
    return x


def check_differ(x: Tensor, where: str) -> None:
    """DataError if all pixels of all images, uint8 (N, C, H, W), are the same: there is nothing to learn."""
    first = x.flatten()[0]
    if all(bool((chunk == first).all()) for chunk in torch.split(x, CHUNK)):  # stops at the first that differs
        raise DataError(f"{where}: pixels must differ, but all are {int(first)} in all {len(x):,} images.")
