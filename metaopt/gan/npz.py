"""The data source ``npz:FILE``: an array `x` of images, and `y` of classes where there are any."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metaopt.errors import DataError
from metaopt.gan.arrays import checked_classes, checked_images
from metaopt.gan.images import RawImages

_ZIP_START = b"PK"


def load_npz(path: Path) -> RawImages:
    """Read an .npz file; DataError names the file, the key, the rule and the value that breaks it.

    Nothing in the file is unpickled, so a file from a stranger runs no code.

    Args:
        path: a zip as ``numpy.savez(FILE, x=..., y=...)`` writes it. `x`: uint8, (N, C, H, W), C in {1, 3}.
            `y`, optional: whole numbers in [0, 65,535], (N,).
    """
    _check_is_zip(path)
    arrays = _read(path)
    x = checked_images(f"{path}: `x`", arrays["x"])
    y = checked_classes(f"{path}: `y`", arrays["y"], n=len(x)) if "y" in arrays else None
    return RawImages(x=torch.from_numpy(np.ascontiguousarray(x)), y=y, where=f"{path}: `x`")


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
