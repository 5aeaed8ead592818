"""Corruption: exact shares, nesting strengths, the same every time, and nothing at all when it is off."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaopt.errors import ConfigError, DataError
from metaopt.gan import Corruption, Dataset, corrupted, load_dataset, to_uint8
from metaopt.gan.corruption import GRAY
from metaopt.gan.images import content_hash

N = 1100  # more than one chunk


def _dataset(n: int = N, channels: int = 1, size: int = 8, n_classes: int = 5) -> Dataset:
    """No pixel is mid-gray, so that each that is has been lost."""
    random = torch.Generator().manual_seed(0)
    x = torch.randint(0, 255, (n, channels, size, size), dtype=torch.uint8, generator=random)
    x += (x >= GRAY).to(torch.uint8)
    y = torch.arange(n) % n_classes * 2  # classes 0, 2, 4, ...
    return Dataset(name="made", x=x, y=y, content_hash=content_hash(x))


@pytest.fixture(scope="module")
def clean() -> Dataset:
    return _dataset()


EACH: list[dict[str, Any]] = [
    {"noise": 0.3},
    {"missing_pixels": 0.3},
    {"missing_patches": 0.3},
    {"n_kept": 100},
    {"label_noise": 0.3},
    {"foreign": 0.3, "foreign_data": "digits"},
]


def test_what_is_missing_is_zero_in_images_from_minus_one_to_one() -> None:
    assert to_uint8(torch.zeros(1)).tolist() == [GRAY]


def test_off_is_the_very_same_data_set(clean: Dataset) -> None:
    for off in (Corruption(), Corruption(seed=7), Corruption(foreign_data="digits")):
        assert off.off
        assert corrupted(clean, off) is clean


@pytest.mark.parametrize("strength", EACH, ids=lambda strength: next(iter(strength)))
def test_each_is_a_function_of_the_data_and_the_corruption(clean: Dataset, strength: dict[str, Any]) -> None:
    before, labels = clean.x.clone(), clean.y
    corruption = Corruption(**strength)
    assert not corruption.off
    first, again = (corrupted(clean, corruption) for _ in range(2))
    assert torch.equal(first.x, again.x) and first.content_hash == again.content_hash
    assert first.y is not None and again.y is not None and torch.equal(first.y, again.y)
    assert torch.equal(clean.x, before) and clean.y is labels
    assert first.identity != clean.identity
    other = corrupted(clean, replace(corruption, seed=1))
    assert other.identity != first.identity
    assert (first.name, first.size, first.channels, first.x.dtype) == ("made", 8, 1, torch.uint8)


def test_noise_has_the_standard_deviation_that_is_asked_for() -> None:
    x = torch.full((200, 3, 16, 16), 100, dtype=torch.uint8)
    x[0, 0, 0, 0] = 101
    data = Dataset(name="flat", x=x, y=None, content_hash="")
    noise = (corrupted(data, Corruption(noise=0.1)).x.double() - x.double()) / 127.5
    assert noise.std() == pytest.approx(0.1, rel=0.01)
    assert noise.mean() == pytest.approx(0.0, abs=0.001)
    flat = noise.flatten(1)
    assert (flat[::2] * flat[1::2]).mean() == pytest.approx(0.0, abs=2e-4)  # independent between images
    weak = corrupted(data, Corruption(noise=0.05)).x.double() - x.double()
    assert (weak - noise * 127.5 / 2).abs().max() <= 0.75  # half of it, but for rounding


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.777, 0.99])
def test_missing_pixels_are_exact_and_whole(share: float) -> None:
    data = _dataset(channels=3)
    lost = corrupted(data, Corruption(missing_pixels=share)).x == GRAY
    assert torch.equal(lost[:, 0], lost[:, 1]) and torch.equal(lost[:, 0], lost[:, 2])
    counts = lost[:, 0].sum((1, 2))
    assert set(counts.tolist()) <= {int(share * 64), int(share * 64) + 1}
    assert abs(int(counts.sum()) - share * 64 * N) <= 1
    rate = lost[:, 0].double().mean(0)
    assert (rate - share).abs().max() < 5 * (share * (1 - share) / N) ** 0.5  # everywhere alike


@pytest.mark.parametrize("share", [0.02, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("size", [8, 28, 30, 32])
def test_missing_patches_are_cells_of_a_grid_of_four(size: int, share: float) -> None:
    data = _dataset(size=size, n=200)
    lost = (corrupted(data, Corruption(missing_patches=share)).x == GRAY)[:, 0]
    bands = list(pairwise(-(-i * size // 4) for i in range(5)))
    boxes = [lost[:, top:bottom, left:right] for top, bottom in bands for left, right in bands]
    cells = torch.stack([box.double().mean((1, 2)) for box in boxes], 1)
    assert set(cells.unique().tolist()) <= {0.0, 1.0}
    assert abs(float(cells.sum()) - share * 16 * 200) <= 1
    assert cells.sum(1).max() - cells.sum(1).min() <= 1


@settings(max_examples=15, deadline=None)
@given(weak=st.floats(0.001, 0.98), more=st.floats(0, 1), seed=st.integers(0, 5))
@pytest.mark.parametrize("field", ["missing_pixels", "missing_patches"])
def test_more_that_is_missing_includes_all_that_was(field: str, weak: float, more: float, seed: int) -> None:
    strong = weak + more * (0.99 - weak)
    data = _dataset(n=150)
    lost = [corrupted(data, Corruption(**{field: share, "seed": seed})).x == GRAY for share in (weak, strong)]  # type: ignore[arg-type]
    assert (lost[0] <= lost[1]).all()


def test_fewer_images_kept_are_among_the_more(clean: Dataset) -> None:
    few, many = corrupted(clean, Corruption(n_kept=100)), corrupted(clean, Corruption(n_kept=900))
    known = {image.numpy().tobytes(): i for i, image in enumerate(clean.x)}
    places = [[known[image.numpy().tobytes()] for image in data.x] for data in (few, many)]
    assert [len(place) for place in places] == [100, 900]
    assert set(places[0]) < set(places[1])
    assert all(place == sorted(place) for place in places)
    assert clean.y is not None and few.y is not None and torch.equal(few.y, clean.y[torch.tensor(places[0])])
    assert places[0] != list(range(100))


@pytest.mark.parametrize("share", [0.001, 0.0015, 0.1, 0.6, 1.0])
def test_labels_change_to_other_classes_of_the_set(clean: Dataset, share: float) -> None:
    noisy = corrupted(clean, Corruption(label_noise=share))
    assert clean.y is not None and noisy.y is not None
    wrong = noisy.y != clean.y
    assert int(wrong.sum()) == round(share * N)
    assert set(noisy.y.tolist()) <= {0, 2, 4, 6, 8}
    assert noisy.x is clean.x
    stronger = corrupted(clean, Corruption(label_noise=min(1.0, share + 0.2))).y
    assert stronger is not None and torch.equal(stronger[wrong], noisy.y[wrong])
    if share == 1.0:
        steps = (noisy.y - clean.y).remainder(10).bincount(minlength=10)[2::2]
        assert (steps - N / 4).abs().max() < 5 * (N * 3 / 16) ** 0.5  # each of the others alike


@pytest.mark.parametrize(("channels", "other"), [(1, "digits"), (3, "digits"), (1, "colour"), (3, "colour")])
def test_foreign_images_come_from_the_other_set(channels: int, other: str, tmp_path: Path) -> None:
    data = _dataset(n=300, channels=channels)
    if other == "colour":
        np.savez(tmp_path / "other.npz", x=_dataset(n=40, channels=3, size=16).x.numpy())
        other = f"npz:{tmp_path}/other.npz"
    loaded = load_dataset(other, size=8).x
    if channels == 1 and loaded.shape[1] == 3:
        weights = np.array([[[299]], [[587]], [[114]]])
        loaded = torch.tensor(((loaded.numpy() * weights).sum(1, keepdims=True) + 500) // 1000, dtype=torch.uint8)
    known = {image.numpy().tobytes() for image in loaded.expand(-1, channels, -1, -1).contiguous()}
    mixed = corrupted(data, Corruption(foreign=0.4, foreign_data=other))
    replaced = torch.tensor([image.numpy().tobytes() in known for image in mixed.x])
    assert int(replaced.sum()) == 120
    assert torch.equal(mixed.x[~replaced], data.x[~replaced])
    assert mixed.y is data.y
    few = corrupted(data, Corruption(foreign=0.1, foreign_data=other))
    changed = (few.x != data.x).flatten(1).any(1)
    assert int(changed.sum()) == 30
    assert torch.equal(few.x[changed], mixed.x[changed])


def test_they_come_in_the_stated_order_and_leave_each_other_alone(clean: Dataset) -> None:
    together = {"noise": 0.2, "missing_pixels": 0.2, "missing_patches": 0.2, "n_kept": 500, "label_noise": 0.5}
    all_at_once = corrupted(clean, Corruption(**together))  # type: ignore[arg-type]
    one_by_one = clean
    for field in ("n_kept", "label_noise", "noise", "missing_pixels", "missing_patches"):
        one_by_one = corrupted(one_by_one, Corruption(**{field: together[field]}))  # type: ignore[arg-type]
    assert torch.equal(all_at_once.x, one_by_one.x)
    assert all_at_once.y is not None and one_by_one.y is not None and torch.equal(all_at_once.y, one_by_one.y)


def test_different_things_go_wrong_with_different_images(clean: Dataset) -> None:
    result = corrupted(clean, Corruption(label_noise=0.5, foreign=0.5, foreign_data="digits"))
    assert clean.y is not None and result.y is not None
    replaced, wrong = (result.x != clean.x).flatten(1).any(1), result.y != clean.y
    assert int((replaced & wrong).sum()) == pytest.approx(N / 4, abs=40)  # 5 standard deviations


def test_a_map_is_corrupted_in_memory(tmp_path: Path, clean: Dataset) -> None:
    np.save(tmp_path / "a.npy", clean.x.numpy())
    mapped = load_dataset(f"npy:{tmp_path}/a.npy")
    result = corrupted(mapped, Corruption(missing_pixels=0.5))
    assert not result.mapped
    assert torch.equal(result.x, corrupted(clean, Corruption(missing_pixels=0.5)).x)
    assert torch.equal(mapped.x, clean.x)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"noise": -0.1}, r"`0 <= noise <= 2` must hold, but got noise=-0.1"),
        ({"noise": 2.1}, r"`0 <= noise <= 2` must hold, but got noise=2.1"),
        ({"noise": float("nan")}, r"`0 <= noise <= 2` must hold, but got noise=nan"),
        ({"noise": True}, r"`0 <= noise <= 2` must hold, but got noise=True"),
        ({"missing_pixels": 1.0}, r"`0 <= missing_pixels < 1` must hold, but got missing_pixels=1.0"),
        ({"missing_patches": "0.5"}, r"`0 <= missing_patches < 1` must hold, but got missing_patches='0.5'"),
        ({"label_noise": 1.01}, r"`0 <= label_noise <= 1` must hold"),
        ({"foreign": 0.1}, r"`foreign_data` must name a data set where foreign > 0, but got foreign=0.1"),
        ({"foreign_data": "digit"}, "no data set 'digit'; did you mean 'digits'"),
        ({"foreign_data": None}, "`foreign_data` must be a string, but got None"),
        ({"n_kept": 0}, r"`n_kept >= 1` must hold, but got n_kept=0"),
        ({"n_kept": 10.0}, r"`n_kept` must be a whole number, but got 10.0"),
        ({"seed": -1}, r"`0 <= seed < 2147483648` must hold, but got seed=-1"),
    ],
)
def test_wrong_strengths_are_refused_at_birth(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Corruption(**fields)


def test_what_does_not_fit_the_data_is_refused(clean: Dataset) -> None:
    with pytest.raises(DataError, match="made: `n_kept` must be at most the number of images, 1100, but is 1101"):
        corrupted(clean, Corruption(n_kept=1101))
    for y, n_classes in ((None, 0), (torch.zeros(N, dtype=torch.int64), 1)):
        with pytest.raises(DataError, match=f"two classes or more, but there are {n_classes}"):
            corrupted(replace(clean, y=y), Corruption(label_noise=0.1))
    one = replace(clean, x=torch.full((2, 1, 8, 8), 9, dtype=torch.uint8), y=None)
    with pytest.raises(DataError, match="made, corrupted: pixels must differ"):
        corrupted(one, Corruption(n_kept=1))


def test_corruptions_can_be_keys() -> None:
    assert len({Corruption(noise=0.1), Corruption(noise=0.1), Corruption()}) == 2
