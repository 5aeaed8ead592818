"""npy files: mapped, not loaded, with classes beside them; and a message for each way in which they can be wrong."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from metaopt.errors import DataError
from metaopt.gan import load_dataset, sample_batch, sample_labelled


def _x(n: int = 6, channels: int = 3, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, channels, size, size), dtype=np.uint8)


def test_images_are_mapped_and_equal_those_in_memory(tmp_path: Path) -> None:
    x, y = _x(2000), np.arange(2000) % 7
    np.save(tmp_path / "a.npy", x)
    np.save(tmp_path / "a.labels.npy", y)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    mapped, held = load_dataset(f"npy:{tmp_path}/a.npy"), load_dataset(f"npz:{tmp_path}/a.npz")
    assert (mapped.mapped, held.mapped) == (True, False)
    assert mapped.content_hash == held.content_hash
    drawn = [sample_labelled(data, 100, torch.Generator().manual_seed(1)) for data in (mapped, held)]
    assert torch.equal(drawn[0][0], drawn[1][0]) and torch.equal(drawn[0][1], drawn[1][1])


def test_a_map_stays_where_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", _x())
    np.save(tmp_path / "a.labels.npy", np.arange(6))
    moved = load_dataset(f"npy:{tmp_path}/a.npy").to("meta")
    assert moved.x.device.type == "cpu" and moved.mapped
    assert moved.y_on_device is not None and moved.y_on_device.device.type == "meta"


def test_another_size_is_resized_into_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", _x())
    np.savez(tmp_path / "a.npz", x=_x())
    small = load_dataset(f"npy:{tmp_path}/a.npy", size=8)
    assert not small.mapped and small.to("meta").x.device.type == "meta"
    assert small.content_hash == load_dataset(f"npz:{tmp_path}/a.npz", size=8).content_hash
    assert load_dataset(f"npy:{tmp_path}/a.npy", size=16).mapped


def test_the_file_is_never_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, _x())
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    data = load_dataset(f"npy:{path}")
    data.x[0] = 7
    del data
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


_DRAW = """
import sys, torch
from metaopt.gan import load_dataset, sample_batch
data = load_dataset("npy:" + sys.argv[1])
sample_batch(data, 64, torch.Generator().manual_seed(0))
status = dict(line.split(":") for line in open("/proc/self/status"))
print(int(status["RssAnon"].split()[0]) // 1024)
"""


def test_a_large_file_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    large = np.lib.format.open_memmap(path, "w+", np.uint8, (60_000, 3, 64, 64))
    large[0, 0, 0, 0] = 1
    del large  # 703 MiB, of which the disk holds one block, as the rest is a hole
    held_mib = int(subprocess.run([sys.executable, "-c", _DRAW, path], capture_output=True, check=True).stdout)
    assert held_mib < 500


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (_x().astype(np.float32), r"the array must have dtype uint8 \(0 to 255\), but has float32"),
        (_x()[:, 0], r"the array must have 4 dimensions \(N, C, H, W\), but its shape is \(6, 16, 16\)"),
        (_x().transpose(0, 2, 3, 1).copy(), "the array must have 1 or 3 channels, but has 16: .*channels come second"),
        (_x(n=0), "the array must hold at least one image"),
        (np.asfortranarray(_x()), "the array must be in C order .*, but is in Fortran order"),
        (_x(size=65), "images must have 8 to 64 pixels a side, but have 65"),
        (_x()[..., :9].copy(), "images must be square"),
        (np.zeros_like(_x()), "pixels must differ, but all are 0 in all 6 images"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, x: np.ndarray, message: str) -> None:
    np.save(tmp_path / "bad.npy", x)
    with pytest.raises(DataError, match=rf"^{tmp_path}/bad\.npy: {message}"):
        load_dataset(f"npy:{tmp_path}/bad.npy")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(5, int), r"must have one number an image, shape \(6,\), but its shape is \(5,\)"),
        (np.zeros(6), "must have an integer dtype, but has float64"),
        (np.arange(6) - 2, "must hold classes counted from 0, .* but holds -2 to 3"),
    ],
)
def test_wrong_classes_are_refused(tmp_path: Path, y: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", _x())
    np.save(tmp_path / "a.labels.npy", y)
    with pytest.raises(DataError, match=rf"^{tmp_path}/a\.labels\.npy: the array {message}"):
        load_dataset(f"npy:{tmp_path}/a.npy")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
            return Path.touch, (marker,)

    np.save(tmp_path / "bad.npy", np.array([Attack()], dtype=object))
    with pytest.raises(DataError, match="its dtype is object, which would have to be unpickled"):
        load_dataset(f"npy:{tmp_path}/bad.npy")
    assert not marker.exists()


@pytest.mark.parametrize("share", [0.001, 0.3, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, share: float) -> None:
    np.save(tmp_path / "a.npy", _x(50))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"a\.npy: must be a readable array, but: .*the file is truncated or damaged"):
        load_dataset(f"npy:{tmp_path}/a.npy")


def test_what_is_no_npy_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npy: the file must exist, but there is none"):
        load_dataset(f"npy:{tmp_path}/none.npy")
    with pytest.raises(DataError, match="must be a file, but it is a folder"):
        load_dataset(f"npy:{tmp_path}")
    for content, message in [(b"", r"is empty \(0 bytes\)"), (b"PK\3\4 zip", r"starts with the bytes b'PK")]:
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(DataError, match=rf"a\.npy: must be an \.npy file, which starts with .*, but it {message}"):
            load_dataset(f"npy:{tmp_path}/a.npy")


def test_batches_reach_the_last_image(tmp_path: Path) -> None:
    x = np.zeros((5, 1, 8, 8), np.uint8)
    x[:] = np.arange(5)[:, None, None, None]
    np.save(tmp_path / "a.npy", x)
    batch = sample_batch(load_dataset(f"npy:{tmp_path}/a.npy"), 200, torch.Generator().manual_seed(0))
    assert batch[:, 0, 0, 0].unique().tolist() == [0, 1, 2, 3, 4]
