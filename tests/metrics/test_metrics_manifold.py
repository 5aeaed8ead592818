"""Precision, recall, density, coverage: points placed by hand, loops over the definitions, and torch-fidelity."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from metaopt.errors import ConfigError
from metaopt.metrics import density_coverage, precision_recall
from metaopt.metrics.manifold import radii


def normal(n: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, dim, generator=Generator().manual_seed(seed)) + shift


def line(*places: float) -> Tensor:
    return torch.tensor(places)[:, None]


def looped_radii(x: list[list[float]], k: int) -> list[float]:
    return [sorted(math.dist(a, b) for j, b in enumerate(x) if j != i)[k - 1] for i, a in enumerate(x)]


def looped(real: Tensor, fake: Tensor, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage by their definitions. Coordinates are to be small integers."""
    x, y = real.tolist(), fake.tolist()
    r_x, r_y = looped_radii(x, k), looped_radii(y, k)
    inside = [[math.dist(b, a) <= r for a, r in zip(x, r_x, strict=True)] for b in y]
    precision = sum(any(row) for row in inside) / len(y)
    recall = sum(any(math.dist(a, b) <= r for b, r in zip(y, r_y, strict=True)) for a in x) / len(x)
    density = sum(map(sum, inside)) / (k * len(y))
    coverage = sum(any(row[i] for row in inside) for i in range(len(x))) / len(x)
    return precision, recall, density, coverage


def test_radii_of_points_on_a_line() -> None:
    assert radii(line(0, 1, 3, 7), 1).tolist() == [1, 1, 2, 4]
    assert radii(line(0, 1, 3, 7), 2).tolist() == [3, 2, 3, 6]


def test_a_twin_is_a_neighbour_and_the_point_itself_is_not() -> None:
    assert radii(line(2, 2, 5), 1).tolist() == [0, 0, 3]


def test_precision_and_recall_of_points_on_a_line() -> None:
    """Radii with k = 1: real 0, 1, 3 reach 1, 1, 2; generated 0.5, 6, 9 reach 5.5, 3, 3."""
    found = precision_recall(line(0, 1, 3), line(0.5, 6, 9), k=1)
    assert found.precision == pytest.approx(1 / 3)
    assert found.recall == 1


def test_density_and_coverage_of_points_on_a_line() -> None:
    """Real 0, 1, 3, 10 reach 1, 1, 2, 7: 1 lies in all balls but 10's, -1 in 0's, 20 in none."""
    found = density_coverage(line(0, 1, 3, 10), line(1, -1, 20), k=1)
    assert found.density == pytest.approx((3 + 1 + 0) / 3)
    assert found.coverage == 3 / 4


def test_the_edge_of_a_ball_belongs_to_it() -> None:
    real = line(0, 1, 11, 12)
    edge = density_coverage(real, line(2), k=1)
    assert (edge.density, edge.coverage) == (1, 1 / 4)
    outside = density_coverage(real, line(2.001), k=1)
    assert (outside.density, outside.coverage) == (0, 0)


@pytest.mark.parametrize(("n", "dim", "k"), [(50, 3, 5), (300, 64, 5), (200, 300, 3)])
def test_a_set_covers_itself_and_each_ball_holds_k_neighbours_and_its_centre(n: int, dim: int, k: int) -> None:
    """Every distance to the k-th neighbour is a tie: rounding must not break one."""
    x = normal(n, dim, seed=n, shift=20)
    found = density_coverage(x, x[torch.randperm(n, generator=Generator().manual_seed(1))], k=k)
    assert found.coverage == 1
    assert found.density == pytest.approx((k + 1) / k, rel=1e-12)
    both = precision_recall(x, x.flip(0), k=k)
    assert (both.precision, both.recall) == (1, 1)


@pytest.mark.parametrize(("n", "dim"), [(5, 100), (40, 333), (150, 64)])
def test_copies_have_distance_zero_however_far_from_the_origin(n: int, dim: int) -> None:
    """Six copies of each point: balls of radius 0 hold the copies and nothing else."""
    x = normal(n, dim, seed=2, shift=50)
    found = density_coverage(x.repeat(6, 1), x.flip(0), k=5)
    assert found.density == pytest.approx(6 / 5)
    assert found.coverage == 1
    near = x + 1e-3 * torch.nn.functional.one_hot(torch.arange(n) % dim, dim)
    assert density_coverage(x.repeat(6, 1), near, k=5).density == 0


