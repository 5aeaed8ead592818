"""The built-in data sets, specs, and batches."""

from pathlib import Path

import numpy as np
import pytest
import torch

from metaopt.errors import ConfigError, DataError
from metaopt.gan import Dataset, load_dataset, sample_batch
from metaopt.gan.datasets import absolute_spec

BUILT_IN = {"digits": (1797, 8, 178), "mnist5k": (5000, 28, 500)}
"""Number, size, and how many images show a zero."""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_sets_are_what_their_packages_say(name: str) -> None:
    n, size, n_zeros = BUILT_IN[name]
    data = load_dataset(name)
    assert (data.name, len(data), data.size, data.channels) == (name, n, size, 1)
    assert (data.x.dtype, data.x.shape) == (torch.uint8, (n, 1, size, size))
    assert data.y is not None
    assert (data.y.dtype, data.y.shape, int((data.y == 0).sum())) == (torch.int64, (n,), n_zeros)
    assert (data.x.min(), data.x.max()) == (0, 255)


def test_digits_use_the_whole_range_in_sixteen_steps(digits: Dataset) -> None:
    assert digits.x.unique().tolist() == [round(255 * v / 16) for v in range(17)]


def test_the_same_spec_gives_the_same_hash(digits: Dataset) -> None:
    assert load_dataset("digits").content_hash == digits.content_hash


def test_the_hash_depends_on_content_and_not_on_the_source(digits: Dataset, tmp_path: Path) -> None:
    np.savez(tmp_path / "same.npz", x=digits.x.numpy())
    same = load_dataset(f"npz:{tmp_path / 'same.npz'}")
    assert same.content_hash == digits.content_hash
    assert load_dataset("digits", size=16).content_hash != digits.content_hash


def test_size_resizes(digits: Dataset) -> None:
    bigger = load_dataset("digits", size=32)
    assert bigger.x.shape == (1797, 1, 32, 32)
    error = bigger.x.float().mean((1, 2, 3)) - digits.x.float().mean((1, 2, 3))
    assert error.abs().max() < 12


def test_to_keeps_all_but_the_place(digits: Dataset) -> None:
    moved = digits.to("meta")
    assert moved.x.device.type == "meta"
    assert (moved.name, moved.content_hash, len(moved)) == (digits.name, digits.content_hash, len(digits))


def test_classes_go_to_the_device_and_stay_on_the_host(digits: Dataset) -> None:
    moved = digits.to("meta")
    assert moved.y is digits.y and digits.y_on_device is None
    assert moved.y_on_device is not None and moved.y_on_device.device.type == "meta"
    assert digits.n_classes == 10


@pytest.mark.parametrize(
    ("spec", "absolute"),
    [
        ("digits", "digits"),
        ("npz:a/b.npz", "npz:{here}/a/b.npz"),
        ("folder:/x y", "folder:/x y"),
        ("hf:owner/name@config#train[:10]", "hf:owner/name@config#train[:10]"),
        ("hf:/data/set#test", "hf:/data/set#test"),
    ],
)
def test_absolute_specs_mean_the_same_from_any_folder(
    spec: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_spec(spec) == absolute.format(here=tmp_path)
    assert absolute_spec(absolute_spec(spec)) == absolute_spec(spec)


def test_batches_are_images_of_the_set_and_repeat_with_the_generator(digits: Dataset) -> None:
    first, again = (sample_batch(digits, 50, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert (first.dtype, first.shape) == (torch.uint8, (50, 1, 8, 8))
    known = {image.numpy().tobytes() for image in digits.x}
    assert all(image.numpy().tobytes() in known for image in first)
    assert not torch.equal(first, sample_batch(digits, 50, torch.Generator().manual_seed(4)))


def test_batches_reach_every_image_and_leave_the_global_state() -> None:
    x = torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1).expand(5, 1, 8, 8).contiguous()
    data = Dataset(name="five", x=x, y=None, content_hash="")
    before = torch.random.get_rng_state()
    batch = sample_batch(data, 2000, torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.random.get_rng_state())
    counts = batch[:, 0, 0, 0].bincount(minlength=5)
    assert counts.min() > 320 and counts.max() < 480  # 400 +- 4.5 standard deviations


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "digit",
            r"no data set 'digit'; did you mean 'digits'\? Known: digits, .*, npz:FILE, npy:FILE, folder:DIR, "
            "readable:DIR, hf:NAME",
        ),
        ("mnist5", "did you mean 'mnist5k'"),
        ("", "no data set ''"),
        ("npz:", "a path must follow `npz:`, but got 'npz:'"),
        ("folder: ", "a path must follow `folder:`, but got 'folder: '"),
        ("some/where.npz", "For that file, write 'npz:some/where.npz'"),
        ("nzp:a.npz", "For that file, write 'npz:a.npz'"),
        ("some/where.npy", "For that file, write 'npy:some/where.npy'"),
        ("npy:", "a path must follow `npy:`, but got 'npy:'"),
        ("hf:", "a path must follow `hf:`, but got 'hf:'"),
        ("npz:~no-such-user/a.npz", "the home folder in 'npz:~no-such-user/a.npz' must exist"),
    ],
)
def test_unknown_specs_are_refused_with_a_hint(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(spec)


def test_a_bare_folder_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"For that folder, write 'folder:{tmp_path}'"):
        load_dataset(str(tmp_path))


def test_a_size_that_is_too_large_is_refused_before_reading() -> None:
    with pytest.raises(ConfigError, match="`size` must be a whole number from 8 to 64 pixels, but got 65"):
        load_dataset("npz:not-there.npz", size=65)


def test_the_home_folder_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "mine.npz", x=np.arange(128, dtype=np.uint8).reshape(2, 1, 8, 8))
    assert len(load_dataset("npz:~/mine.npz")) == 2


def test_classes_are_part_of_the_identity_and_not_of_the_images(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    y = np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.savez(tmp_path / "b.npz", x=x, y=1 - y)
    np.savez(tmp_path / "c.npz", x=x)
    a, b, c = (load_dataset(f"npz:{tmp_path}/{name}.npz") for name in "abc")
    assert a.content_hash == b.content_hash == c.content_hash == c.identity
    assert len({a.identity, b.identity, c.identity}) == 3
