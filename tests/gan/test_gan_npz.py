"""npz files: what is read, and a message for each way in which a file can be wrong."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metaopt.errors import DataError
from metaopt.gan import load_dataset


def _x(n: int = 6, channels: int = 1, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, channels, size, size), dtype=np.uint8)


def _load(path: Path, size: int | None = None):  # type: ignore[no-untyped-def]
    return load_dataset(f"npz:{path}", size=size)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_and_classes_are_read(tmp_path: Path, channels: int, save: Callable[..., None]) -> None:
    x, y = _x(channels=channels), np.arange(6, dtype=np.int32)
    save(tmp_path / "a.npz", x=x, y=y, other=np.zeros(3))
    data = _load(tmp_path / "a.npz")
    assert torch.equal(data.x, torch.from_numpy(x))
    assert data.y is not None and data.y.tolist() == list(range(6)) and data.y.dtype == torch.int64
    assert (data.size, data.channels) == (8, channels)


def test_classes_are_optional_and_memory_order_does_not_matter(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", x=_x())
    np.savez(tmp_path / "f.npz", x=np.asfortranarray(_x()))
    first, second = _load(tmp_path / "c.npz"), _load(tmp_path / "f.npz")
    assert first.y is None
    assert first.content_hash == second.content_hash


def test_larger_images_are_read_where_a_size_is_given(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=_x(size=65))
    assert _load(tmp_path / "a.npz", size=16).size == 16
    with pytest.raises(DataError, match=r"a\.npz: `x`: images must have 8 to 64 pixels a side, but have 65; give"):
        _load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": _x()}, "the key `x` must be there, but it is not; keys in the file: 'images'"),
        ({}, "the key `x` must be there, but it is not; keys in the file: none"),
        ({"x": np.array([{}, 1], dtype=object)}, "`x` must be a readable array, but: its dtype is object"),
        ({"x": _x().astype(np.float32)}, r"`x` must have dtype uint8 \(0 to 255\), but has float32"),
        ({"x": _x().astype(np.int64)}, r"`x` must have dtype uint8 \(0 to 255\), but has int64"),
        ({"x": _x()[:, 0]}, r"`x` must have 4 dimensions \(N, C, H, W\), but its shape is \(6, 8, 8\)"),
        ({"x": np.uint8(3)}, r"`x` must have 4 dimensions \(N, C, H, W\), but its shape is \(\)"),
        ({"x": _x(channels=4)}, r"`x` must have 1 or 3 channels, but has 4: its shape is \(6, 4, 8, 8\)\.$"),
        (
            {"x": _x(channels=3).transpose(0, 2, 3, 1)},
            r"`x` must have 1 or 3 channels, but has 8: .*channels come second: x\.transpose\(0, 3, 1, 2\)",
        ),
        ({"x": _x(n=0)}, r"`x` must hold at least one image, but its shape is \(0, 1, 8, 8\)"),
        ({"x": _x()[..., :7]}, r"`x`: images must be square, `H == W > 0`, but are 8 x 7 pixels"),
        ({"x": _x(size=0)}, r"`x`: images must be square, `H == W > 0`, but are 0 x 0 pixels"),
        ({"x": _x(size=7)}, "`x`: images must have 8 to 64 pixels a side, but have 7"),
        ({"x": np.full_like(_x(), 9)}, "`x`: pixels must differ, but all are 9 in all 6 images"),
        (
            {"x": _x(), "y": np.zeros(5, int)},
            r"`y` must have one number an image, shape \(6,\), .* is \(5,\)",
        ),
        ({"x": _x(), "y": np.zeros((6, 1), int)}, r"`y` must have one number an image, .* shape is \(6, 1\)"),
        (
            {"x": _x(), "y": np.arange(6) - 1},
            "`y` must hold classes counted from 0, `0 <= y <= 65535`, but holds -1 to 4",
        ),
        ({"x": _x(), "y": np.full(6, 2**40)}, "`y` must hold classes counted from 0, .*, but holds 1099511627776 to"),
        ({"x": _x(), "y": np.zeros(6)}, "`y` must have an integer dtype, but has float64"),
        ({"x": _x(), "y": np.array(["a"] * 6)}, "`y` must have an integer dtype, but has <U1"),
        ({"x": _x(), "y": np.array([None] * 6)}, "`y` must be a readable array, but: its dtype is object"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=rf"^{tmp_path}/bad\.npz: {message}"):
        _load(tmp_path / "bad.npz")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
            return Path.touch, (marker,)

    np.savez(tmp_path / "bad.npz", x=np.array([Attack()], dtype=object))
    with pytest.raises(DataError, match="would have to be unpickled"):
        _load(tmp_path / "bad.npz")
    assert not marker.exists()


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz: the file must exist, but there is none"):
        _load(tmp_path / "nowhere.npz")
    with pytest.raises(DataError, match="must be a file, but it is a folder"):
        _load(tmp_path)
    with pytest.raises(DataError, match=r"the file cannot be read: File name too long|there is none"):
        _load(tmp_path / ("a" * 300))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"but it is empty \(0 bytes\)"),
        (b"hello, I am text", "but it starts with the bytes b'he'"),
        (b"\x80\x04\x95pickle", r"but it starts with the bytes b'\\x80\\x04'"),
        (b"\x93NUMPY\x01\x00v\x00", r"but it starts with the bytes b'\\x93N'"),
    ],
)
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.npz: must be an \.npz file.*{message}"):
        _load(tmp_path / "bad.npz")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    np.savez(tmp_path / "a.npz", x=_x(n=50))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"cut\.npz: the zip must be whole.*truncated or damaged \([\d,]+ bytes"):
        _load(tmp_path / "cut.npz")


def test_a_flipped_pixel_is_found_by_the_checksum(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=_x(n=50))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"`x` must be a readable array, but: Bad CRC-32.*the file is damaged"):
        _load(tmp_path / "a.npz")


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("x", b"not an array")
    with pytest.raises(DataError, match="`x` must have dtype uint8"):
        _load(tmp_path / "bad.npz")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_damage_anywhere_is_refused_or_harmless(tmp_path: Path, flips: list[tuple[float, int]]) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=_x(n=2), y=np.arange(2))
    content = bytearray(path.read_bytes())
    for where, change in flips:
        content[int(where * (len(content) - 1))] ^= change
    path.write_bytes(content)
    try:
        data = _load(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert torch.equal(data.x, torch.from_numpy(_x(n=2)))
