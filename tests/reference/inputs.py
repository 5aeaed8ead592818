"""What the golden values are values of: integers and powers of two, the same on every machine and version."""

import torch
from torch import Tensor


def features(n: int, dim: int, seed: int) -> Tensor:
    """float32 ``(n, dim)`` in [0, 2.5), multiples of 2^-12, scrambled by arithmetic modulo a prime."""
    i, j = torch.arange(n)[:, None] + 1, torch.arange(dim)[None] + 1
    scrambled = (7919 * i * j + 31 * i * i * j + 65537 * seed * i + 101 * j * j * j) % 10007
    return scrambled.float() / 2**12


def pixels(n: int, channels: int, size: int) -> Tensor:
    """uint8 ``(n, channels, size, size)``: smooth waves of bytes, other ones in each image and channel."""
    n_index, c, y, x = torch.meshgrid(*(torch.arange(k) for k in (n, channels, size, size)), indexing="ij")
    return (((n_index + 2) * x * x + (c + 1) * y * (x + 3) + 40 * n_index) // 7 % 256).to(torch.uint8)


REAL, FAKE = features(200, 16, seed=1), features(180, 16, seed=2) * 1.25 + 0.25
LOGITS = 4 * features(200, 12, seed=3)
IMAGES = pixels(2, 3, 64)
KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 5, 50, 11
