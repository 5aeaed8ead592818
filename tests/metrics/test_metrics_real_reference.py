"""What is kept of the real images: only what is needed, of all of them or evenly spaced, once on disk."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from my_features import Quarters
from torch import Generator, Tensor

from metaopt.errors import ConfigError
from metaopt.metrics import RealReference, real_reference, real_statistics
from metaopt.metrics.real_statistics import MAX_FEATURES
from metaopt.metrics.tensor_cache import cached

NEIGHBOURS, MODES = ("fid", "precision_recall"), ("fid", "modes")


class Counting(Quarters):
    """Counts the images that it has seen."""

    n_images = 0

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        self.n_images += len(images)
        return super().features_and_logits(images)


def pictures(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, 1, 4, 4), generator=random, dtype=torch.uint8)
    return x, (x.float().mean((1, 2, 3)) > 127.5).long()


def reference(
    metrics: tuple[str, ...], cache: Path | None, *, n: int = 300, extractor: Quarters | None = None
) -> RealReference:
    x, y = pictures(n)
    return real_reference(x, y, extractor or Quarters(), content_hash="a", cache_dir=cache, metrics=metrics)


def files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


def assert_same(a: RealReference, b: RealReference) -> None:
    assert a.statistics.n == b.statistics.n
    assert torch.equal(a.statistics.covariance, b.statistics.covariance)
    assert torch.equal(a.features, b.features)
    assert (a.classifier is None) == (b.classifier is None)
    if a.classifier and b.classifier:
        assert torch.equal(a.classifier.weight, b.classifier.weight)
        assert a.classifier.accuracy == b.classifier.accuracy


def test_only_what_is_needed() -> None:
    alone, near, all_of_it = (reference(metrics, None) for metrics in (("fid",), NEIGHBOURS, MODES))
    assert (len(alone.features), alone.classifier) == (0, None)
    assert torch.equal(near.features, Quarters()(pictures(300)[0]))
    assert near.classifier is None
    assert all_of_it.classifier is not None
    assert all_of_it.classifier.accuracy > 0.9


def test_statistics_are_those_of_all_images() -> None:
    x, _ = pictures(300)
    expected = real_statistics(x, Quarters(), content_hash="a", cache_dir=None)
    for metrics in (("fid",), NEIGHBOURS, MODES):
        assert torch.equal(reference(metrics, None).statistics.covariance, expected.covariance)


def test_one_pass_and_then_none(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    computed = reference(MODES, tmp_path, extractor=first)
    again = reference(MODES, tmp_path, extractor=second)
    assert (first.n_images, second.n_images) == (300, 0)
    assert_same(computed, again)
    # Other metrics find the features that are there.
    reference(NEIGHBOURS, tmp_path, extractor=second)
    assert second.n_images == 0


def test_other_labels_have_another_classifier(tmp_path: Path) -> None:
    x, y = pictures(300)
    first, other = (
        real_reference(x, labels, Quarters(), content_hash="a", cache_dir=tmp_path, metrics=MODES).classifier
        for labels in (y, torch.arange(300) % 3)
    )
    assert first is not None
    assert other is not None
    assert (len(first.shares), len(other.shares)) == (2, 3)


def test_images_without_labels_have_no_classifier() -> None:
    x, _ = pictures(300)
    found = real_reference(x, None, Quarters(), content_hash="a", cache_dir=None, metrics=MODES)
    assert found.classifier is None


def test_of_many_images_evenly_spaced_ones_are_kept() -> None:
    n = 2 * MAX_FEATURES + MAX_FEATURES // 2
    x, _ = pictures(n)
    found = real_reference(x, None, Quarters(), content_hash="a", cache_dir=None, metrics=NEIGHBOURS)
    assert found.statistics.n == n
    assert found.features.dtype == torch.float32
    places = torch.arange(MAX_FEATURES) * n // MAX_FEATURES
    assert torch.equal(found.features, Quarters()(x[places]))
    assert places[-1] == n - 3


def test_labels_stay_with_their_images() -> None:
    """More images than are kept: a classifier on shifted labels would know nothing."""
    x, y = pictures(MAX_FEATURES + 777)
    found = real_reference(x, y, Quarters(), content_hash="a", cache_dir=None, metrics=MODES)
    assert found.classifier is not None
    assert found.classifier.accuracy > 0.95


def test_images_may_be_a_memory_map(tmp_path: Path) -> None:
    x, y = pictures(300)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c"))
    found = real_reference(mapped, y, Quarters(), content_hash="a", cache_dir=None, metrics=MODES)
    assert_same(found, reference(MODES, None))


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_file_is_computed_anew(tmp_path: Path, which: int, caplog: pytest.LogCaptureFixture) -> None:
    good = reference(MODES, tmp_path)
    file = files(tmp_path)[which]
    whole = file.read_bytes()
    file.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    with caplog.at_level(logging.WARNING):
        assert_same(good, reference(MODES, tmp_path))
    assert "does not hold what its name says" in caplog.text
    assert files(tmp_path)[which].read_bytes() == whole


def test_one_class_is_refused_and_leaves_no_classifier(tmp_path: Path) -> None:
    x, _ = pictures(40)
    with pytest.raises(ConfigError, match="`modes` needs labels of two classes or more, but got 1"):
        real_reference(x, torch.zeros(40).long(), Quarters(), content_hash="a", cache_dir=tmp_path, metrics=MODES)
    assert len(files(tmp_path)) == 1


def test_the_number_of_threads_comes_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        reference(MODES, None)
        assert torch.get_num_threads() == 2
        with pytest.raises(ConfigError):
            reference(MODES, None, n=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_cache_holds_any_tensors_by_key(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).view(2, 3), "b": torch.tensor(0.5, dtype=torch.float64)}
    first = cached(tmp_path, "key", lambda: tensors)
    second = cached(tmp_path, "key", dict)
    assert first.keys() == second.keys() == tensors.keys()
    assert all(torch.equal(second[name], tensors[name]) for name in tensors)
    assert cached(tmp_path, "other", dict) == {}
    assert cached(None, "key", dict) == {}
