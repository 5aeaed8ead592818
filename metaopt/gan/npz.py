"""The data source ``npz:FILE``: an array `x` of images, and `y` of classes where there are any."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaopt.errors import DataError
from metaopt.gan.images import RawImages

_ZIP_START = b"PK"


def load_npz(path: Path) -> RawImages:
    """Read an .npz file; DataError names the file, the key, the rule and the value that breaks it.

    Nothing in the file is unpickled, so a file from a stranger runs no code.

    Args:
        path: a zip as ``numpy.savez(FILE, x=..., y=...)`` writes it. `x`: uint8, (N, C, H, W), C in {1, 3}.
            `y`, optional: whole numbers, (N,).
    """
    _check_is_zip(path)
    arrays = _read(path)
    x = _images(path, arrays["x"])
    y = _classes(path, arrays["y"], n=len(x)) if "y" in arrays else None
    return RawImages(x=x, y=y, where=f"{path}: `x`")


def _check_is_zip(path: Path) -> None:
    try:
        if not path.exists():
            raise DataError(f"{path}: the file must exist, but there is none.")
        if not path.is_file():
            raise DataError(f"{path}: must be a file, but it is a folder or a device.")
        with path.open("rb") as file:
            start = file.read(len(_ZIP_START))
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read: {error.strerror}.") from error
    if start != _ZIP_START:
        came = "is empty (0 bytes)" if not start else f"starts with the bytes {start!r}"
        raise DataError(f"{path}: must be an .npz file (a zip, which starts with b'PK'), but it {came}.")
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path}: the zip must be whole, but its last part, the table of contents, is missing:"
            f" the file is truncated or damaged ({path.stat().st_size:,} bytes are there)."
        )


def _read(path: Path) -> dict[str, Any]:
    key = "x"
    try:
        with np.load(path, allow_pickle=False) as content:
            if "x" not in content.files:
                there = ", ".join(repr(name) for name in content.files) or "none"
                raise DataError(f"{path}: the key `x` must be there, but it is not; keys in the file: {there}.")
            arrays = {}
            for key in [name for name in ("x", "y") if name in content.files]:
                arrays[key] = content[key]
            return arrays
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen types on damaged files
        raise DataError(f"{path}: `{key}` must be a readable array, but: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if "allow_pickle" in str(error):
        return "its dtype is object, which would have to be unpickled."
    return f"{error or type(error).__name__} (the file is damaged)."


def _images(path: Path, x: Any) -> Tensor:
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8:
        raise DataError(f"{path}: `x` must have dtype uint8 (0 to 255), but has {_dtype(x)}.")
    if x.ndim != 4:
        raise DataError(f"{path}: `x` must have 4 dimensions (N, C, H, W), but its shape is {x.shape}.")
    if x.shape[1] not in (1, 3):
        hint = "; the channels come second: x.transpose(0, 3, 1, 2)" if x.shape[3] in (1, 3) else ""
        raise DataError(f"{path}: `x` must have 1 or 3 channels, but has {x.shape[1]}: its shape is {x.shape}{hint}.")
    if len(x) == 0:
        raise DataError(f"{path}: `x` must hold at least one image, but its shape is {x.shape}.")
    return torch.from_numpy(np.ascontiguousarray(x))


def _classes(path: Path, y: Any, *, n: int) -> Tensor:
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "iu":
        raise DataError(f"{path}: `y` must have an integer dtype, but has {_dtype(y)}.")
    if y.shape != (n,):
        raise DataError(f"{path}: `y` must have one number an image, shape ({n},), but its shape is {y.shape}.")
    return torch.from_numpy(y.astype(np.int64))


def _dtype(value: Any) -> str:
    return str(value.dtype) if isinstance(value, np.ndarray) else "none: it is not an array"
