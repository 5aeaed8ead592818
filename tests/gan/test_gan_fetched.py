"""Published data sets, on small files in their own formats: what is read, and what is said where it cannot be."""

import functools
import gzip
import hashlib
import pickle
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from metaopt.errors import ConfigError, DataError, StorageError
from metaopt.gan import load_dataset
from metaopt.gan.fetched import FETCHED, fetch

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAOPT_DATA", str(tmp_path))
    return tmp_path


def _bytes(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def _write_mnist(raw: Path, x: np.ndarray, y: np.ndarray) -> None:
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(_idx(x if part == "train" else x[:1]))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(_idx(y if part == "train" else y[:1]))


def _write_cifar_pickles(folder: Path, x: np.ndarray, y: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five batches as the python version has them; torchvision's table of MD5s is set to these files'."""
    batches = folder / "cifar-10-batches-py"
    batches.mkdir()
    parts = [*np.split(x.reshape(len(x), -1), 5), x[:1].reshape(1, -1)]
    labels = [*np.split(y, 5), y[:1]]
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for name, data, classes in zip(names, parts, labels, strict=True):
        (batches / name).write_bytes(pickle.dumps({"data": data, "labels": classes.tolist()}))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    sums = [[name, _md5(batches / name)] for name in names]
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", sums[5:])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": _md5(batches / "batches.meta")}
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta)


def _write_cifar_binary(folder: Path, x: np.ndarray, y: np.ndarray) -> Path:
    batches = folder / "cifar-10-batches-bin"
    batches.mkdir()
    records = np.concatenate([y[:, None].astype(np.uint8), x.reshape(len(x), -1)], axis=1)
    for number, part in enumerate(np.split(records, 5), start=1):
        (batches / f"data_batch_{number}.bin").write_bytes(part.tobytes())
    return batches


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files_are_read(folder: Path, name: str, kind: str) -> None:
    x, y = _bytes(7, 28, 28), np.arange(7, dtype=np.uint8)
    _write_mnist(folder / kind / "raw", x, y)
    data = load_dataset(name)
    assert torch.equal(data.x, torch.from_numpy(x)[:, None])
    assert data.y is not None and data.y.dtype == torch.int64 and data.y.tolist() == list(range(7))


def test_both_versions_of_cifar10_give_the_same_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _bytes(10, 3, 32, 32), RANDOM.permutation(10)
    _write_cifar_binary(folder, x, y)
    from_binary = load_dataset("cifar10")
    assert torch.equal(from_binary.x, torch.from_numpy(x))
    assert from_binary.y is not None and from_binary.y.tolist() == y.tolist()
    _write_cifar_pickles(folder, x, y, monkeypatch)
    (folder / "cifar-10-batches-bin").rename(folder / "elsewhere")
    pickled = load_dataset("cifar10")
    assert pickled.content_hash == from_binary.content_hash
    assert pickled.y is not None and torch.equal(pickled.y, from_binary.y)


def test_cifar10_is_not_unpickled_unless_its_checksum_holds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_cifar_pickles(folder, _bytes(10, 3, 32, 32), np.arange(10), monkeypatch)
    marker = folder / "ran"

    class Attack:
        def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
            return Path.touch, (marker,)

    attack = pickle.dumps({"data": Attack(), "labels": [0]})
    (folder / "cifar-10-batches-py" / "data_batch_3").write_bytes(attack)
    with pytest.raises(DataError, match=r"cifar-10-batches-py: must be cifar10 as it was published, but: .*corrupted"):
        load_dataset("cifar10")
    assert not marker.exists()


@pytest.mark.parametrize("change", ["short", "empty", "class"])
def test_wrong_binary_batches_are_refused(folder: Path, change: str) -> None:
    batches = _write_cifar_binary(folder, _bytes(10, 3, 32, 32), np.arange(10))
    file = batches / "data_batch_2.bin"
    content = {"short": file.read_bytes()[:-1], "empty": b"", "class": b"\x0a" + file.read_bytes()[1:]}[change]
    file.write_bytes(content)
    message = {
        "short": r"data_batch_2\.bin: must hold whole records of 3,073 bytes, but its size is 6,145 bytes",
        "empty": r"data_batch_2\.bin: must hold whole records of 3,073 bytes, but its size is 0 bytes",
        "class": "must hold ten classes, but they reach from 0 to 10",
    }[change]
    with pytest.raises(DataError, match=message):
        load_dataset("cifar10")


def test_stl10_is_read_column_by_column_and_resized(folder: Path) -> None:
    x = _bytes(3, 3, 96, 96)
    x[1] = 0
    x[1, 0, :24] = 255  # a red bar at the top
    (folder / "stl10_binary").mkdir()
    (folder / "stl10_binary" / "train_X.bin").write_bytes(x.transpose(0, 1, 3, 2).tobytes())
    (folder / "stl10_binary" / "train_y.bin").write_bytes(bytes([1, 10, 3]))
    data = load_dataset("stl10")
    assert data.x.shape == (3, 3, 64, 64)
    assert data.y is not None and data.y.tolist() == [0, 9, 2]
    assert data.x[1, 0, :15].min() == 255 and data.x[1, 0, 18:].max() == 0 and data.x[1, 1:].max() == 0
    assert load_dataset("stl10", size=48).x.shape == (3, 3, 48, 48)
    (folder / "stl10_binary" / "train_y.bin").write_bytes(bytes([1, 10]))
    with pytest.raises(DataError, match="every image must have a class, but there are 3 images and 2 classes"):
        load_dataset("stl10")
    (folder / "stl10_binary" / "train_y.bin").write_bytes(bytes([0, 1, 2]))
    with pytest.raises(DataError, match=r"train_y\.bin: must hold ten classes, but they reach from -1 to 1"):
        load_dataset("stl10")


def test_celeba_is_its_training_part_cut_to_squares(folder: Path) -> None:
    images = folder / "celeba" / "img_align_celeba"
    images.mkdir(parents=True)
    for number in range(1, 4):
        face = Image.new("RGB", (178, 218), (60 * number, 10, 200))
        face.paste((0, 0, 0), (0, 0, 178, 16))  # above the square
        face.save(images / f"{number:06}.jpg", quality=95)
    partition = folder / "celeba" / "list_eval_partition.txt"
    partition.write_text("000001.jpg 0\n000002.jpg 1\n000003.jpg 0\n")
    data = load_dataset("celeba")
    assert (data.x.shape, data.y) == ((2, 3, 64, 64), None)
    assert (data.x[:, 0].float().mean((1, 2)) - torch.tensor([60.0, 180.0])).abs().max() < 3
    assert (data.x[:, 2].float() - 200).abs().max() < 8
    partition.write_text("000001.jpg 1\n")
    with pytest.raises(DataError, match=r"part 0 \(training\) must hold images, but holds none"):
        load_dataset("celeba")
    partition.write_text("not a partition\n")
    with pytest.raises(DataError, match="must be celeba as it was published, but: too many values"):
        load_dataset("celeba")
    partition.write_text("000009.jpg 0\n")
    with pytest.raises(
        DataError, match=r"every image must be readable, .* img_align_celeba/000009.jpg \(not a regular"
    ):
        load_dataset("celeba")


@pytest.mark.parametrize("name", FETCHED)
def test_what_is_not_there_is_named_with_the_command_that_fetches_it(name: str, folder: Path) -> None:
    with pytest.raises(
        DataError, match=f"^{folder}/.*: {name} must be there.* fetch it with: metaopt data {name} --dow"
    ):
        load_dataset(name)
    assert not any(folder.iterdir())


def test_truncated_idx_files_are_refused(folder: Path) -> None:
    _write_mnist(folder / "MNIST" / "raw", _bytes(7, 28, 28), np.arange(7, dtype=np.uint8))
    file = folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(
        DataError, match=r"must be mnist as it was published, but: .*; remove it, and fetch it anew with"
    ):
        load_dataset("mnist")


def test_data_lie_in_the_cache_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAOPT_DATA", "")
    monkeypatch.setenv("METAOPT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=f"^{tmp_path}/cache/data/MNIST/raw: mnist must be there"):
        load_dataset("mnist")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which it is served on this machine alone."""
    served = tmp_path_factory.mktemp("mirror")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield served, f"http://127.0.0.1:{http.server_port}/"
        http.shutdown()


def _publish(mirror: Path, url: str, x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """The four archives of MNIST, at a mirror of our own."""
    resources = []
    for name, content in [
        ("train-images-idx3-ubyte", _idx(x)),
        ("train-labels-idx1-ubyte", _idx(np.arange(len(x), dtype=np.uint8))),
        ("t10k-images-idx3-ubyte", _idx(x[:1])),
        ("t10k-labels-idx1-ubyte", _idx(np.zeros(1, np.uint8))),
    ]:
        archive = mirror / f"{name}.gz"
        archive.write_bytes(gzip.compress(content))
        resources.append((archive.name, _md5(archive)))
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [url])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)


def test_what_is_fetched_is_checked_and_read(
    folder: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = _bytes(5, 28, 28)
    mirror, url = server
    _publish(mirror, url, x, monkeypatch)
    good = (mirror / "train-images-idx3-ubyte.gz").read_bytes()
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataError, match="mnist must be reachable and be what was published, but: "):
        fetch("mnist")
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(good)
    assert fetch("mnist") == folder
    assert torch.equal(load_dataset("mnist").x[:, 0], torch.from_numpy(x))


def test_what_cannot_be_fetched_is_refused(
    folder: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"no data set to fetch called 'digits'.* Known: cifar10, .*stl10"):
        fetch("digits")
    _publish(*server, _bytes(2, 28, 28), monkeypatch)
    (folder / "file").write_text("")
    monkeypatch.setenv("METAOPT_DATA", str(folder / "file"))
    with pytest.raises(StorageError, match="file must be a folder that can be written, with room for mnist, but: "):
        fetch("mnist")
