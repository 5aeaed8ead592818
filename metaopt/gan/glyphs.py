"""The data set `glyphs`: letters and digits, drawn with the fonts that matplotlib ships."""

import string
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from metaopt.gan.images import RawImages
from metaopt.gan.sources import packaged_file

if TYPE_CHECKING:
    from PIL import ImageFont

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmti10", "cmss10", "cmtt10"),
)
"""Those of matplotlib's fonts that have all characters as ordinary letters; the others are symbols."""
FONT_SIZES = (14, 16, 19)
OFFSETS = ((-1, -1), (1, 1))
_PIXELS = 28
_MIDDLE, _BASELINE = 14, 20


def load_glyphs() -> RawImages:
    """7,812 letters and digits, 62 classes, gray, 28 x 28 pixels: 21 fonts x 3 sizes x 2 places x 62 characters.

    Characters are white on black, centred from left to right, on one baseline (so that p lies lower than b).
    Classes are 0-9, A-Z, a-z in this order. The last bit of some pixels may change with the version of FreeType
    in Pillow; the content hash tells.
    """
    images = [
        _drawn(character, font, offset)
        for name in FONTS
        for size in FONT_SIZES
        for font in [_font(name, size)]
        for offset in OFFSETS
        for character in CHARACTERS
    ]
    y = torch.arange(len(CHARACTERS)).repeat(len(images) // len(CHARACTERS))
    return RawImages(x=torch.from_numpy(np.stack(images)[:, None]), y=y, where="glyphs")


def _font(name: str, size: int) -> "ImageFont.FreeTypeFont":
    from PIL import ImageFont

    path = packaged_file("glyphs", "matplotlib", f"mpl-data/fonts/ttf/{name}.ttf", "matplotlib")
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)  # the same with and without Raqm


def _drawn(
    character: str, font: "ImageFont.FreeTypeFont", offset: tuple[int, int]
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    from PIL import Image, ImageDraw

    image = Image.new("L", (_PIXELS, _PIXELS))
    place = (_MIDDLE + offset[0], _BASELINE + offset[1])
    ImageDraw.Draw(image).text(place, character, fill=255, font=font, anchor="ms")
    return np.array(image)
