"""Moments and the Frechet distance against closed forms and independent implementations."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from metaopt.errors import ConfigError
from metaopt.metrics import Moments, RealStatistics, frechet_distance


def normal(n: int, dim: int, seed: int) -> Tensor:
    return torch.randn(n, dim, generator=Generator().manual_seed(seed), dtype=torch.float64)


def correlated(n: int, dim: int, seed: int) -> Tensor:
    """Features with a full covariance and a mean that is not zero."""
    return normal(n, dim, seed) @ normal(dim, dim, seed + 1) + normal(1, dim, seed + 2)


def whitened(n: int, dim: int, seed: int) -> Tensor:
    """Features whose sample mean is exactly 0 and whose sample covariance is exactly the identity."""
    x = normal(n, dim, seed)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T).view(dim, dim))).T


def distance(real: Tensor, fake: Tensor) -> float:
    return frechet_distance(RealStatistics.from_moments(Moments.of(real)), Moments.of(fake))


def reference_distance(real: Tensor, fake: Tensor) -> float:
    """The usual form, with a general matrix square root of the unsymmetric product."""
    a, b = real.numpy(), fake.numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a + cov_b - 2 * root.real))


def test_a_set_has_no_distance_to_itself() -> None:
    x = correlated(500, 16, seed=0)
    assert distance(x, x) == pytest.approx(0, abs=1e-9 * Moments.of(x).covariance.trace().item())


def test_a_shift_of_the_mean_costs_its_squared_length() -> None:
    x = correlated(300, 8, seed=1)
    shift = torch.arange(8, dtype=torch.float64) / 4
    assert distance(x, x + shift) == pytest.approx(shift.square().sum().item(), rel=1e-9)


def test_independent_features_cost_the_squared_difference_of_their_spreads() -> None:
    s_real = torch.tensor([0.0, 0.5, 1.0, 2.0, 10.0], dtype=torch.float64)
    s_fake = torch.tensor([1.0, 0.5, 0.0, 3.0, 8.0], dtype=torch.float64)
    d = distance(whitened(50, 5, seed=2) * s_real, whitened(70, 5, seed=3) * s_fake)
    assert d == pytest.approx((s_real - s_fake).square().sum().item(), rel=1e-5)  # a root of rounding noise


def test_one_feature_is_the_textbook_case() -> None:
    real, fake = whitened(40, 1, seed=4) * 2 + 1, whitened(30, 1, seed=5) * 5 - 3
    assert distance(real, fake) == pytest.approx((1 + 3) ** 2 + (2 - 5) ** 2, rel=1e-12)


@pytest.mark.parametrize("dim", [2, 16, 64])
def test_agrees_with_a_general_matrix_square_root(dim: int) -> None:
    real, fake = correlated(400, dim, seed=6), correlated(350, dim, seed=9)
    assert distance(real, fake) == pytest.approx(reference_distance(real, fake), rel=1e-8)


def test_is_symmetric() -> None:
    a, b = correlated(200, 12, seed=12), correlated(300, 12, seed=15)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-10)


def test_does_not_change_under_a_rotation_of_both() -> None:
    a, b = correlated(200, 6, seed=18), correlated(200, 6, seed=21)
    rotation, _ = torch.linalg.qr(normal(6, 6, seed=24))
    assert distance(a @ rotation, b @ rotation) == pytest.approx(distance(a, b), rel=1e-10)


def test_singular_covariances_are_allowed() -> None:
    """Fewer images than features: the general root of many implementations fails or turns complex here."""
    a, b = normal(5, 32, seed=25), normal(3, 32, seed=26)
    expected = (a.mean(0) - b.mean(0)).square().sum() + torch.cov(a.T).trace() + torch.cov(b.T).trace()
    root = torch.linalg.svdvals((a - a.mean(0)) @ (b - b.mean(0)).T).sum() / math.sqrt(4 * 2)
    assert distance(a, b) == pytest.approx((expected - 2 * root).item(), rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 8), n=st.integers(2, 12), scale=st.floats(1e-6, 1e6))
def test_is_never_negative(seed: int, dim: int, n: int, scale: float) -> None:
    x = normal(n, dim, seed) * scale
    assert distance(x, x.flip(0)) >= 0
    assert distance(x, normal(n + 1, dim, seed + 1)) >= 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_diverged_generator_scores_nan(bad: float) -> None:
    real, fake = normal(50, 4, seed=27), normal(50, 4, seed=28)
    fake[17, 2] = bad
    assert math.isnan(distance(real, fake))


def test_real_features_must_be_finite() -> None:
    real = normal(50, 4, seed=29)
    real[0, 0] = math.nan
    with pytest.raises(ConfigError, match="features are finite"):
        RealStatistics.from_moments(Moments.of(real))


@pytest.mark.parametrize("n", [0, 1])
def test_two_images_are_needed(n: int) -> None:
    with pytest.raises(ConfigError, match=rf"`n >= 2` must hold for a covariance, but got n={n}"):
        distance(normal(n, 4, seed=30), normal(9, 4, seed=31))
    with pytest.raises(ConfigError, match=rf"`n >= 2` must hold for a covariance, but got n={n}"):
        distance(normal(9, 4, seed=31), normal(n, 4, seed=30))


def test_features_of_two_extractors_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match=r"dimension of fake == dimension of real.*got 5 and 4"):
        distance(normal(9, 4, seed=32), normal(9, 5, seed=33))


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=6), offset=st.sampled_from([0.0, 1.0, 1e6]))
def test_moments_in_pieces_are_those_of_the_whole(cuts: list[int], offset: float) -> None:
    x = correlated(60, 5, seed=34) + offset
    moments = Moments.empty(5)
    for piece in torch.tensor_split(x, sorted(cuts)):
        moments = moments.updated(piece)
    assert moments.n == 60
    np.testing.assert_allclose(moments.mean, x.numpy().mean(0), rtol=1e-12)
    centred = x.numpy() - offset
    np.testing.assert_allclose(moments.covariance, np.cov(centred, rowvar=False), rtol=1e-7, atol=1e-8)


def test_an_update_leaves_the_moments_of_before() -> None:
    before = Moments.of(normal(10, 3, seed=35))
    mean, scatter = before.mean.clone(), before.scatter.clone()
    before.updated(normal(10, 3, seed=36))
    assert before.n == 10
    assert torch.equal(before.mean, mean)
    assert torch.equal(before.scatter, scatter)


def test_moments_are_float64_for_float32_features() -> None:
    """A sum in float32 would miss the spread of features far from zero by a lot."""
    x = (normal(4000, 2, seed=37) + 300).float()
    moments = Moments.of(x)
    assert moments.covariance.dtype == torch.float64
    np.testing.assert_allclose(moments.covariance, np.cov(x.double().numpy(), rowvar=False), rtol=1e-10)


@pytest.mark.parametrize("shape", [(3,), (3, 5), (2, 4, 1)])
def test_updates_must_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"`features.shape == \(m, 4\)` must hold, but got shape"):
        Moments.empty(4).updated(torch.zeros(shape))
