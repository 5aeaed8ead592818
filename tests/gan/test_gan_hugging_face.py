"""Hugging Face data sets: a folder in the hub's own format, and a message for each way in which one can be wrong."""

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from metaopt.errors import DataError, MissingPackageError
from metaopt.gan import load_dataset

CLASSES = datasets.ClassLabel(names=["cat", "dog", "owl"])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("huggingface"))
    datasets.disable_progress_bars()


def _pixels(n: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _write(folder: Path, columns: dict[str, list[object]], features: dict[str, object], split: str = "train") -> None:
    """One parquet file, as `push_to_hub` names and fills it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    content.to_parquet(folder / f"{split}-00000-of-00001.parquet")


def _images(pixels: np.ndarray) -> list[object]:
    return [{"bytes": _png(image), "path": None} for image in pixels]


def test_images_and_classes_are_found_by_type(tmp_path: Path) -> None:
    pixels = _pixels(5)
    columns = {"note": list("abcde"), "seen": _images(pixels), "kind": [2, 0, 1, 1, 0], "other": [0, 0, 0, 0, 1]}
    kinds = {"note": datasets.Value("string"), "seen": datasets.Image(), "kind": CLASSES, "other": CLASSES}
    _write(tmp_path, columns, kinds)
    data = load_dataset(f"hf:{tmp_path}")
    assert data.name == f"hf:{tmp_path}"
    assert torch.equal(data.x, torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert data.y is not None and data.y.tolist() == [2, 0, 1, 1, 0]


def test_splits_are_chosen_by_the_suffix(tmp_path: Path) -> None:
    pixels = _pixels(7)
    _write(tmp_path, {"image": _images(pixels[:4])}, {"image": datasets.Image()})
    _write(tmp_path, {"image": _images(pixels[4:])}, {"image": datasets.Image()}, split="test")
    assert len(load_dataset(f"hf:{tmp_path}")) == 4
    test = load_dataset(f"hf:{tmp_path}#test[:2]")
    assert torch.equal(test.x, torch.from_numpy(pixels[4:6]).permute(0, 3, 1, 2))
    with pytest.raises(DataError, match=r"the split 'valid' must be in .*Unknown split \"valid\""):
        load_dataset(f"hf:{tmp_path}#valid")


def test_configurations_are_chosen_by_the_suffix(tmp_path: Path) -> None:
    for position, name in enumerate(["small", "large"]):
        _write(tmp_path / name, {"image": _images(_pixels(2 + position))}, {"image": datasets.Image()})
    listed = "\n".join(f"- config_name: {name}\n  data_files: {name}/*.parquet" for name in ["small", "large"])
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{listed}\n---\n")
    assert len(load_dataset(f"hf:{tmp_path}@large")) == 3
    assert len(load_dataset(f"hf:{tmp_path}@small#train")) == 2


def test_images_are_treated_as_in_a_folder(tmp_path: Path) -> None:
    gray = [Image.fromarray(pixels).convert("L") for pixels in _pixels(3, 40)]
    for position, image in enumerate(gray):
        (tmp_path / "folder").mkdir(exist_ok=True)
        image.crop((0, 0, 40, 30)).save(tmp_path / "folder" / f"{position}.png")
    files = [path.read_bytes() for path in sorted((tmp_path / "folder").iterdir())]
    columns = {"image": [{"bytes": file, "path": None} for file in files]}
    _write(tmp_path / "hub", columns, {"image": datasets.Image()})  # type: ignore[arg-type]
    for size in (None, 16):
        from_hub = load_dataset(f"hf:{tmp_path}/hub", size=size)
        assert from_hub.channels == 1 and from_hub.y is None
        assert from_hub.content_hash == load_dataset(f"folder:{tmp_path}/folder", size=size).content_hash


def test_images_kept_as_paths_are_read(tmp_path: Path) -> None:
    pixels = _pixels(4)
    for position, name in enumerate(["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(_png(pixels[position]))
    data = load_dataset(f"hf:{tmp_path}")
    assert torch.equal(data.x, torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert data.y is not None and data.y.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("columns", "features", "message"),
    [
        (
            {"x": [1]},
            {"x": datasets.Value("int64")},
            r"one column must be of type Image, but 0 are: x \(Value\)",
        ),
        (
            {"a": _images(_pixels(1)), "b": _images(_pixels(1))},
            {"a": datasets.Image(), "b": datasets.Image()},
            r"one column must be of type Image, but 2 are: a \(Image\), b \(Image\)",
        ),
        (
            {"image": [*_images(_pixels(1)), {"bytes": b"broken", "path": None}]},
            {"image": datasets.Image()},
            "every image must be readable, but row 1 is not: not an image in a known format",
        ),
        ({"image": [*_images(_pixels(1)), None]}, {"image": datasets.Image()}, "but row 1 is not: it is missing"),
        (
            {"image": _images(_pixels(2)), "y": [1, -1]},
            {"image": datasets.Image(), "y": CLASSES},
            "every image must have a class, but some have none",
        ),
    ],
    ids=["no image", "two images", "broken", "missing", "class"],
)
def test_wrong_content_is_refused(
    tmp_path: Path, columns: dict[str, list[object]], features: dict[str, object], message: str
) -> None:
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=message):
        load_dataset(f"hf:{tmp_path}")


@pytest.mark.parametrize("text", ["a@b@c", "a#b#c", "a#b@c", "@b", "#b", "a@", "a#"])
def test_other_grammars_are_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"`hf:NAME\[@CONFIG\]\[#SPLIT\]` must hold, with no other @ or #, but got"):
        load_dataset(f"hf:{text}")


_OFFLINE = """
from metaopt.errors import DataError
from metaopt.gan import load_dataset
try:
    load_dataset("hf:owner/name")
except DataError as error:
    print(error)
"""


def test_a_name_on_the_hub_needs_a_network_and_says_so(tmp_path: Path) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", _OFFLINE], env=environment, capture_output=True, text=True, check=True)
    message = done.stdout
    assert "hf:owner/name: the split 'train' must be in" in message
    assert "or on the hub, with a network to reach it, but: " in message


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'metaopt\[huggingface\]'"):
        load_dataset("hf:owner/name")
