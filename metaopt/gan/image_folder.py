"""The data source ``folder:DIR``: every image file below a folder, made square and small."""

import os
import warnings
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from metaopt.errors import DataError
from metaopt.gan.images import RawImages, resized

DEFAULT_SIZE = 32
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
_N_NAMED = 5


def load_folder(path: Path, size: int | None) -> RawImages:
    """Read all images below a folder, sorted by path; DataError names the files that cannot be used, and why.

    Files count by suffix (.png .jpg .jpeg .bmp .gif .webp, in any case); names that start with a dot are
    passed over; linked folders are followed, each once. An image is turned as its EXIF orientation says, laid
    on white where it is transparent, cut to the square in its middle and resized; of an animation, the first
    frame counts. There is 1 channel if red, green and blue agree in every pixel of every image; else, 3.

    Args:
        path: the folder.
        size: pixels along one side of the result, in [8, 32]; None: 32.
    """
    files = _image_files(path)
    images, broken = [], []
    for file in files:
        try:
            images.append(resized(_square(file), DEFAULT_SIZE if size is None else size))
        except DataError as error:
            broken.append(f"{file.relative_to(path)} ({error})")
    if broken:
        named = ", ".join(broken[:_N_NAMED])
        more = f", and {len(broken) - _N_NAMED} more" if len(broken) > _N_NAMED else ""
        raise DataError(
            f"{path}: every image must be readable, but {len(broken)} of {len(files)} are not: {named}{more}."
        )
    return RawImages(x=_gray_if_all_are(torch.cat(images)), y=None, where=str(path))


def _image_files(folder: Path) -> list[Path]:
    _check_folder(folder)
    files: list[Path] = []
    n_others = 0
    seen: set[str] = set()
    for at, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(at)
        if real in seen:  # a link that leads back up, or a second way to the same folder
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = [Path(at, name) for name in names if not name.startswith(".")]
        found = [file for file in visible if file.suffix.lower() in SUFFIXES]
        files += found
        n_others += len(visible) - len(found)
    if not files:
        raise DataError(
            f"{folder}: the folder must hold images ({' '.join(sorted(SUFFIXES))}), but there are none"
            f" among its {n_others} files."
        )
    return sorted(files)


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


def _square(file: Path) -> Tensor:
    """The square in the middle of an image, uint8 (1, 3, S, S); DataError whose text is the bare reason."""
    _check_file(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # odd EXIF, which the pixels do not depend on
            with Image.open(file, formats=_FORMATS) as image:
                mode = _mode(file, image)
                rgb = _on_white(ImageOps.exif_transpose(image)) if mode in _MODES else None
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
        raise DataError(_reason(error)) from error
    if rgb is None:
        raise DataError(f"mode must be 8-bit gray, palette or RGB, with or without alpha, but is {mode}")
    array = np.array(rgb)
    side = min(array.shape[:2])
    top, left = ((length - side) // 2 for length in array.shape[:2])
    cut = torch.from_numpy(array[top : top + side, left : left + side])
    return cut.permute(2, 0, 1).unsqueeze(0).contiguous()


def _check_file(file: Path) -> None:
    try:
        if not file.is_file():  # also a link to nowhere; opening a pipe would wait for ever
            raise DataError("not a regular file")
        if file.stat().st_size == 0:
            raise DataError("0 bytes")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from error


def _mode(file: Path, image: Image.Image) -> str:
    """Pillow's mode, except for 16-bit colour, which Pillow calls RGB and cuts to 8 bits without a word."""
    if image.format == "PNG":
        with file.open("rb") as opened:  # signature, 8 bytes; chunk head, 8; width, 4; height, 4; bit depth
            bit_depth = opened.read(25)[24]
        if bit_depth == 16:
            return f"{image.mode} with 16 bits a channel"
    return image.mode


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not an image in a known format: {', '.join(_FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return str(error).rstrip(".") or type(error).__name__


def _gray_if_all_are(x: Tensor) -> Tensor:
    gray = torch.equal(x[:, 0], x[:, 1]) and torch.equal(x[:, 0], x[:, 2])
    return x[:, :1].contiguous() if gray else x
