"""Data sets: a spec such as ``mnist5k`` or ``folder:photos`` -> all images in memory as uint8."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from metaopt.errors import DataError
from metaopt.gan.choice import unknown
from metaopt.gan.image_folder import load_folder
from metaopt.gan.images import RawImages, check_size, content_hash, fitted
from metaopt.gan.npz import load_npz
from metaopt.gan.sources import load_digits, load_mnist5k

DATASETS: Mapping[str, Callable[[], RawImages]] = {"digits": load_digits, "mnist5k": load_mnist5k}
FILE_SOURCES: Mapping[str, Callable[[Path, int | None], RawImages]] = {
    "npz": lambda path, _size: load_npz(path),
    "folder": load_folder,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A set of images of one size, all in memory, on one device."""

    name: str
    """The spec it was loaded from."""
    x: Tensor
    """Images, uint8, (N, C, H, H) with C in {1, 3} and H in [8, 32]."""
    y: Tensor | None
    """Class of each image, int64 (N,), always on the CPU; None where there are no classes."""
    content_hash: str
    """SHA-256, in hex, over shape, dtype and bytes of `x`."""

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

    def to(self, device: torch.device | str) -> "Dataset":
        """The same images on `device`."""
        return replace(self, x=self.x.to(device))


def file_source(spec: str, *, what: str = "data set", named: Iterable[str] = DATASETS) -> tuple[str, Path]:
    """Source and path of a spec: ``npz:~/a.npz`` -> ``("npz", Path("/home/me/a.npz"))``; nothing is read.

    DataError where there is no such source, or no path after the colon.

    Args:
        spec: ``npz:FILE`` or ``folder:DIR``.
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


def _unknown(spec: str, what: str, named: Iterable[str]) -> str:
    message = unknown(what, spec, (*named, "npz:FILE", "folder:DIR"))
    if spec.endswith(".npz"):
        return f"{message} For that file, write 'npz:{spec.partition(':')[2] or spec}'."
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
        spec: ``digits`` (1,797 of 8 x 8), ``mnist5k`` (5,000 of 28 x 28), ``npz:FILE`` (see `load_npz`) or
            ``folder:DIR`` (see `load_folder`); ``~`` is the home folder.
        size: pixels along one side, in [8, 32], reached by bilinear resizing with antialias; None: the data's
            own size (32 for a folder).
    """
    check_size(size)
    if spec in DATASETS:
        raw = DATASETS[spec]()
    else:
        source, path = file_source(spec)
        raw = FILE_SOURCES[source](path, size)
    x = fitted(raw, size)
    return Dataset(name=spec, x=x, y=raw.y, content_hash=content_hash(x))


def sample_batch(dataset: Dataset, batch: int, generator: torch.Generator) -> Tensor:
    """`batch` images drawn uniformly with replacement, uint8 (batch, C, H, H), on the data's device.

    `generator` must live on that device, so that nothing is copied between devices.
    """
    index = torch.randint(len(dataset), (batch,), generator=generator, device=dataset.x.device)
    return dataset.x[index]
