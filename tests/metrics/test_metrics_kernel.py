"""The kernel distance: against loops, against the packages that others use, and against what it must be on average."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torchmetrics.image.kid import poly_mmd

from metaopt.errors import ConfigError
from metaopt.metrics import kernel_distance, kernel_distance_of, mmd2


def normal(n: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, dim, generator=Generator().manual_seed(seed)) + shift


def looped(x: Tensor, y: Tensor) -> float:
    """The definition, term by term."""

    def kernel(a: list[float], b: list[float]) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    a, b = x.tolist(), y.tolist()
    within = [sum(kernel(p, q) for p, q in permutations(s, 2)) / (len(s) * (len(s) - 1)) for s in (a, b)]
    return sum(within) - 2 * sum(kernel(p, q) for p, q in product(a, b)) / (len(a) * len(b))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 7), m=st.integers(2, 7), dim=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_equals_the_sums_of_its_definition(n: int, m: int, dim: int, seed: int) -> None:
    x, y = normal(n, dim, seed), normal(m, dim, seed + 1, shift=0.5)
    assert mmd2(x, y) == pytest.approx(looped(x, y), rel=1e-9, abs=1e-9)


def test_two_points_each_by_hand() -> None:
    """x = {0, 1}, y = {2, 3} in one dimension: kernels (a b + 1)^3."""
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
    between = (1 + 1 + 3**3 + 4**3) / 4
    assert mmd2(x, y) == pytest.approx(1 + 7**3 - 2 * between, rel=1e-12)


def test_is_symmetric_and_does_not_see_the_order() -> None:
    x, y = normal(40, 6, 1), normal(30, 6, 2, shift=1)
    assert mmd2(x, y) == pytest.approx(mmd2(y, x), rel=1e-12)
    assert mmd2(x.flip(0), y.flip(0)) == pytest.approx(mmd2(x, y), rel=1e-12)


def test_is_zero_on_average_for_equal_distributions_and_falls_on_both_sides() -> None:
    values = torch.tensor([mmd2(normal(20, 4, 2 * i), normal(25, 4, 2 * i + 1)) for i in range(400)])
    standard_error = values.std() / 20
    assert abs(values.mean()) < 4 * standard_error
    assert 0.2 < (values < 0).float().mean() < 0.8
    # The biased estimate, with the diagonal in, would lie far off: E k(x, x) / n more on each side.
    assert 4 * standard_error < 0.5


def test_float32_features_are_taken_in_float64() -> None:
    x, y = normal(300, 64, 3, shift=30), normal(300, 64, 4, shift=30)
    exact = mmd2(x.double(), y.double())
    assert mmd2(x, y) == exact
    assert abs(float(poly_mmd(x, y)) - exact) > 1e-3 * abs(exact)


def test_agrees_with_torch_fidelity_on_its_subsets() -> None:
    real, fake = normal(600, 64, 5).relu(), normal(500, 64, 6, shift=0.1).relu()
    options = {"kid_subsets": 7, "kid_subset_size": 100, "rng_seed": 11, "verbose": False}
    theirs = kid_features_to_metric(real.double(), fake.double(), **options)
    random = np.random.RandomState(11)
    drawn = [[random.choice(n, 100, replace=False) for n in (600, 500)] for _ in range(7)]
    first, second = (torch.from_numpy(np.stack(side)) for side in zip(*drawn, strict=True))
    ours = kernel_distance_of(real, fake, first, second)
    assert ours.mean == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-9)
    assert ours.std == pytest.approx(theirs[KEY_METRIC_KID_STD], rel=1e-9)


def test_agrees_with_torchmetrics() -> None:
    real, fake = normal(200, 128, 7).double(), normal(200, 128, 8, shift=0.2).double()
    assert mmd2(real, fake) == pytest.approx(float(poly_mmd(real, fake)), rel=1e-10)


def test_subsets_come_from_the_generator_alone() -> None:
    real, fake = normal(900, 8, 9), normal(700, 8, 10, shift=0.3)
    first, again, other = (kernel_distance(real, fake, Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first == again
    assert first.mean != other.mean
    assert first.mean == pytest.approx(other.mean, rel=0.2)
    assert 0 < first.std < abs(first.mean)


def test_small_sets_are_taken_whole() -> None:
    real, fake = normal(60, 8, 11), normal(60, 8, 12)
    found = kernel_distance(real, fake, Generator().manual_seed(0))
    assert found.mean == pytest.approx(mmd2(real, fake), rel=1e-9)
    assert found.std == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("x", "y"), [((1, 4), (5, 4)), ((5, 4), (1, 4)), ((5, 4), (5, 3)), ((5,), (5, 4)), ((0, 4), (5, 4))]
)
def test_shapes_are_checked(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"`\(n >= 2, d\)` and `\(m >= 2, d\)` must hold, but got \("):
        mmd2(torch.zeros(x), torch.zeros(y))
