"""What trainings of a task share: the identity that stored trainings are known by."""

from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_task

from metaopt.gan import Corruption
from metaopt.metrics import SmallFeatures
from metaopt.training.resources import resources


def _saved(folder: Path, name: str, x: np.ndarray) -> str:
    np.savez(folder / f"{name}.npz", x=x)
    return f"npz:{folder / name}.npz"


def test_images_of_the_comparison_are_part_of_the_identity(tmp_path: Path) -> None:
    """Two sets of which the same 100 images are kept to train on."""
    x = np.random.default_rng(0).integers(0, 256, (200, 1, 8, 8), dtype=np.uint8)
    first = tiny_task(data=_saved(tmp_path, "a", x), corruption=Corruption(n_kept=100))
    kept = {image.tobytes() for image in resources(first).dataset.x.numpy()}
    changed = np.stack([image if image.tobytes() in kept else 255 - image for image in x])
    second = tiny_task(data=_saved(tmp_path, "b", changed), corruption=Corruption(n_kept=100))
    assert resources(first).dataset.identity == resources(second).dataset.identity
    assert resources(first).identity != resources(second).identity


def test_images_that_are_trained_on_are_part_of_the_identity() -> None:
    assert resources(tiny_task()).identity != resources(tiny_task(corruption=Corruption(noise=0.1))).identity
    assert resources(tiny_task()).identity == resources(tiny_task(name="another", loss="hinge")).identity


def test_features_are_part_of_the_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(0, 256, (100, 1, 8, 8), dtype=np.uint8)
    before = resources(tiny_task(data=_saved(tmp_path, "a", x))).identity
    monkeypatch.setattr(SmallFeatures, "version", "another")
    assert resources(tiny_task(data=_saved(tmp_path, "b", x))).identity != before
