"""What all trainings of a task share and a worker keeps warm: images on the device, what they are compared with."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache

import torch

from metaopt.errors import DataError
from metaopt.gan import Corruption, Dataset, Task, check_dataset, corrupted, load_dataset, to_unit
from metaopt.metrics import (
    FeatureExtractor,
    RealReference,
    check_metrics,
    default_cache_dir,
    fid_floor,
    find_features,
    real_reference,
)

_SPREAD_IMAGES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Resources:
    """Read-only parts of a training."""

    dataset: Dataset
    """The images that are trained on, with the task's corruption, uint8, on the device if they fit."""
    real: RealReference
    """What generated images are compared with: the clean images, in features."""
    extractor: FeatureExtractor
    identity: str
    """SHA-256, in hex, over the images that are trained on, those of the comparison, and the features."""
    spread: float
    """Mean over pixels of the standard deviation over images, of images in [-1, 1]; > 0."""
    n_left_out: int
    """Files that were left out of the clean images, as they are none."""


def resources(task: Task, device: str = "cpu") -> Resources:
    """Load what `task` needs, once per process, data set and device; DataError if it cannot be used."""
    shared = _load(
        data=task.data,
        size=task.size,
        corruption=task.corruption,
        features=task.features,
        metrics=task.metrics,
        device=device,
    )
    check_dataset(task, shared.dataset)
    check_metrics(
        task.metrics,
        shared.extractor,
        labelled=shared.dataset.y is not None,
        n_real=len(_clean(task.data, task.size)),
        n_samples=task.n_samples,
    )
    return shared


@lru_cache(maxsize=256)
def floor(task: Task, device: str = "cpu") -> float:
    """The FID of `task.n_samples` images drawn from the real set itself: what a perfect generator would get."""
    shared, clean = resources(task, device), _clean(task.data, task.size)
    random = torch.Generator().manual_seed(0)
    return fid_floor(clean.x, shared.real, shared.extractor, task.n_samples, random, device=device)


@lru_cache(maxsize=32)
def _load(
    *, data: str, size: int | None, corruption: Corruption, features: str, metrics: tuple[str, ...], device: str
) -> Resources:
    clean, dataset = _clean(data, size), _dataset(data, size, corruption, device)
    extractor = find_features(features)
    real = real_reference(
        clean.x,
        clean.y,
        extractor,
        content_hash=clean.content_hash,
        cache_dir=default_cache_dir(),
        metrics=metrics,
        device=device,
    )
    some = dataset.x[:: max(1, len(dataset) // _SPREAD_IMAGES)]
    found = spread(to_unit(some))
    if found == 0:
        raise DataError(f"{dataset.name}: images must differ, but all {len(dataset):,} are the same.")
    parts = [dataset.identity, clean.identity, extractor.version]
    identity = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return Resources(
        dataset=dataset,
        real=real,
        extractor=extractor,
        identity=identity,
        spread=found,
        n_left_out=clean.n_left_out,
    )


@lru_cache(maxsize=8)
def _dataset(data: str, size: int | None, corruption: Corruption, device: str) -> Dataset:
    return corrupted(_clean(data, size), corruption).to(device)


@lru_cache(maxsize=8)
def _clean(data: str, size: int | None) -> Dataset:
    return load_dataset(data, size=size)


def spread(images: torch.Tensor) -> float:
    """Mean over pixels of the standard deviation over images (N, C, H, W), N >= 2."""
    return float(images.std(dim=0).mean())
