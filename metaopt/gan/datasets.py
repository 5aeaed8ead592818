"""Data sets: a spec such as ``mnist5k`` or ``folder:photos`` -> images as uint8, in memory or mapped into it."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from metaopt.errors import DataError
from metaopt.gan.catalogue import DATASETS
from metaopt.gan.choice import unknown
from metaopt.gan.hugging_face import load_hugging_face
from metaopt.gan.image_folder import load_folder
from metaopt.gan.images import RawImages, check_size, content_hash, fitted
from metaopt.gan.npy import load_npy
from metaopt.gan.npz import load_npz

__all__ = [
    "DATASETS",
    "FILE_SOURCES",
    "FOLDERS",
    "Dataset",
    "absolute_spec",
    "check_spec",
    "file_source",
    "load_dataset",
    "same_files",
]

FILE_SOURCES: Mapping[str, Callable[[Path, int | None], RawImages]] = {
    "npz": lambda path, _size: load_npz(path),
    "npy": lambda path, _size: load_npy(path),
    "folder": load_folder,
    "readable": partial(load_folder, skip=True),
    "hf": lambda path, size: load_hugging_face(str(path), size),
}
FOLDERS = ("folder", "readable")
"""Sources that stand for all images below a folder."""
_FORMS = ("npz:FILE", "npy:FILE", "folder:DIR", "readable:DIR", "hf:NAME")
_SHARE_OF_DEVICE = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A set of images of one size."""

    name: str
    """The spec it was loaded from."""
    x: Tensor
    """Images, uint8, (N, C, H, H) with C in {1, 3} and H in [8, 64]."""
    y: Tensor | None
    """Class of each image, int64 (N,), counted from 0, always on the CPU; None where there are no classes."""
    content_hash: str
    """SHA-256, in hex, over shape, dtype and bytes of `x`."""
    mapped: bool = False
    """Whether `x` is a memory map of a file, whose pixels are read when they are used."""
    y_on_device: Tensor | None = None
    """Copy of `y` on the device of the last `to`; None before, or where there are no classes."""
    n_left_out: int = 0
    """Files that were left out, as they are no images."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.x)

    @property
    def size(self) -> int:
        """Pixels along one side."""
        return self.x.shape[-1]

    @property
    def channels(self) -> int:
        """1 (gray) or 3 (colour)."""
        return self.x.shape[1]

    @property
    def n_classes(self) -> int:
        """1 + the largest class; 0 where there are no classes."""
        return 0 if self.y is None else int(self.y.max()) + 1

    @property
    def identity(self) -> str:
        """SHA-256, in hex, over images and classes: trainings on two sets of one identity are the same."""
        if self.y is None:
            return self.content_hash
        return hashlib.sha256(self.content_hash.encode() + self.y.numpy().tobytes()).hexdigest()

    def to(self, device: torch.device | str) -> "Dataset":
        """The same images for use on `device`.

        Images stay where they are if they are a memory map, or would take more than half of the device's free
        memory; `sample_batch` then copies what it draws.
        """
        stays = self.mapped or not _fits(self.x, torch.device(device))
        y = None if self.y is None else self.y.to(device)
        return replace(self, x=self.x if stays else self.x.to(device), y_on_device=y)


def _fits(x: Tensor, device: torch.device) -> bool:
    if device.type != "cuda" or x.device.type == "cuda":
        return True
    free, _total = torch.cuda.mem_get_info(device)
    return x.nbytes <= free // _SHARE_OF_DEVICE


def file_source(spec: str, *, what: str = "data set", named: Iterable[str] = DATASETS) -> tuple[str, Path]:
    """Source and path of a spec: ``npz:~/a.npz`` -> ``("npz", Path("/home/me/a.npz"))``; nothing is read.

    DataError where there is no such source, or no path after the colon.

    Args:
        spec: ``npz:FILE``, ``npy:FILE``, ``folder:DIR``, ``readable:DIR`` or ``hf:NAME``, whose name stands
            where the path would.
        what: what the spec stands for, for messages.
        named: what else it could have been, for messages.
    """
    source, _, path = spec.partition(":")
    if source not in FILE_SOURCES:
        raise DataError(_unknown(spec, what, named))
    if not path.strip():
        raise DataError(f"a path must follow `{source}:`, but got {spec!r}.")
    try:
        return source, Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"the home folder in {spec!r} must exist, but: {error}") from error


def check_spec(spec: str) -> None:
    """DataError unless `spec` is a key of `DATASETS` or has the form of a file's; nothing is read."""
    if spec not in DATASETS:
        file_source(spec)


def same_files(spec: str) -> str:
    """One spec for all of the same files: ``readable:DIR`` is a part of ``folder:DIR``."""
    source, colon, path = spec.partition(":")
    return f"{FOLDERS[0]}:{path}" if colon and source in FOLDERS else spec


def absolute_spec(spec: str) -> str:
    """The spec that means the same from any working folder: with an absolute path, where it has a path."""
    if spec in DATASETS:
        return spec
    source, path = file_source(spec)
    return f"{source}:{path if source == 'hf' else path.absolute()}"  # hf: a name, or an absolute path already


def _unknown(spec: str, what: str, named: Iterable[str]) -> str:
    message = unknown(what, spec, (*named, *_FORMS))
    for suffix in ("npz", "npy"):
        if spec.endswith(f".{suffix}"):
            return f"{message} For that file, write '{suffix}:{spec.partition(':')[2] or spec}'."
    if spec and _is_folder(spec):
        return f"{message} For that folder, write 'folder:{spec}'."
    return message


def _is_folder(path: str) -> bool:
    try:
        return Path(path).expanduser().is_dir()
    except (OSError, RuntimeError):
        return False


def load_dataset(spec: str, *, size: int | None = None) -> Dataset:
    """All images of a data set; DataError names the file, the rule and the value that breaks it.

    Args:
        spec: a key of `DATASETS`, or ``npz:FILE`` (see `load_npz`), ``npy:FILE`` (`load_npy`), ``folder:DIR``
            or ``readable:DIR`` (`load_folder`; the second leaves out what cannot be read) or ``hf:NAME``
            (`load_hugging_face`); ``~`` is the home folder.
        size: pixels along one side, in [8, 64], reached by bilinear resizing with antialias; None: the data's
            own size (32 for folders and Hugging Face, 64 for celeba and stl10). An .npy file at its own size
            is mapped; at another, it is resized into memory.
    """
    check_size(size)
    if spec in DATASETS:
        raw = DATASETS[spec].load(size)
    else:
        source, path = file_source(spec)
        raw = FILE_SOURCES[source](path, size)
    x = fitted(raw, size)
    mapped = raw.mapped and x is raw.x
    return Dataset(name=spec, x=x, y=raw.y, content_hash=content_hash(x), mapped=mapped, n_left_out=raw.n_left_out)
