"""The data sources ``folder:DIR`` and ``readable:DIR``: every image file below a folder, made square and small."""

import logging
import os
import stat
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from metaopt.errors import DataError
from metaopt.gan.decoding import decoded
from metaopt.gan.images import CHUNK, RawImages
from metaopt.gan.watched import watched

DEFAULT_SIZE = 32
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})
_N_NAMED = 5

_log = logging.getLogger(__name__)


def load_folder(path: Path, size: int | None, *, skip: bool = False) -> RawImages:
    """Read all images below a folder, sorted by path; DataError names the files that cannot be used, and why.

    Files count by suffix (.png .jpg .jpeg .bmp .gif .webp, in any case); names that start with a dot are
    passed over; linked folders are followed, each once. An image is cut to the square in its middle and
    resized; see `decoded`. There is 1 channel if red, green and blue agree in every pixel of every image; else, 3.
    If all images lie in two or more subfolders of `path`, and none deeper, the subfolders are the classes,
    counted from 0 in the order of their names.

    One image at a time is in memory at its full size. A long reading says how far it is.

    Args:
        path: the folder.
        size: pixels along one side of the result, in [8, 64]; None: 32.
        skip: leave out the files that are no such images, which a warning names; DataError where all are, or where one
            cannot be read now, as later it might. A class keeps its number though all of it be left out.
    """
    names = image_files(path)
    files = [path / name for name in names]
    x, broken = _read(files, DEFAULT_SIZE if size is None else size, where=path, skip=skip)
    y = _classes(names)
    if broken:
        _log.warning("%s: %d of %d images are left out: %s", path, len(broken), len(files), _named(broken))
        y = None if y is None else y[[position for position in range(len(files)) if position not in broken]]
    return RawImages(x=gray_if_all_are(x), y=y, where=str(path), n_left_out=len(broken))


def read_images(files: list[Path], size: int, *, where: Path) -> Tensor:
    """Image files as uint8 (N, 3, size, size); DataError names the first five that cannot be used, and why."""
    return _read(files, size, where=where, skip=False)[0]


def _read(files: list[Path], size: int, *, where: Path, skip: bool) -> tuple[Tensor, dict[int, str]]:
    """The images, in order, and of those that may be left out: position -> name and reason."""
    x = torch.empty((len(files), 3, size, size), dtype=torch.uint8)
    broken: dict[int, str] = {}
    refused: dict[int, str] = {}
    for position, file in enumerate(watched(files, total=len(files), what=f"reading images in {where}")):
        try:
            x[position - len(broken) - len(refused)] = decoded(_content(file), size)
        except DataError as error:
            (broken if skip else refused)[position] = f"{_shown(file, where)} ({error})"
        except OSError as error:
            refused[position] = f"{_shown(file, where)} (cannot be read: {error.strerror})"
    refused = refused or (broken if len(broken) == len(files) else {})
    if refused:
        said = f"every image must be readable, but {len(refused)} of {len(files)} are not: {_named(refused)}"
        hint = "" if skip else f" Mend them, or leave out those that are no images by 'readable:{where}'."
        raise DataError(f"{where}: {said}.{hint}")
    return x[: len(files) - len(broken)], broken


def _shown(file: Path, where: Path) -> str:
    return printable(str(file.relative_to(where)))


def _named(broken: dict[int, str]) -> str:
    more = f", and {len(broken) - _N_NAMED} more" if len(broken) > _N_NAMED else ""
    return ", ".join([*broken.values()][:_N_NAMED]) + more


def gray_if_all_are(x: Tensor) -> Tensor:
    """The first of three channels of uint8 (N, 3, H, W) if all agree everywhere; else, `x` itself."""
    for chunk in torch.split(x, CHUNK):
        if not (torch.equal(chunk[:, 0], chunk[:, 1]) and torch.equal(chunk[:, 0], chunk[:, 2])):
            return x
    return x[:, :1].contiguous()


def printable(name: str) -> str:
    """A file's name with line breaks, control codes and bytes that are no text written as escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)


def image_files(folder: Path) -> list[str]:
    """Paths of all images, relative to `folder`, sorted part by part."""
    _check_folder(folder)
    files: list[str] = []
    n_others = 0
    seen: set[str] = set()
    for at, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(at)
        if real in seen:  # a link that leads back up, or a second way to the same folder
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(at, folder)
        visible = [name for name in names if not name.startswith(".")]
        found = [name for name in visible if Path(name).suffix.lower() in SUFFIXES]
        files += found if below == os.curdir else [f"{below}{os.sep}{name}" for name in found]
        n_others += len(visible) - len(found)
    if not files:
        raise DataError(
            f"{folder}: the folder must hold images ({' '.join(sorted(SUFFIXES))}), but there are none"
            f" among its {n_others} files."
        )
    return sorted(files, key=lambda name: name.replace(os.sep, "\0"))  # a folder's files before those of its neighbours


def _classes(names: list[str]) -> Tensor | None:
    folders = [name.rpartition(os.sep)[0] for name in names]
    known = sorted(set(folders))
    if len(known) < 2 or any(not name or os.sep in name for name in known):
        return None
    number = {name: position for position, name in enumerate(known)}
    return torch.tensor([number[name] for name in folders])


def _check_folder(folder: Path) -> None:
    try:
        if not folder.exists():
            raise DataError(f"{folder}: the folder must exist, but there is none.")
        if not folder.is_dir():
            raise DataError(f"{folder}: must be a folder of images, but it is a file.")
    except OSError as error:
        _refuse(error)


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: the folder cannot be read: {error.strerror}.") from error


def _content(file: Path) -> bytes:
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for ever
            raise DataError("not a regular file")
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise DataError("not a regular file") from error  # a link to nowhere
    if not content:
        raise DataError("0 bytes")
    return content
