"""The data source ``npy:FILE``: an array of images that may be larger than memory."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from metaopt.errors import DataError
from metaopt.gan.arrays import checked_classes, checked_images
from metaopt.gan.images import RawImages

_START = b"\x93NUMPY"
LABELS_SUFFIX = ".labels.npy"


def load_npy(path: Path) -> RawImages:
    """Map an .npy file into memory; DataError names the file, the rule and the value that breaks it.

    Pixels are read from the disk when they are drawn, and the file is never changed. Nothing is unpickled.

    Args:
        path: as ``numpy.save(FILE, x)`` writes it: uint8, (N, C, H, W) in C order, C in {1, 3}. Classes, if there
            are any, lie beside it: whole numbers in [0, 65,535], (N,), in ``a.labels.npy`` for ``a.npy``.
    """
    x = checked_images(f"{path}: the array", _mapped(path))
    if not x.flags.c_contiguous:
        raise DataError(
            f"{path}: the array must be in C order (image after image), but is in Fortran order;"
            f" save it with np.save(FILE, np.ascontiguousarray(x))."
        )
    labels = path.with_name(path.stem + LABELS_SUFFIX)
    y = checked_classes(f"{labels}: the array", _mapped(labels), n=len(x)) if labels.exists() else None
    return RawImages(x=torch.from_numpy(x), y=y, where=str(path), mapped=True)


def _mapped(path: Path) -> Any:
    _check_is_npy(path)
    try:
        # copy-on-write: torch wants memory that it could write to, and the file stays as it is
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except Exception as error:  # numpy raises a dozen types on damaged headers
        raise DataError(f"{path}: must be a readable array, but: {_reason(error)}") from error


def _check_is_npy(path: Path) -> None:
    try:
        if not path.exists():
            raise DataError(f"{path}: the file must exist, but there is none.")
        if not path.is_file():
            raise DataError(f"{path}: must be a file, but it is a folder or a device.")
        with path.open("rb") as file:
            start = file.read(len(_START))
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read: {error.strerror}.") from error
    if start != _START:
        came = "is empty (0 bytes)" if not start else f"starts with the bytes {start!r}"
        raise DataError(f"{path}: must be an .npy file, which starts with {_START!r}, but it {came}.")


def _reason(error: Exception) -> str:
    if "Python objects" in str(error):
        return "its dtype is object, which would have to be unpickled."
    return f"{error or type(error).__name__} (the file is truncated or damaged)."
