"""The cache of real statistics: right, keyed, whole under concurrency, and never in the way."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

from metaopt.errors import ConfigError
from metaopt.metrics import RealStatistics, default_cache_dir, real_statistics


class MeanPixels:
    """A tiny extractor: the mean of each quarter. It counts its calls, to tell a hit from a computation."""

    name = "mean_pixels"
    dim = 4

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.n_images = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.n_images += len(images)
        return torch.nn.functional.adaptive_avg_pool2d(images.float().mean(1), 2).flatten(1)


def pictures(n: int = 2500, seed: int = 0) -> Tensor:
    generator = Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)


def assert_same(a: RealStatistics, b: RealStatistics) -> None:
    assert a.n == b.n
    for name in ("mean", "covariance", "root"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def only_file(cache: Path) -> Path:
    (file,) = (path for path in cache.rglob("*") if path.is_file())
    return file


def test_equals_numpy_on_all_features_at_once() -> None:
    images = pictures()
    statistics = real_statistics(images, MeanPixels(), content_hash="a", cache_dir=None)
    features = MeanPixels()(images).double().numpy()
    assert statistics.n == 2500
    np.testing.assert_allclose(statistics.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(features, rowvar=False), rtol=1e-9, atol=1e-9)
    root = statistics.root
    assert torch.equal(root, root.tril())
    np.testing.assert_allclose(root @ root.T, statistics.covariance, rtol=1e-9, atol=1e-9)


def test_the_second_time_comes_from_disk_bit_for_bit(tmp_path: Path) -> None:
    first, second = MeanPixels(), MeanPixels()
    computed = real_statistics(pictures(), first, content_hash="a", cache_dir=tmp_path)
    cached = real_statistics(pictures(), second, content_hash="a", cache_dir=tmp_path)
    assert (first.n_images, second.n_images) == (2500, 0)
    assert_same(computed, cached)


def test_other_content_and_other_weights_have_other_entries(tmp_path: Path) -> None:
    for content, version in [("a", "1"), ("b", "1"), ("a", "2")]:
        extractor = MeanPixels(version)
        real_statistics(pictures(), extractor, content_hash=content, cache_dir=tmp_path)
        assert extractor.n_images == 2500
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


def test_a_hash_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    real_statistics(pictures(9), MeanPixels(), content_hash="../../evil\n#", cache_dir=cache)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    only_file(cache)


def cut(raw: bytes) -> bytes:
    return raw[: len(raw) - 7]


def flipped(raw: bytes) -> bytes:
    return raw[:-40] + bytes([raw[-40] ^ 1]) + raw[-39:]


@pytest.mark.parametrize(
    "damage",
    [cut, flipped, lambda raw: b"", lambda raw: b"\xff" * 4096, lambda raw: raw + b"more"],
    ids=["cut", "flipped bit", "empty", "garbage", "too long"],
)
def test_a_damaged_file_is_computed_anew_and_replaced(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    good = real_statistics(pictures(), MeanPixels(), content_hash="a", cache_dir=tmp_path)
    file = only_file(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    extractor = MeanPixels()
    assert_same(good, real_statistics(pictures(), extractor, content_hash="a", cache_dir=tmp_path))
    assert extractor.n_images == 2500
    assert only_file(tmp_path).read_bytes() == whole


def test_a_file_of_another_key_or_content_is_not_believed(tmp_path: Path) -> None:
    real_statistics(pictures(seed=1), MeanPixels(), content_hash="other", cache_dir=tmp_path)
    foreign = only_file(tmp_path)
    raw = foreign.read_bytes()
    foreign.unlink()
    good = real_statistics(pictures(), MeanPixels(), content_hash="a", cache_dir=tmp_path)
    only_file(tmp_path).write_bytes(raw)
    assert_same(good, real_statistics(pictures(), MeanPixels(), content_hash="a", cache_dir=tmp_path))
    save_file({"n": torch.tensor(3)}, only_file(tmp_path))
    assert_same(good, real_statistics(pictures(), MeanPixels(), content_hash="a", cache_dir=tmp_path))
    assert set(load_file(only_file(tmp_path))) == {"n", "mean", "covariance", "root", "digest"}


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file where the folder should be: refused for root too, unlike permissions."""
    blocker = tmp_path / "cache"
    blocker.write_text("not a folder")
    statistics = real_statistics(pictures(), MeanPixels(), content_hash="a", cache_dir=blocker)
    assert_same(statistics, real_statistics(pictures(), MeanPixels(), content_hash="a", cache_dir=None))
    assert "not cached" in caplog.text
    assert blocker.read_text() == "not a folder"


def exit_codes(target: Callable[..., None], arguments: list[tuple[object, ...]]) -> list[int | None]:
    """Run ``target`` in one new process for each of ``arguments``, at once. Not forked: torch has threads."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=each) for each in arguments]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(60)
        return [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()


def compute_on_a_full_disk(cache: Path) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    statistics = real_statistics(pictures(), MeanPixels(), content_hash="a", cache_dir=cache)
    os._exit(0 if statistics.n == 2500 else 1)


def test_a_full_disk_costs_only_time_and_leaves_nothing(tmp_path: Path) -> None:
    assert exit_codes(compute_on_a_full_disk, [(tmp_path,)]) == [0]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def read_and_write_many_times(cache: Path, seed: int) -> None:
    torch.set_num_threads(1)
    expected = real_statistics(pictures(300), MeanPixels(), content_hash="a", cache_dir=None)
    generator = Generator().manual_seed(seed)
    for _ in range(60):
        got = real_statistics(pictures(300), MeanPixels(), content_hash="a", cache_dir=cache)
        if not torch.equal(got.covariance, expected.covariance):
            os._exit(1)
        # Make the next round of somebody a writer.
        if torch.rand((), generator=generator) < 0.5:
            for file in cache.rglob("*.safetensors"):
                file.unlink(missing_ok=True)
    real_statistics(pictures(300), MeanPixels(), content_hash="a", cache_dir=cache)
    os._exit(0)


def test_processes_share_a_cache(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_codes(read_and_write_many_times, [(tmp_path, seed) for seed in range(3)]) == [0, 0, 0]
    assert "computed anew" not in capfd.readouterr().err
    assert list(tmp_path.rglob("*.tmp")) == []


@pytest.mark.parametrize("n", [0, 1])
def test_two_images_are_needed(tmp_path: Path, n: int) -> None:
    with pytest.raises(ConfigError, match=f"`n >= 2` must hold for a covariance, but got n={n}"):
        real_statistics(pictures(n), MeanPixels(), content_hash="a", cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("METAOPT_CACHE", "/own")
    assert default_cache_dir() == Path("/own")
    monkeypatch.setenv("METAOPT_CACHE", "")
    assert default_cache_dir() == Path("/xdg/metaopt")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path("/home/someone/.cache/metaopt")
    monkeypatch.setenv("METAOPT_CACHE", "~/elsewhere")
    assert default_cache_dir() == Path("/home/someone/elsewhere")