def test_density_of_an_equal_distribution_is_one_on_average() -> None:
    found = [density_coverage(normal(400, 8, 2 * i), normal(400, 8, 2 * i + 1)) for i in range(10)]
    density = torch.tensor([each.density for each in found])
    assert abs(density.mean() - 1) < 4 * density.std() / math.sqrt(10)
    # 1 - (1/2)^k for equal numbers (Naeem et al. 2020, section 3.4).
    coverage = torch.tensor([each.coverage for each in found], dtype=torch.float64)
    expected = 1 - math.prod((400 - i) / (799 - i) for i in range(5))
    assert abs(coverage.mean() - expected) < 4 * coverage.std() / math.sqrt(10)


def test_one_image_repeated_is_precise_and_covers_little() -> None:
    real = normal(500, 16, seed=3)
    fake = real[:1].repeat(500, 1)
    assert precision_recall(real, fake).precision == 1
    assert precision_recall(real, fake).recall == 1 / 500
    assert density_coverage(real, fake).coverage < 0.1


def test_far_away_is_zero() -> None:
    real, fake = normal(60, 4, seed=4), normal(60, 4, seed=5, shift=100)
    both, other = precision_recall(real, fake), density_coverage(real, fake)
    assert (both.precision, both.recall, other.density, other.coverage) == (0, 0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(4, 9), m=st.integers(4, 9), dim=st.integers(1, 3), k=st.integers(1, 3), seed=st.integers(0, 9999))
def test_equals_the_loops_of_its_definition(n: int, m: int, dim: int, k: int, seed: int) -> None:
    """On a grid of integers, full of ties and twins."""
    random = Generator().manual_seed(seed)
    real, fake = (torch.randint(-2, 3, (size, dim), generator=random).float() for size in (n, m))
    both, other = precision_recall(real, fake, k=k), density_coverage(real, fake, k=k)
    assert (both.precision, both.recall, other.density, other.coverage) == pytest.approx(looped(real, fake, k))


@pytest.mark.parametrize(("n", "m", "dim"), [(1200, 1100, 16), (400, 700, 512)])
def test_agrees_with_torch_fidelity(n: int, m: int, dim: int) -> None:
    """More points than a chunk. Its convention: the generated set first."""
    real, fake = normal(n, dim, seed=6).double(), normal(m, dim, seed=7, shift=0.1).double()
    options = {"prc_neighborhood": 3, "prc_batch_size": 10_000, "save_cpu_ram": False, "verbose": False}
    theirs = prc_features_to_metric(fake, real, **options)
    ours = precision_recall(real, fake)
    assert 0 < ours.precision < 1
    assert ours.precision == pytest.approx(theirs[KEY_METRIC_PRECISION], rel=1e-6)
    assert ours.recall == pytest.approx(theirs[KEY_METRIC_RECALL], rel=1e-6)


def test_does_not_depend_on_the_order_or_a_shift_of_both() -> None:
    real, fake = normal(1100, 8, seed=8), normal(1050, 8, seed=9, shift=0.5)
    expected = precision_recall(real, fake), density_coverage(real, fake)
    assert (precision_recall(real.flip(0), fake.flip(0)), density_coverage(real.flip(0), fake.flip(0))) == expected
    moved = real.double() + 1000, fake.double() + 1000
    assert (precision_recall(*moved), density_coverage(*moved)) == expected


@pytest.mark.parametrize(("n", "m"), [(3, 9), (9, 3), (0, 9), (9, 0)])
def test_more_points_than_neighbours_are_needed(n: int, m: int) -> None:
    with pytest.raises(ConfigError, match=r"`features \(n > k, d\)` must hold, but got \(\d, 4\) with k=3"):
        precision_recall(torch.zeros(n, 4), torch.zeros(m, 4))


def test_density_needs_one_generated_image_only() -> None:
    real = normal(6, 2, seed=10)
    assert density_coverage(real, real[:1]).density >= 1 / 5
    with pytest.raises(ConfigError, match=r"must hold, but got \(5, 2\) with k=5"):
        density_coverage(normal(5, 2, seed=10), normal(1, 2, seed=11))
    with pytest.raises(ConfigError, match=r"must hold, but got \(0, 2\) with k=0"):
        density_coverage(normal(6, 2, seed=10), torch.zeros(0, 2))
