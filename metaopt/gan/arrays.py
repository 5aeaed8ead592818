"""The rules that arrays in users' files must keep to be images and classes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaopt.errors import DataError

MAX_CLASS = 65_535


def checked_images(what: str, x: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """`x` itself if it is uint8 (N, C, H, W) with N >= 1 and C in {1, 3}; else, DataError.

    Args:
        what: file and key, for messages.
        x: what the file holds.
    """
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8:
        raise DataError(f"{what} must have dtype uint8 (0 to 255), but has {_dtype(x)}.")
    if x.ndim != 4:
        raise DataError(f"{what} must have 4 dimensions (N, C, H, W), but its shape is {x.shape}.")
    if x.shape[1] not in (1, 3):
        hint = "; the channels come second: x.transpose(0, 3, 1, 2)" if x.shape[3] in (1, 3) else ""
        raise DataError(f"{what} must have 1 or 3 channels, but has {x.shape[1]}: its shape is {x.shape}{hint}.")
    if len(x) == 0:
        raise DataError(f"{what} must hold at least one image, but its shape is {x.shape}.")
    return x


def checked_classes(what: str, y: Any, *, n: int) -> Tensor:
    """Classes as int64 (n,) on the CPU if they are whole numbers in [0, 65,535], one an image; else, DataError."""
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "iu":
        raise DataError(f"{what} must have an integer dtype, but has {_dtype(y)}.")
    if y.shape != (n,):
        raise DataError(f"{what} must have one number an image, shape ({n},), but its shape is {y.shape}.")
    lowest, highest = int(y.min()), int(y.max())
    if lowest < 0 or highest > MAX_CLASS:
        raise DataError(
            f"{what} must hold classes counted from 0, `0 <= y <= {MAX_CLASS}`, but holds {lowest} to {highest}."
        )
    return torch.from_numpy(y.astype(np.int64))


def _dtype(value: Any) -> str:
    return str(value.dtype) if isinstance(value, np.ndarray) else "none: it is not an array"
