"""Folders of images: what is read and how, and a message for each file that cannot be."""

import errno
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metaopt.errors import DataError
from metaopt.gan import Dataset, load_dataset


def _pixels(height: int = 8, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _save(path: Path, pixels: np.ndarray | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_pixels() if pixels is None else pixels).save(path, **options)
    return path


def _load(folder: Path, size: int | None = 8) -> Dataset:
    return load_dataset(f"folder:{folder}", size=size)


def _refusal(folder: Path) -> str:
    with pytest.raises(DataError, match=r"every image must be readable, but \d+ of \d+ are not") as caught:
        _load(folder)
    return str(caught.value)


def test_colour_images_are_read_as_they_are_in_sorted_order(tmp_path: Path) -> None:
    names = ["b.png", "a/z.PNG", "c.bmp", "a/B/q.webp", "d.gif"]
    for seed, name in enumerate(names):
        pixels = _pixels(seed=seed) // 64 * 64 if name.endswith("gif") else _pixels(seed=seed)
        _save(tmp_path / name, pixels, **({"lossless": True, "exact": True} if name.endswith("webp") else {}))
    data = _load(tmp_path)
    assert (data.x.shape, data.y) == ((5, 3, 8, 8), None)  # two lie in no subfolder, so there are no classes
    for position, name in enumerate(["a/B/q.webp", "a/z.PNG", "b.png", "c.bmp"]):
        expected = torch.from_numpy(_pixels(seed=names.index(name))).permute(2, 0, 1)
        assert torch.equal(data.x[position], expected), name


def test_a_folder_and_an_npz_of_the_same_images_have_the_same_hash(tmp_path: Path) -> None:
    x = np.stack([_pixels(seed=seed) for seed in range(4)])
    for position, pixels in enumerate(x):
        _save(tmp_path / "images" / f"{position}.png", pixels)
    np.savez(tmp_path / "a.npz", x=x.transpose(0, 3, 1, 2))
    from_npz = load_dataset(f"npz:{tmp_path / 'a.npz'}")
    assert _load(tmp_path / "images").content_hash == from_npz.content_hash


def test_the_default_size_is_32_and_others_are_resized(tmp_path: Path) -> None:
    _save(tmp_path / "a.png", _pixels(100, 70))
    _save(tmp_path / "b.png", _pixels(5, 9))
    assert _load(tmp_path, None).x.shape == (2, 3, 32, 32)
    assert _load(tmp_path, 12).x.shape == (2, 3, 12, 12)


@pytest.mark.parametrize(("height", "width"), [(8, 14), (14, 8)])
def test_the_square_in_the_middle_is_cut_out(tmp_path: Path, height: int, width: int) -> None:
    pixels = _pixels(height, width)
    _save(tmp_path / "a.png", pixels)
    middle = pixels[3:11] if height > width else pixels[:, 3:11]
    assert torch.equal(_load(tmp_path).x[0], torch.from_numpy(middle).permute(2, 0, 1))


def test_gray_needs_every_image_to_be_gray(tmp_path: Path) -> None:
    gray = _pixels()[..., 0]
    Image.fromarray(gray).save(tmp_path / "a.png")
    Image.fromarray(gray).convert("RGB").save(tmp_path / "b.bmp")
    Image.fromarray(gray > 127).save(tmp_path / "c.png")
    Image.fromarray(gray).convert("P").save(tmp_path / "d.gif")
    data = _load(tmp_path)
    assert data.channels == 1
    for position in (0, 1, 3):
        assert torch.equal(data.x[position, 0], torch.from_numpy(gray))
    assert data.x[2].unique().tolist() == [0, 255]
    _save(tmp_path / "e.png")
    mixed = _load(tmp_path)
    assert mixed.x.shape == (5, 3, 8, 8)
    assert torch.equal(mixed.x[0], data.x[0].expand(3, 8, 8))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    if mode == "P":
        palette = Image.new("P", (8, 8), 1)
        palette.putpalette([0, 0, 0, 200, 0, 0])
        palette.paste(0, (0, 0, 4, 8))
        palette.save(tmp_path / "a.png", transparency=1)
    else:
        image.convert(mode).save(tmp_path / "a.png")
    x = _load(tmp_path).x
    assert x.shape == (1, 1, 8, 8)
    assert x[..., :4].unique().tolist() == [0]
    assert x[..., 4:].unique().tolist() == [255]


def test_half_transparent_colour_is_mixed_with_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 51))
    image.putpixel((0, 0), (0, 0, 0, 255))
    image.save(tmp_path / "a.png")
    assert _load(tmp_path).x[0, :, 4, 4].tolist() == [255, 204, 204]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter for display: left becomes top
    _save(tmp_path / "a.png", pixels, exif=exif)
    _save(tmp_path / "b.jpg", pixels, exif=exif, quality=100)
    x = _load(tmp_path).x.float()
    assert (x[:, :, :4].min() > 250) and (x[:, :, 4:].max() < 5)


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    first, second = (Image.new("L", (8, 8), value) for value in (0, 255))
    first.putpixel((2, 3), 255)
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert _load(tmp_path).x.float().sum() == 255


