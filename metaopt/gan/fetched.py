"""Published data sets that are fetched once, by torchvision, and read from ``$METAOPT_DATA`` or the cache.

Loading fetches nothing. Of the formats, one alone is pickled: the usual version of CIFAR-10. It is read by
torchvision's own class, which checks the published MD5 of each file before it unpickles it. The others are read as
what they are, bytes in a published order, text, or JPEGs, so that no file from a stranger can run code.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor

from metaopt.cache import default_data_dir
from metaopt.errors import ConfigError, DataError, StorageError
from metaopt.gan.choice import unknown
from metaopt.gan.image_folder import read_images
from metaopt.gan.images import RawImages, resized

LARGE_SIZE = 64
"""Pixels along one side of sets whose own images are larger than the maximum."""
FETCHED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "cifar10": ("CIFAR10", {"train": True}),
    "fashion_mnist": ("FashionMNIST", {"train": True}),
    "mnist": ("MNIST", {"train": True}),
    "celeba": ("CelebA", {"split": "train"}),
    "stl10": ("STL10", {"split": "train"}),
}
"""Data set -> torchvision's class, and how it is told which part is wanted."""


def fetch(name: str) -> Path:
    """Download a data set with torchvision, which shows how far it is and checks MD5s; returns the folder.

    Raises:
        ConfigError: there is nothing to fetch by that name.
        DataError: it could not be fetched, or is not what was published.
        StorageError: the folder cannot be written.
    """
    if name not in FETCHED:
        raise ConfigError(unknown("data set to fetch called", name, FETCHED))
    folder = default_data_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _torchvision(name, folder, download=True)
    except (URLError, TimeoutError, ConnectionError, RuntimeError) as error:
        raise DataError(f"{name} must be reachable and be what was published, but: {error}") from error
    except OSError as error:
        raise StorageError(
            f"{folder} must be a folder that can be written, with room for {name}, but: {error}"
        ) from error
    return folder


def _torchvision(name: str, folder: Path, *, download: bool) -> Any:
    from torchvision import datasets

    kind, options = FETCHED[name]
    return getattr(datasets, kind)(folder, download=download, **options)


def load_cifar10() -> RawImages:
    """50,000 colour photographs of 32 x 32 pixels, 10 classes (Krizhevsky 2009), the training part.

    Read from ``cifar-10-batches-py`` (pickled; checked by MD5 first) or, where that is not there,
    ``cifar-10-batches-bin`` ("binary version": for each image 1 byte of class and 3,072 bytes of pixels).
    """
    folder = default_data_dir()
    if not (folder / "cifar-10-batches-bin").exists() or (folder / "cifar-10-batches-py").exists():
        content = _whole(
            "cifar10", folder / "cifar-10-batches-py", lambda: _torchvision("cifar10", folder, download=False)
        )
        x = torch.from_numpy(content.data).permute(0, 3, 1, 2).contiguous()
        return RawImages(x=x, y=torch.tensor(content.targets), where="cifar10")
    files = [folder / "cifar-10-batches-bin" / f"data_batch_{number}.bin" for number in range(1, 6)]
    records = torch.cat([_records("cifar10", file, 1 + 3 * 32 * 32) for file in files])
    y = _ten_classes(folder / "cifar-10-batches-bin", records[:, 0].long())
    return RawImages(x=records[:, 1:].reshape(-1, 3, 32, 32).contiguous(), y=y, where="cifar10")


def load_mnist() -> RawImages:
    """60,000 handwritten digits of 28 x 28 pixels (LeCun et al. 1998), the training part, from ``MNIST/raw``."""
    return _idx("mnist", "MNIST")


def load_fashion_mnist() -> RawImages:
    """60,000 articles of clothing, gray, 28 x 28 pixels, 10 classes (Xiao et al. 2017), from ``FashionMNIST/raw``."""
    return _idx("fashion_mnist", "FashionMNIST")


def load_celeba(size: int | None) -> RawImages:
    """162,770 faces (Liu et al. 2015), the training part, from ``celeba``; no classes.

    Of the aligned images (178 x 218), the square in the middle is resized to `size`, or 64 x 64.
    """
    folder = default_data_dir() / "celeba"
    names = _whole("celeba", folder / "list_eval_partition.txt", lambda: _training_part(folder))
    if not names:
        raise DataError(f"{folder / 'list_eval_partition.txt'}: part 0 (training) must hold images, but holds none.")
    files = [folder / "img_align_celeba" / name for name in names]
    return RawImages(x=read_images(files, LARGE_SIZE if size is None else size, where=folder), y=None, where="celeba")


def load_stl10(size: int | None) -> RawImages:
    """5,000 colour photographs, 10 classes (Coates et al. 2011), the labelled training part, from ``stl10_binary``.

    Their 96 x 96 pixels are resized to `size`, or 64 x 64.
    """
    folder = default_data_dir() / "stl10_binary"
    x = _records("stl10", folder / "train_X.bin", 3 * 96 * 96).reshape(-1, 3, 96, 96).transpose(2, 3)
    counted_from_1 = _records("stl10", folder / "train_y.bin", 1)[:, 0].long()
    y = _ten_classes(folder / "train_y.bin", counted_from_1 - 1)
    if len(x) != len(y):
        raise DataError(f"{folder}: every image must have a class, but there are {len(x)} images and {len(y)} classes.")
    return RawImages(x=resized(x, LARGE_SIZE if size is None else size), y=y, where="stl10")


def _idx(name: str, kind: str) -> RawImages:
    folder = default_data_dir()
    content = _whole(name, folder / kind / "raw", lambda: _torchvision(name, folder, download=False))
    return RawImages(x=content.data.unsqueeze(1), y=content.targets.long(), where=name)


def _records(name: str, path: Path, length: int) -> Tensor:
    """A file of records of `length` bytes, uint8 (N, length), N >= 1."""
    content = _whole(name, path, lambda: np.fromfile(path, dtype=np.uint8))
    if len(content) == 0 or len(content) % length:
        raise DataError(
            f"{path}: must hold whole records of {length:,} bytes, but its size is {len(content):,} bytes:"
            f" it is truncated or something else."
        )
    return torch.from_numpy(content.reshape(-1, length))


def _ten_classes(path: Path, y: Tensor) -> Tensor:
    if y.min() < 0 or y.max() > 9:
        raise DataError(f"{path}: must hold ten classes, but they reach from {int(y.min())} to {int(y.max())}.")
    return y


def _training_part(folder: Path) -> list[str]:
    lines = (folder / "list_eval_partition.txt").read_text(encoding="ascii").split("\n")
    rows = [line.split() for line in lines if line.strip()]
    return [name for name, part in rows if part == "0"]


def _whole(name: str, path: Path, read: Callable[[], Any]) -> Any:
    """What `read` gives; DataError says how to fetch what is not there, or what is wrong with what is."""
    if not path.exists():
        raise DataError(f"{path}: {name} must be there, but is not; fetch it with: metaopt data {name} --download")
    try:
        return read()
    except Exception as error:  # torchvision, pickle and numpy raise a dozen types on damaged files
        raise DataError(
            f"{path}: must be {name} as it was published, but: {error or type(error).__name__}; remove it, and fetch"
            f" it anew with: metaopt data {name} --download"
        ) from error
