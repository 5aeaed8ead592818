"""What generated images are compared with, computed once and kept on disk: every training on a data set shares it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from metaopt.cache import default_cache_dir
from metaopt.metrics.features import FeatureExtractor
from metaopt.metrics.frechet import Moments, RealStatistics
from metaopt.metrics.modes import Classifier, fit_classifier
from metaopt.metrics.tensor_cache import cached

__all__ = ["MAX_FEATURES", "RealReference", "default_cache_dir", "real_reference", "real_statistics"]

FORMAT = "metaopt.real_statistics/2"
"""Changes where what is stored, or the way from images to numbers, changes."""
BATCH_SIZE = 1000
"""Images whose features are in memory at a time."""
MAX_FEATURES = 10_000
"""Real images that neighbours and kernels are taken from: of more, this many evenly spaced ones."""


@dataclass(frozen=True, kw_only=True)
class RealReference:
    """The real images of a data set, as far as metrics look at them."""

    statistics: RealStatistics
    """For the Frechet distance, over all images."""
    features: Tensor
    """float32 ``(n, d)`` of at most `MAX_FEATURES` images; n = 0 where no metric needs them."""
    classifier: Classifier | None
    """Where modes are counted."""


def real_statistics(
    images: Tensor,
    extractor: FeatureExtractor,
    *,
    content_hash: str,
    cache_dir: Path | None,
    device: str = "cpu",
) -> RealStatistics:
    """Mean, covariance and its root of the features of ``images``, from the cache where it has them.

    Args:
        images: uint8 ``(n, c, h, w)``, n >= 2, on any device, or a memory map.
        extractor: what turns images into features; its name and version are part of the key.
        content_hash: names the content of ``images``. Whoever changes the images must change it.
        cache_dir: folder of the cache, see `cached`; None: no cache.
        device: where features are computed.

    Raises:
        ConfigError: n < 2, or images that the extractor refuses.
    """
    tensors = cached(
        _folder(cache_dir),
        _key(extractor, content_hash),
        lambda: _as_tensors(_one_pass(images, extractor, keep=False, device=device)[0]),
    )
    return _as_statistics(tensors)


def real_reference(
    images: Tensor,
    labels: Tensor | None,
    extractor: FeatureExtractor,
    *,
    content_hash: str,
    cache_dir: Path | None,
    metrics: Sequence[str],
    device: str = "cpu",
) -> RealReference:
    """What `metrics` need of the real images, from the cache where it has it, else in one pass over them.

    Args:
        images: uint8 ``(n, c, h, w)``, n >= 2, on any device, or a memory map.
        labels: classes, int64 ``(n,)``, which the metric `modes` needs.
        extractor: what turns images into features; its name and version are part of the key.
        content_hash: names the content of ``images``.
        cache_dir: folder of the cache, see `cached`; None: no cache.
        metrics: keys of `METRICS`.
        device: where features are computed.

    Raises:
        ConfigError: n < 2, images that the extractor refuses, or labels of one class for `modes`.
    """
    if set(metrics) <= {"fid", "inception_score"}:
        statistics = real_statistics(images, extractor, content_hash=content_hash, cache_dir=cache_dir, device=device)
        return RealReference(statistics=statistics, features=torch.empty(0, extractor.dim), classifier=None)
    folder = _folder(cache_dir)

    def compute() -> dict[str, Tensor]:
        statistics, features = _one_pass(images, extractor, keep=True, device=device)
        return {**_as_tensors(statistics), "features": features}

    tensors = cached(folder, _key(extractor, content_hash, part="features"), compute)
    features = tensors.pop("features")
    classifier = None
    if "modes" in metrics and labels is not None:
        chosen = labels.cpu()[_evenly(len(images))]
        key = _key(extractor, content_hash, part="classifier", labels=sha256(chosen.numpy().tobytes()).hexdigest())
        classifier = Classifier.from_tensors(cached(folder, key, lambda: fit_classifier(features, chosen).as_tensors()))
    return RealReference(statistics=_as_statistics(tensors), features=features, classifier=classifier)


def _folder(cache_dir: Path | None) -> Path | None:
    return None if cache_dir is None else cache_dir / "real_statistics"


def _evenly(n: int) -> Tensor:
    """At most `MAX_FEATURES` of n places, evenly spaced."""
    kept = min(n, MAX_FEATURES)
    return torch.arange(kept) * n // kept


def _one_pass(images: Tensor, extractor: FeatureExtractor, *, keep: bool, device: str) -> tuple[RealStatistics, Tensor]:
    moments, kept = Moments.empty(extractor.dim), [torch.empty(0, extractor.dim)]
    wanted = torch.zeros(len(images), dtype=torch.bool)
    if keep:
        wanted[_evenly(len(images))] = True
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the last bits depend on it, and whoever fills the cache decides for all
    try:
        for batch, wanted_here in zip(torch.split(images, BATCH_SIZE), torch.split(wanted, BATCH_SIZE), strict=True):
            features = extractor(batch.to(device))
            moments = moments.updated(features)
            kept.append(features.cpu().float()[wanted_here])
        return RealStatistics.from_moments(moments), torch.cat(kept)
    finally:
        torch.set_num_threads(n_threads)


def _as_tensors(statistics: RealStatistics) -> dict[str, Tensor]:
    tensors = {name: getattr(statistics, name) for name in ("mean", "covariance", "root")}
    return {**tensors, "n": torch.tensor(statistics.n)}


def _as_statistics(tensors: dict[str, Tensor]) -> RealStatistics:
    names = ("mean", "covariance", "root")
    return RealStatistics(n=int(tensors["n"]), **{name: tensors[name] for name in names})


def _key(extractor: FeatureExtractor, content_hash: str, **more: str) -> str:
    parts = {
        "format": FORMAT,
        "extractor": extractor.name,
        "version": extractor.version,
        "content": content_hash,
    }
    return json.dumps(parts | more, sort_keys=True)
