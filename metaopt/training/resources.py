"""What all trainings of a task share and a worker keeps warm: images on the device, real statistics."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from metaopt.gan import Dataset, Task, check_dataset, load_dataset, to_unit
from metaopt.metrics import (
    FeatureExtractor,
    RealStatistics,
    default_cache_dir,
    real_statistics,
    small_features,
)

_SPREAD_IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Read-only parts of a training."""

    dataset: Dataset
    """The whole set, uint8, on the device."""
    real: RealStatistics
    """Feature statistics of the whole set."""
    extractor: FeatureExtractor
    spread: float
    """Mean over pixels of the standard deviation over images, of images in [-1, 1]; > 0."""


def resources(task: Task, device: str = "cpu") -> Resources:
    """Load what `task` needs, once per process, data set and device; DataError if it cannot be used."""
    shared = _load(task.data, task.size, device)
    check_dataset(task, shared.dataset)
    return shared


@lru_cache(maxsize=32)
def _load(data: str, size: int | None, device: str) -> Resources:
    dataset = load_dataset(data, size=size).to(device)
    return Resources(
        dataset=dataset,
        real=real_statistics(
            dataset.x, small_features, content_hash=dataset.content_hash, cache_dir=default_cache_dir()
        ),
        extractor=small_features,
        spread=spread(to_unit(dataset.x[:: max(1, len(dataset) // _SPREAD_IMAGES)])),
    )


def spread(images: torch.Tensor) -> float:
    """Mean over pixels of the standard deviation over images (N, C, H, W), N >= 2."""
    return float(images.std(dim=0).mean())
