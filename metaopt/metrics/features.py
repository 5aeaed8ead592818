"""Images to feature vectors: the first half of every distribution distance."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from metaopt.metrics.small_network import (
    FEATURE_DIM,
    SmallNet,
    check_images,
    content_version,
    load_small_net,
    load_weights,
    network_input,
)

BATCH_SIZE = 250
"""Images per forward pass: bounds memory; fastest on a CPU, where larger ones leave the cache."""


class FeatureExtractor(Protocol):
    """A deterministic function from images to vectors, with an identity that caches can be keyed by."""

    @property
    def name(self) -> str:
        """Short name for tables and file names."""
        ...

    @property
    def dim(self) -> int:
        """Numbers per image."""
        ...

    @property
    def version(self) -> str:
        """Content hash of the weights: features of two versions must never be compared."""
        ...

    @property
    def n_logits(self) -> int:
        """Classes of the classifier on top of the features; 0 where there is none."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 ``(n, c, h, w)`` -> float32 ``(n, dim)`` on the same device."""
        ...

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features ``(n, dim)`` and logits ``(n, n_logits)`` in one pass; None where there are no logits."""
        ...


class SmallFeatures:
    """The shipped 64-dimensional extractor, see ``small_network.py``.

    It has no state of its own, so that it pickles to a few bytes: weights are loaded at the first call on a
    device and kept for the process.
    """

    name = "small"
    dim = FEATURE_DIM
    n_logits = 0

    @property
    def version(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the shipped weights."""
        return _shipped_version()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features of images of 4 to 64 pixels a side.

        Args:
            images: uint8 ``(n, c, h, w)``, c in {1, 3}, on any device; sizes other than 32 x 32 are resized.

        Returns:
            float32 ``(n, 64)`` on the device of ``images``. It does not depend on how the images are batched,
            on autocast or on TF32 settings, up to float32 rounding.

        Raises:
            ConfigError: dtype or shape breaks the rule above.
        """
        check_images(images)
        net = _net_on(images.device)
        # Lower precision is a matter of the training around us; a FID must mean the same in all of them.
        with torch.autocast(images.device.type, enabled=False), full_precision():
            return torch.cat([net(network_input(batch)) for batch in torch.split(images, BATCH_SIZE)])

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, None]:
        """Features, and no logits."""
        return self(images), None


small_features = SmallFeatures()
"""The extractor to use: ``small_features(images)``."""


@lru_cache(maxsize=1)
def _shipped_version() -> str:
    return content_version(load_weights())


@lru_cache(maxsize=8)
def _net_on(device: torch.device) -> SmallNet:
    return load_small_net(device)


@contextmanager
def full_precision() -> Iterator[None]:
    """Exact float32 in convolutions and products (no TF32, no bfloat16); the settings come back after."""
    backends: Any = torch.backends
    switches = (backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv, backends.mkldnn.matmul)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value