def test_other_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    _save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._a.png").write_bytes(b"resource fork")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "b.png").write_bytes(b"broken")
    assert len(_load(tmp_path)) == 1


def test_linked_folders_are_read_once_and_loops_end(tmp_path: Path) -> None:
    _save(tmp_path / "data" / "a.png")
    _save(tmp_path / "elsewhere" / "b.png", _pixels(seed=1))
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "linked-again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "self").symlink_to(tmp_path / "data" / "self")
    assert len(_load(tmp_path / "data")) == 2


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, message in [
        (tmp_path / "nowhere", "nowhere: the folder must exist, but there is none"),
        (tmp_path / "file", "file: must be a folder of images, but it is a file"),
        (tmp_path / ("a" * 300), "the folder cannot be read: File name too long|there is none"),
    ]:
        with pytest.raises(DataError, match=message):
            _load(path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold images \(\.bmp .*\), but there are none among its 0 files"):
        _load(tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="but there are none among its 1 files"):
        _load(tmp_path)


def test_images_without_any_difference_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), (7, 7, 7)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=f"{tmp_path}: pixels must differ, but all are 7 in all 1 images"):
        _load(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp"])
def test_truncated_images_are_named(tmp_path: Path, suffix: str) -> None:
    _save(tmp_path / "good.png")
    whole = _save(tmp_path / f"cut.{suffix}", _pixels(40, 40)).read_bytes()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / f"cut.{suffix}").write_bytes(whole[: int(len(whole) * share)])
        message = _refusal(tmp_path)
        assert f"but 1 of 2 are not: cut.{suffix} (" in message
        assert message.endswith(f"). Mend them, or leave out those that are no images by 'readable:{tmp_path}'.")
        assert "()" not in message


def test_each_kind_of_broken_file_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "really.tiff")
    (tmp_path / "really.tiff").rename(tmp_path / "tiff.png")
    message = _refusal(tmp_path)
    assert "but 5 of 5 are not: " in message
    for part in [
        "empty.png (0 bytes)",
        "text.jpg (not an image in a known format: PNG, JPEG, BMP, GIF, WEBP)",
        "link.png (not a regular file)",
        "pipe.png (not a regular file)",
        "tiff.png (not an image in a known format: PNG, JPEG, BMP, GIF, WEBP)",
    ]:
        assert part in message


def test_five_broken_files_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(b"")
    _save(tmp_path / "good.png")
    message = _refusal(tmp_path)
    assert "but 8 of 9 are not: 0.png (0 bytes), 1.png" in message
    assert "4.png (0 bytes), and 3 more. Mend them" in message


def test_readable_ones_alone_are_those_of_a_folder_without_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        _save(tmp_path / "sound" / f"{number % 2}" / f"{number}.png", _pixels(seed=number))
    shutil.copytree(tmp_path / "sound", tmp_path / "mixed")
    (tmp_path / "mixed" / "0" / "1.png").write_bytes(b"")
    (tmp_path / "mixed" / "1" / "link.png").symlink_to(tmp_path / "nowhere")
    sound = load_dataset(f"folder:{tmp_path / 'sound'}", size=8)
    mixed = load_dataset(f"readable:{tmp_path / 'mixed'}", size=8)
    assert (mixed.identity, mixed.n_left_out, sound.n_left_out) == (sound.identity, 2, 0)
    assert "2 of 6 images are left out: 0/1.png (0 bytes), 1/link.png (not a regular file)" in caplog.text


def test_a_class_keeps_its_number_though_all_of_it_be_left_out(tmp_path: Path) -> None:
    for number, folder in enumerate("abc"):
        _save(tmp_path / folder / "x.png", _pixels(seed=number))
    (tmp_path / "a" / "x.png").write_bytes(b"")
    y = load_dataset(f"readable:{tmp_path}", size=8).y
    assert y is not None and y.tolist() == [1, 2]


def test_what_cannot_be_read_now_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        _save(tmp_path / f"{number}.png", _pixels(seed=number))
    (tmp_path / "empty.png").write_bytes(b"")
    read = Path.read_bytes

    def fail(path: Path) -> bytes:
        if path.name == "1.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(DataError, match=r"but 1 of 3 are not: 1\.png \(cannot be read: Input/output error\)\.$"):
        load_dataset(f"readable:{tmp_path}", size=8)


def test_readable_needs_one_that_is(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"but 1 of 1 are not: a.png \(0 bytes\)\.$"):
        load_dataset(f"readable:{tmp_path}", size=8)


