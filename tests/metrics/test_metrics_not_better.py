"""The test of whether a generator is better than an earlier one: its sums, its limits, and how often it errs."""

import math

import pytest
import torch
from torch import Generator, Tensor

from metaopt.errors import ConfigError
from metaopt.metrics import p_not_better


def normal(n: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, dim, generator=Generator().manual_seed(seed)) + shift


def looped(now: Tensor, earlier: Tensor, real: Tensor, sizes: list[int]) -> float:
    """The definition, term by term; the terms of real images alone cancel and are left out."""

    def kernel(a: list[float], b: list[float]) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def distance(x: list[list[float]], y: list[list[float]]) -> float:
        within = [kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]
        between = [kernel(a, b) for a in x for b in y]
        return sum(within) / len(within) - 2 * sum(between) / len(between)

    d, start = [], 0
    for size in sizes:
        a, b, c = (x[start : start + size].double().tolist() for x in (now, earlier, real))
        d.append(distance(a, c) - distance(b, c))
        start += size
    mean = sum(d) / len(d)
    sd = math.sqrt(sum((x - mean) ** 2 for x in d) / (len(d) - 1))
    return (1 + math.erf(mean / (sd / math.sqrt(len(d))) / math.sqrt(2))) / 2


@pytest.mark.parametrize("sizes", [[5, 5, 5, 5], [4, 4, 3], [2, 2]])
def test_equals_the_sums_of_its_definition(sizes: list[int]) -> None:
    for seed in range(5):
        n = sum(sizes)
        now, earlier, real = (normal(n, 3, 10 * seed + i, shift=0.3 * i) for i in range(3))
        p = p_not_better(now, earlier, real, blocks=len(sizes))
        assert p == pytest.approx(looped(now, earlier, real, sizes), rel=1e-9, abs=1e-15)
        assert p_not_better(earlier, now, real, blocks=len(sizes)) == pytest.approx(1 - p, abs=1e-12)


def test_two_blocks_by_hand() -> None:
    """In one dimension with kernel (a b + 1)^3 and real images at 0: distances are (x y + 1)^3 - 2 and a constant."""
    real = torch.zeros(4, 1)
    now, earlier = torch.tensor([[0.0], [0.0], [1.0], [1.0]]), torch.tensor([[1.0], [1.0], [2.0], [2.0]])
    d = [1 - 8, 8 - 125]  # mean -62, standard deviation 110 / sqrt 2, error 55
    assert (sum(d) / 2, math.dist(d, [-62, -62])) == (-62, pytest.approx(110 / math.sqrt(2)))
    expected = (1 + math.erf(-62 / 55 / math.sqrt(2))) / 2
    assert p_not_better(now, earlier, real, blocks=2) == pytest.approx(expected, rel=1e-12)


def test_nearer_is_near_0_and_farther_near_1_whether_paired_or_not() -> None:
    real, latents = normal(300, 16, 0), normal(300, 16, 1)
    assert p_not_better(latents + 0.1, latents + 0.5, real) < 1e-6
    assert p_not_better(latents + 0.5, latents + 0.1, real) > 1 - 1e-6
    assert p_not_better(latents, normal(300, 16, 2, shift=0.5), real) < 1e-3


def test_equal_images_and_equal_differences_have_their_limits() -> None:
    real, now = normal(40, 4, 0), normal(40, 4, 1)
    assert p_not_better(now, now.clone(), real) == 0.5
    near, far = (torch.full((20, 1), value) for value in (0.0, 2.0))
    assert p_not_better(near, far, torch.zeros(20, 1)) == 0.0
    assert p_not_better(far, near, torch.zeros(20, 1)) == 1.0


def test_between_generators_that_are_as_far_away_it_errs_as_often_as_it_says() -> None:
    """The law of mean over error is Student's with 9 degrees of freedom: P(t < -1.2816) = 0.116."""
    found = []
    for seed in range(600):
        random = Generator().manual_seed(seed)
        now, earlier, real = (torch.randn(60, 4, generator=random) for _ in range(3))
        found.append(p_not_better(now, earlier, real))
    share = sum(p < 0.1 for p in found) / len(found)
    assert abs(share - 0.116) < 4 * math.sqrt(0.116 * 0.884 / 600)
    assert abs(sum(found) / len(found) - 0.5) < 4 * 0.3 / math.sqrt(600)


def test_a_small_gain_on_the_same_latents_is_seen_that_other_latents_would_hide() -> None:
    real, latents, others = (normal(300, 16, seed) for seed in range(3))
    assert p_not_better(latents + 0.20, latents + 0.22, real) < 0.01
    assert p_not_better(latents + 0.20, others + 0.22, real) > 0.01


@pytest.mark.parametrize(
    ("sizes", "blocks", "message"),
    [
        ((40, 40, 40), 1, "`blocks >= 2` of two or more features must hold, but got 1 blocks"),
        ((19, 40, 40), 10, r"but got 10 blocks of \(19, 40, 40\)"),
        ((40, 40, 19), 10, r"but got 10 blocks of \(40, 40, 19\)"),
        ((40, 41, 40), 10, r"`now` and `earlier` must have one shape, but got \(40, 3\), \(41, 3\)"),
    ],
)
def test_sizes_are_checked(sizes: tuple[int, int, int], blocks: int, message: str) -> None:
    now, earlier, real = (normal(n, 3, i) for i, n in enumerate(sizes))
    with pytest.raises(ConfigError, match=message):
        p_not_better(now, earlier, real, blocks=blocks)
