"""The data source ``hf:NAME``: data sets of Hugging Face's hub, or of a folder in its format."""

import re
from pathlib import Path
from typing import Any

import torch

from metaopt.errors import DataError, MissingPackageError
from metaopt.gan.decoding import decoded
from metaopt.gan.image_folder import DEFAULT_SIZE, gray_if_all_are
from metaopt.gan.images import RawImages
from metaopt.gan.watched import watched

_SPEC = re.compile(r"(?P<name>[^@#]+)(?:@(?P<config>[^@#]+))?(?:#(?P<split>[^@#]+))?")


def load_hugging_face(text: str, size: int | None) -> RawImages:
    """Read one split of a data set with the package `datasets`; DataError says what is wrong.

    The images are the one column of type ``Image``; the classes are the first column of type ``ClassLabel``, if
    there is one. Each image is treated as in a folder: see `decoded`. Only names on the hub need a network, and
    only until the package has them in its own cache.

    Args:
        text: ``NAME[@CONFIG][#SPLIT]``: a name such as ``owner/name`` on the hub, or the absolute path of a
            folder that holds, say, parquet files; the split is ``train`` unless given, and may be a part of one,
            as in ``#train[:1000]``.
        size: pixels along one side of the result, in [8, 64]; None: 32.
    """
    parts = _SPEC.fullmatch(text)
    if parts is None:
        raise DataError(f"`hf:NAME[@CONFIG][#SPLIT]` must hold, with no other @ or #, but got 'hf:{text}'.")
    content = _opened(parts["name"], parts["config"], parts["split"] or "train")
    image, label = _columns(text, content.features)
    side = DEFAULT_SIZE if size is None else size
    x = torch.empty((len(content), 3, side, side), dtype=torch.uint8)
    rows = content.select_columns([image])
    for position, row in enumerate(watched(rows, total=len(rows), what=f"reading hf:{text}")):
        try:
            x[position] = decoded(_bytes(row[image]), side)
        except DataError as error:
            raise DataError(f"hf:{text}: every image must be readable, but row {position} is not: {error}.") from error
    y = None if label is None else _classes(text, content[label])
    return RawImages(x=gray_if_all_are(x), y=y, where=f"hf:{text}")


def _opened(name: str, config: str | None, split: str) -> Any:
    """The split with its images undecoded."""
    try:
        import datasets
    except ImportError as error:
        raise MissingPackageError(
            "Data sets of Hugging Face need the package datasets: pip install 'metaopt[huggingface]'"
        ) from error
    try:
        content = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # the hub, the network, the builder and the split each raise their own types
        raise DataError(
            f"hf:{name}: the split {split!r} must be in a folder of that absolute path, in the cache of the package"
            f" datasets, or on the hub, with a network to reach it, but: {type(error).__name__}: {error}"
        ) from error
    if len(content) == 0:
        raise DataError(f"hf:{name}: the split {split!r} must hold at least one image, but is empty.")
    for column, feature in content.features.items():
        if isinstance(feature, datasets.Image):
            content = content.cast_column(column, datasets.Image(decode=False))
    return content


def _columns(text: str, features: Any) -> tuple[str, str | None]:
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    if len(images) != 1:
        listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise DataError(f"hf:{text}: one column must be of type Image, but {len(images)} are: {listed}.")
    return images[0], next((name for name, kind in kinds.items() if kind == "ClassLabel"), None)


def _bytes(image: Any) -> bytes:
    """Content of one image, which the format keeps in place or as the path of a file."""
    if image is None:
        raise DataError("it is missing")
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    try:
        return Path(image["path"]).read_bytes()
    except OSError as error:
        raise DataError(f"{image['path']}: {error.strerror}") from error


def _classes(text: str, column: Any) -> torch.Tensor:
    y = list(column)
    if any(value is None or value < 0 for value in y):
        raise DataError(f"hf:{text}: every image must have a class, but some have none (null or -1).")
    return torch.tensor(y, dtype=torch.int64)
