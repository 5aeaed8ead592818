"""PB2's proposals: the process against closed forms and scikit-learn's, and whether it finds what moves."""

import math
from random import Random

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from metaopt.search.pb2 import Kernel, Observed, Posterior, most_promising, standardised


def points(n: int, d: int, seed: int = 0) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    return np.random.default_rng(seed).random((n, d))


def test_the_kernel_by_hand() -> None:
    kernel = Kernel(length=0.5, omega=0.19)
    x, t = np.array([[0.0, 0.0], [0.3, 0.4]]), np.array([1.0, 3.0])
    found = kernel(x, t, x, t)
    assert found[0, 0] == found[1, 1] == 1.0
    assert found[0, 1] == found[1, 0] == pytest.approx(math.exp(-0.25 / 0.5) * 0.81, rel=1e-14)
    assert Kernel(length=0.5, omega=0.0)(x, t, x, t)[0, 1] == pytest.approx(math.exp(-0.5), rel=1e-14)


def test_without_forgetting_the_process_is_scikit_learn_s() -> None:
    x, y, new = points(12, 3), points(12, 1, seed=1)[:, 0], points(5, 3, seed=2)
    reference = GaussianProcessRegressor(kernel=RBF(length_scale=0.4), alpha=0.1, optimizer=None).fit(x, y)
    mean, deviation = reference.predict(new, return_std=True)
    ours = Posterior(Kernel(length=0.4, omega=0.0), 0.1, x, np.arange(12.0))
    assert ours.mean(new, 20.0, y) == pytest.approx(mean, rel=1e-9)
    assert ours.deviation(new, 20.0) == pytest.approx(deviation, rel=1e-9)
    assert ours.log_likelihood(y) == pytest.approx(reference.log_marginal_likelihood_value_, rel=1e-9)


def test_one_observation_by_hand() -> None:
    """mean = k y / (1 + noise), variance = 1 - k^2 / (1 + noise), with k = e^(-d^2 / 2 l^2) (1 - omega)^(dt / 2)."""
    ours = Posterior(Kernel(length=1.0, omega=0.36), 0.25, np.array([[0.0]]), np.array([1.0]))
    k = math.exp(-0.125) * 0.64
    new = np.array([[0.5]])
    assert ours.mean(new, 3.0, np.array([2.0]))[0] == pytest.approx(k * 2.0 / 1.25, rel=1e-12)
    assert ours.deviation(new, 3.0)[0] == pytest.approx(math.sqrt(1 - k * k / 1.25), rel=1e-12)


def test_what_is_long_ago_is_forgotten() -> None:
    ours = Posterior(Kernel(length=1.0, omega=0.3), 0.01, np.array([[0.5]]), np.array([1.0]))
    means = [ours.mean(np.array([[0.5]]), t, np.array([1.0]))[0] for t in (1.0, 2.0, 5.0, 100.0)]
    assert means == sorted(means, reverse=True) and means[-1] < 1e-6
    assert ours.deviation(np.array([[0.5]]), 100.0)[0] == pytest.approx(1.0, abs=1e-6)


def test_improvements_are_standardised_and_cut() -> None:
    found = standardised(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1000.0]))
    assert found.min() == -2.0 and found.max() == pytest.approx(0.378, abs=1e-3)
    assert list(standardised(np.array([3.0, 3.0]))) == [0.0, 0.0]


def test_a_batch_spreads() -> None:
    observed = [Observed(x=[u], t=1, y=-abs(u - 0.7)) for u in (0.1, 0.4, 0.7, 0.9)]
    alone = most_promising(observed, [], 2, "a", n=1)
    crowded = most_promising(observed, [alone] * 5, 2, "a", n=1)
    assert abs(alone[0] - crowded[0]) > 0.05
    known = most_promising(observed, [], 2, "a", n=1)
    assert known == alone


def test_without_observations_points_are_random_and_inside() -> None:
    found = [most_promising([], [], 1, str(k), n=2) for k in range(20)]
    assert len({tuple(point) for point in found}) == 20
    assert all(0 <= u <= 1 for point in found for u in point)


def regret(seed: int, method: str) -> float:
    """Mean distance from an optimum that moves from 0.2 to 0.8, of four proposals at each of ten times."""
    random, observed, apart = Random(seed), [], []
    for t in range(1, 11):
        best = 0.2 + 0.6 * (t - 1) / 9
        pending: list[list[float]] = []
        for k in range(4):
            anew = [random.random(), random.random()]
            purpose = f"{seed}/{t}/{k}"
            pending.append(most_promising(observed, pending, t, purpose, n=2) if method == "pb2" else anew)
        for x in pending:
            noise = random.gauss(0.0, 0.02)
            observed.append(Observed(x=x, t=t, y=-((x[0] - best) ** 2) + noise))
            if t > 3:
                apart.append(abs(x[0] - best))
    return sum(apart) / len(apart)


def test_pb2_follows_an_optimum_that_moves_better_than_chance() -> None:
    pairs = [(regret(seed, "pb2"), regret(seed, "random")) for seed in range(6)]
    assert all(ours < chance for ours, chance in pairs), pairs
    assert sum(ours for ours, _ in pairs) < 0.85 * sum(chance for _, chance in pairs), pairs
