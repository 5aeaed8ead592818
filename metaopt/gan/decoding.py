"""One image file as a small square of pixels."""

import warnings
from io import BytesIO
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from metaopt.errors import DataError
from metaopt.gan.images import resized

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK"})
_PNG_BIT_DEPTH = 24  # offset: signature, 8 bytes; chunk head, 8; width, 4; height, 4


def decoded(content: bytes, size: int) -> Tensor:
    """The square in the middle of an image, uint8 (3, size, size); DataError whose text is the bare reason.

    The image is turned as its EXIF orientation says and laid on white where it is transparent; of an animation,
    the first frame counts. CMYK becomes sRGB by the colour profile in the file; where there is none, by
    ``R = (1 - C) (1 - K)``, and likewise G and B.

    Args:
        content: a PNG, JPEG, BMP, GIF or WEBP file.
        size: pixels along one side of the result.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # odd EXIF, which the pixels do not depend on
            with Image.open(BytesIO(content), formats=FORMATS) as image:
                mode = _mode(content, image)
                rgb = _rgb(ImageOps.exif_transpose(image)) if mode in _MODES else None
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
        raise DataError(_reason(error)) from error
    if rgb is None:
        raise DataError(f"mode must be 8-bit gray, palette, RGB or CMYK, with or without alpha, but is {mode}")
    pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).unsqueeze(0)
    side = min(rgb.size)
    top, left = (rgb.height - side) // 2, (rgb.width - side) // 2
    return resized(pixels[..., top : top + side, left : left + side], size)[0]


def _mode(content: bytes, image: Image.Image) -> str:
    """Pillow's mode, except for 16-bit colour, which Pillow calls RGB and cuts to 8 bits without a word."""
    if image.format == "PNG" and content[_PNG_BIT_DEPTH] == 16:
        return f"{image.mode} with 16 bits a channel"
    return image.mode


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _from_cmyk(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert("RGB")
    ink = ImageCms.ImageCmsProfile(BytesIO(profile))
    converted = ImageCms.profileToProfile(image, ink, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return cast(Image.Image, converted)  # None is for what is converted in place


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not an image in a known format: {', '.join(FORMATS)}"
    return str(error).rstrip(".") or type(error).__name__
