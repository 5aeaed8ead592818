"""All metrics against golden values of other programs, whose origin tests/reference/README.md tells."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.inputs import FAKE, IMAGES, KID_SEED, KID_SUBSET_SIZE, KID_SUBSETS, LOGITS, REAL
from torch import Generator, Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import _compute_fid

from metaopt.metrics import (
    Moments,
    RealStatistics,
    density_coverage,
    frechet_distance,
    inception_score,
    kernel_distance_of,
    mmd2,
    precision_recall,
)
from metaopt.metrics.lite0 import Lite0Features

FOLDER = Path(__file__).parents[1] / "reference"
GOLDEN: dict[str, dict[str, float]] = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))


def fid(real: Tensor, fake: Tensor) -> float:
    return frechet_distance(RealStatistics.from_moments(Moments.of(real)), Moments.of(fake))


@pytest.mark.parametrize(
    ("package", "key"), [("scipy", "fid"), ("torchmetrics", "fid"), ("torch-fidelity", "frechet_inception_distance")]
)
def test_frechet_distance(package: str, key: str) -> None:
    assert fid(REAL, FAKE) == pytest.approx(GOLDEN[package][key], rel=1e-9)


def test_kernel_distance() -> None:
    random = np.random.RandomState(KID_SEED)
    drawn = [[random.choice(len(x), KID_SUBSET_SIZE, replace=False) for x in (REAL, FAKE)] for _ in range(KID_SUBSETS)]
    first, second = (torch.from_numpy(np.stack(side)) for side in zip(*drawn, strict=True))
    found, golden = kernel_distance_of(REAL, FAKE, first, second), GOLDEN["torch-fidelity"]
    assert found.mean == pytest.approx(golden["kernel_inception_distance_mean"], rel=1e-9)
    assert found.std == pytest.approx(golden["kernel_inception_distance_std"], rel=1e-9)
    assert mmd2(REAL[:180], FAKE) == pytest.approx(GOLDEN["torchmetrics"]["mmd2"], rel=1e-9)


def test_inception_score() -> None:
    found, golden = inception_score(LOGITS, splits=10), GOLDEN["torch-fidelity"]
    assert found.mean == pytest.approx(golden["inception_score_mean"], rel=1e-9)
    assert found.std == pytest.approx(golden["inception_score_std"], rel=1e-9)


def test_neighbours() -> None:
    found, golden = precision_recall(REAL, FAKE), GOLDEN["torch-fidelity"]
    assert found.precision == pytest.approx(golden["precision"], rel=1e-6)
    assert found.recall == pytest.approx(golden["recall"], rel=1e-6)
    wide, other, theirs = precision_recall(REAL, FAKE, k=5), density_coverage(REAL, FAKE), GOLDEN["prdc"]
    assert wide.precision == pytest.approx(theirs["precision"], rel=1e-9)
    assert wide.recall == pytest.approx(theirs["recall"], rel=1e-9)
    assert other.density == pytest.approx(theirs["density"], rel=1e-9)
    assert other.coverage == pytest.approx(theirs["coverage"], rel=1e-9)


def test_lite0_is_the_published_network() -> None:
    golden = np.load(FOLDER / "lite0.npz")
    features, logits = Lite0Features().features_and_logits(IMAGES)
    np.testing.assert_allclose(features, golden["features"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits, golden["logits"], rtol=1e-4, atol=1e-4)
    assert float(features.std()) > 0.1


@pytest.mark.parametrize(("n_real", "n_fake", "dim"), [(400, 300, 48), (300, 60, 128), (80, 90, 100)])
def test_frechet_distance_agrees_with_the_packages(n_real: int, n_fake: int, dim: int) -> None:
    """With singular covariances too, where theirs lose digits."""
    random = Generator().manual_seed(dim)
    mixing = torch.randn(dim, dim, generator=random) / dim**0.5
    real, fake = (torch.randn(n, dim, generator=random).double() @ mixing.double() for n in (n_real, n_fake))
    fake = 1.3 * fake + 0.1
    stats = [fid_features_to_statistics(x) for x in (real, fake)]
    theirs = fid_statistics_to_metric(*stats, verbose=False)[KEY_METRIC_FID]
    other = float(_compute_fid(real.mean(0), real.T.cov(), fake.mean(0), fake.T.cov()))
    prepared = RealStatistics.from_moments(Moments.of(real))
    for ours in (frechet_distance(prepared, Moments.of(fake)), frechet_distance(prepared, fake)):
        assert ours == pytest.approx(theirs, rel=1e-5)
        assert ours == pytest.approx(other, rel=1e-5)


def test_few_features_give_the_distance_of_their_moments() -> None:
    real = torch.randn(500, 40, generator=Generator().manual_seed(1)).double()
    prepared = RealStatistics.from_moments(Moments.of(real))
    for n in (2, 3, 39, 40, 41, 100):
        fake = 0.7 * torch.randn(n, 40, generator=Generator().manual_seed(n)).double() + 0.2
        assert frechet_distance(prepared, fake) == pytest.approx(frechet_distance(prepared, Moments.of(fake)), rel=1e-7)