def _png(width: int, height: int, *, bit_depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, bit_depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_images_of_other_depth_or_colours_are_refused_by_mode(tmp_path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(tmp_path / "gray16.png")
    rows = (b"\x00" + bytes(8 * 6)) * 8
    (tmp_path / "rgb16.png").write_bytes(_png(8, 8, bit_depth=16, colour=2, rows=rows))
    message = _refusal(tmp_path)
    assert "rgb16.png (mode must be 8-bit gray, palette, RGB or CMYK, with or without alpha, but is RGB with" in message
    assert "gray16.png (mode must be" in message and "but is I;16 with 16 bits a channel)" in message


@pytest.mark.parametrize("side", [9_600, 60_000], ids=["warned", "refused"])
def test_a_decompression_bomb_is_not_opened(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(_png(side, side, bit_depth=8, colour=0, rows=b""))
    assert f"bomb.png (Image size ({side**2} pixels) exceeds limit of" in _refusal(tmp_path)


def test_subfolders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    for seed, name in enumerate(["b/1.png", "a/2.png", "b/0.png", "c d/x.png"]):
        _save(tmp_path / name, _pixels(seed=seed))
    data = _load(tmp_path)
    assert data.y is not None and data.y.dtype == torch.int64
    assert (data.y.tolist(), data.n_classes) == ([0, 1, 1, 2], 3)
    for position, seed in enumerate([1, 2, 0, 3]):
        assert torch.equal(data.x[position], torch.from_numpy(_pixels(seed=seed)).permute(2, 0, 1))


@pytest.mark.parametrize("extra", ["top.png", "b/deeper/x.png"])
def test_images_elsewhere_than_in_direct_subfolders_mean_no_classes(tmp_path: Path, extra: str) -> None:
    for name in ["a/1.png", "b/2.png", extra]:
        _save(tmp_path / name)
    assert _load(tmp_path).y is None


def test_one_subfolder_is_no_class(tmp_path: Path) -> None:
    _save(tmp_path / "all" / "1.png")
    _save(tmp_path / "all" / "2.png")
    assert _load(tmp_path).y is None


@pytest.mark.parametrize(
    ("ink", "rgb"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 0, 0), (255, 0, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((51, 102, 153, 51), (163, 122, 82)),  # 255 (1 - ink) (1 - black)
    ],
)
def test_cmyk_without_a_profile_is_ink_on_white(tmp_path: Path, ink: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    Image.new("CMYK", (8, 8), ink).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    _save(tmp_path / "b.png")  # as one colour alone would be refused
    assert (_load(tmp_path).x[0, :, 4, 4] - torch.tensor(rgb)).abs().max() <= 2


def _inverted_profile() -> bytes:
    """A CMYK profile (ICC.1:2001-04, lut8Type) in which ink is light: all four at most are white, none is black."""
    ramp = bytes(range(256))
    grid = [(c + m + y + k) // 4 * 255 for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    table = b"".join(bytes([lightness, 128, 128]) for lightness in grid)
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + table + ramp * 3
    size = 128 + 4 + 12 + len(lut)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(lut)) + lut


def test_cmyk_with_a_profile_is_converted_by_it(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (0, 0, 4, 8))
    image.save(tmp_path / "a.jpg", quality=100, subsampling=0, icc_profile=_inverted_profile())
    x = _load(tmp_path).x
    assert x[..., :3].min() > 250 and x[..., 5:].max() < 5
    image.save(tmp_path / "b.jpg", icc_profile=b"no profile")
    assert "b.jpg (cannot open profile" in _refusal(tmp_path)


def test_images_of_mixed_sizes_and_modes_load_together(tmp_path: Path) -> None:
    Image.fromarray(_pixels(40, 9)).save(tmp_path / "a.png")
    Image.fromarray(_pixels(7, 300)).convert("P").save(tmp_path / "b.png")
    Image.fromarray(_pixels(64, 64)).convert("CMYK").save(tmp_path / "c.jpg")
    Image.fromarray(_pixels(1, 1)).convert("LA").save(tmp_path / "d.png")
    assert _load(tmp_path, 64).x.shape == (4, 3, 64, 64)


def test_odd_names_are_read_and_shown_so_that_a_terminal_can_print_them(tmp_path: Path) -> None:
    odd = [b"sp ace.png", "\u00e4\u65e5.png".encode(), b"new\nline.png", b"no-text-\xff.png", b"-rf.png", b"'q\".png"]
    for name in odd:
        _save(tmp_path / os.fsdecode(name))
    assert len(_load(tmp_path)) == len(odd)
    for name in odd[:4]:
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    message = _refusal(tmp_path)
    for shown in ("sp ace.png (", "\u00e4\u65e5.png (", "new\\nline.png (", "no-text-\\udcff.png ("):
        assert shown in message
    assert message.encode()


def test_thousands_of_files_are_read_in_order(tmp_path: Path) -> None:
    n = 3000
    for number in range(n):
        pixels = np.full((8, 8, 3), number % 256, np.uint8)
        pixels[0, 0] = number // 256
        _save(tmp_path / f"{number // 100:03}" / f"{number:05}.bmp", pixels)
    data = _load(tmp_path)
    assert data.n_classes == n // 100
    assert data.channels == 1
    assert torch.equal(data.x[:, 0, 4, 4].long() + 256 * data.x[:, 0, 0, 0].long(), torch.arange(n))
