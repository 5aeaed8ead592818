"""Intervals, effect sizes and budgets: closed forms, scipy's own, simulations, and what must never change."""

import math
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metaopt.errors import ConfigError
from metaopt.meta.statistics import (
    Interval,
    cvar,
    equivalent_trials,
    expected_best,
    interquartile_mean,
    iqm_interval,
    mean_interval,
    probability_of_improvement,
    seeds_needed,
)

X = (-0.31, 0.12, -0.48, -0.07, 0.26, -0.92, -0.15, 0.03, -0.66, -0.2)
BY_TASK = (X, (0.4, -0.1, 0.9, 0.2, 0.55), (-1.2, -1.9, -0.7, -2.2, -1.6, -1.1, 0.3))
BY_TASK_B = ((-0.2, 0.1, -0.3, 0.2), (0.2, 0.5, 0.9, 1.0, 0.1, 0.3), (-1.5, -1.2, -0.4))  # with ties
N = 20_000

values = st.floats(min_value=-100, max_value=100).map(lambda x: round(x, 3))
pools = st.lists(values, min_size=1, max_size=12)
tasks = st.lists(st.lists(values, min_size=2, max_size=5), min_size=1, max_size=4)
seeds = st.integers(0, 2**32 - 1)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.low, interval.estimate, interval.high


def _scipy_percentile(samples: Sequence[Sequence[float]], statistic: Callable[..., Any], level: float) -> Any:
    """scipy's percentile bootstrap; several samples are resampled apart, which makes them strata."""
    return stats.bootstrap(
        samples, statistic, n_resamples=N, confidence_level=level, method="percentile", vectorized=True, rng=_rng(7)
    )


def _close(found: Interval, reference: Any) -> None:
    """Within Monte Carlo error of the two: that of a 2.5 % quantile of N is 0.019 standard errors of the estimate."""
    band = 0.12 * reference.standard_error
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=band)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=band)


# --- mean_interval


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_mean_interval_is_scipy_s_percentile_bootstrap(level: float) -> None:
    found = mean_interval(X, _rng(), level=level, n_resamples=N)
    assert found.estimate == pytest.approx(np.mean(X))
    _close(found, _scipy_percentile([X], np.mean, level))


def test_mean_interval_is_of_the_exact_distribution_of_resamples() -> None:
    """All 27 resamples of three values; at the level 0.8 the quantiles lie inside steps, not between two."""
    x = (0.0, 1.0, 4.0)
    exact = np.quantile([np.mean(drawn) for drawn in product(x, repeat=3)], [0.1, 0.9])
    found = mean_interval(x, _rng(), level=0.8, n_resamples=N)
    assert _ends(found) == pytest.approx((exact[0], 5 / 3, exact[1]), abs=1e-9)


@pytest.mark.parametrize("x", [[0.3], [-1e9]])
def test_one_seed_has_no_spread(x: list[float]) -> None:
    assert mean_interval(x, _rng()) == Interval(estimate=x[0], low=-math.inf, high=math.inf)


@pytest.mark.parametrize(("n", "stated"), [(5, 0.85), (10, 0.90), (30, 0.94)])
def test_mean_interval_covers_as_its_docstring_says(n: int, stated: float) -> None:
    theory = 1 - 2 * stats.t.sf(stats.norm.ppf(0.975) * math.sqrt((n - 1) / n), n - 1)
    assert theory == pytest.approx(stated, abs=0.005)
    rng = _rng(1)
    found = [mean_interval(rng.normal(-0.3, 0.5, n), rng, n_resamples=400) for _ in range(1000)]
    covered = np.mean([one.low <= -0.3 <= one.high for one in found])
    assert covered == pytest.approx(theory, abs=0.03)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_mean_interval_covers_at_its_level(level: float) -> None:
    rng = _rng(2)
    found = [mean_interval(rng.normal(1.0, 2.0, 40), rng, level=level, n_resamples=400) for _ in range(1000)]
    assert np.mean([one.low <= 1.0 <= one.high for one in found]) == pytest.approx(level, abs=0.04)


@settings(max_examples=40, deadline=None)
@given(st.lists(values, min_size=2, max_size=8), seeds, values, st.floats(0.01, 100))
def test_mean_interval_moves_and_scales_with_its_values(x: list[float], seed: int, shift: float, scale: float) -> None:
    found = mean_interval(x, _rng(seed), n_resamples=200)
    moved = mean_interval([scale * one + shift for one in x], _rng(seed), n_resamples=200)
    assert _ends(moved) == pytest.approx([scale * end + shift for end in _ends(found)], abs=1e-8)
    assert min(x) - 1e-9 <= found.low <= found.high <= max(x) + 1e-9


def test_a_higher_level_is_a_wider_interval() -> None:
    found = [mean_interval(X, _rng(), level=level) for level in (0.5, 0.8, 0.95, 0.99)]
    assert all(b.low < a.low < a.high < b.high for a, b in pairwise(found))


@pytest.mark.parametrize(
    "interval",
    [
        lambda rng: mean_interval(X, rng),
        lambda rng: iqm_interval(BY_TASK, rng),
        lambda rng: probability_of_improvement(BY_TASK, BY_TASK_B, rng),
    ],
)
def test_a_bootstrap_is_a_function_of_its_generator(interval: Callable[[np.random.Generator], Interval]) -> None:
    assert interval(_rng(3)) == interval(_rng(3))
    rng = _rng(3)
    assert interval(rng) != interval(rng)


def test_interval_is_frozen_and_keyword_only() -> None:
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'low'"):
        Interval(estimate=0.0, low=-1.0, high=1.0).low = 0.0  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional argument"):
        Interval(0.0, -1.0, 1.0)  # type: ignore[misc]


# --- interquartile_mean, iqm_interval


@pytest.mark.parametrize("n", range(1, 20))
def test_interquartile_mean_is_scipy_s_trim_mean(n: int) -> None:
    x = _rng(n).normal(size=n) ** 3
    assert interquartile_mean(x) == pytest.approx(stats.trim_mean(x, 0.25), rel=1e-12)


def test_interquartile_mean_flattens() -> None:
    x = _rng().normal(size=(3, 5, 2))
    assert interquartile_mean(x) == pytest.approx(stats.trim_mean(x, 0.25, axis=None), rel=1e-12)


@pytest.mark.parametrize(
    ("x", "expected"),
    [((5.0,), 5.0), ((0.0, 1.0, 5.0), 2.0), ((-99.0, 1.0, 3.0, 99.0), 2.0), (range(8), 3.5), ((9, 0, 1, 2, 3), 2.0)],
)
def test_interquartile_mean_in_closed_form(x: Sequence[float], expected: float) -> None:
    assert interquartile_mean(x) == pytest.approx(expected)


@given(pools, values, st.floats(0.01, 100))
def test_interquartile_mean_moves_and_scales_with_its_cells(x: list[float], shift: float, scale: float) -> None:
    moved = interquartile_mean([scale * one + shift for one in x])
    assert moved == pytest.approx(scale * interquartile_mean(x) + shift, abs=1e-8)
    assert interquartile_mean([-one for one in x]) == pytest.approx(-interquartile_mean(x), abs=1e-9)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_iqm_interval_is_scipy_s_bootstrap_of_strata(level: float) -> None:
    def iqm(*drawn: Any, axis: int = -1) -> Any:
        return stats.trim_mean(np.concatenate(drawn, axis=axis), 0.25, axis=axis)

    found = iqm_interval(BY_TASK, _rng(), level=level, n_resamples=N)
    assert found.estimate == pytest.approx(stats.trim_mean(np.concatenate(BY_TASK), 0.25))
    _close(found, _scipy_percentile(BY_TASK, iqm, level))


def test_seeds_are_resampled_within_their_task() -> None:
    """Seeds that agree leave nothing to resample, however far the tasks are apart."""
    found = iqm_interval([[0.0] * 3, [1.0] * 2, [5.0] * 4], _rng())
    assert _ends(found) == pytest.approx((found.estimate,) * 3)
    assert found.estimate == pytest.approx(stats.trim_mean([0.0] * 3 + [1.0] * 2 + [5.0] * 4, 0.25))


def test_iqm_interval_of_one_small_task_is_that_of_the_mean() -> None:
    assert _ends(iqm_interval([X[:3]], _rng(5))) == pytest.approx(_ends(mean_interval(X[:3], _rng(5))))


def test_iqm_interval_covers_near_its_level() -> None:
    """Three tasks of 12 seeds about 0, the centre of symmetry of all cells and so the true value."""
    rng = _rng(4)
    found = [iqm_interval(rng.normal(size=(3, 12)), rng, n_resamples=400) for _ in range(500)]
    assert 0.90 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.98


@pytest.mark.parametrize(
    ("by_task", "expected"), [([[0.2]], 0.2), ([[0.2], [0.4]], 0.3), ([[0.2, 0.3, 0.1], [0.4]], 0.25)]
)
def test_a_task_of_one_seed_leaves_the_spread_unknown(by_task: list[list[float]], expected: float) -> None:
    assert _ends(iqm_interval(by_task, _rng())) == (-math.inf, pytest.approx(expected), math.inf)


@settings(max_examples=40, deadline=None)
@given(tasks, seeds, values)
def test_iqm_interval_moves_with_its_values(by_task: list[list[float]], seed: int, shift: float) -> None:
    found = iqm_interval(by_task, _rng(seed), n_resamples=200)
    moved = iqm_interval([[one + shift for one in part] for part in by_task], _rng(seed), n_resamples=200)
    assert _ends(moved) == pytest.approx([end + shift for end in _ends(found)], abs=1e-8)


# --- probability_of_improvement


def _mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    return float(stats.mannwhitneyu(b, a).statistic / (len(a) * len(b)))  # the U of b: how often b lies above a


def test_probability_of_improvement_is_scipy_s_mann_whitney_u() -> None:
    found = probability_of_improvement(BY_TASK, BY_TASK_B, _rng())
    assert found.estimate == pytest.approx(np.mean([*map(_mann_whitney, BY_TASK, BY_TASK_B)]), rel=1e-12)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_probability_of_improvement_is_scipy_s_bootstrap_of_strata(level: float) -> None:
    n = len(BY_TASK)

    def mean_u(*drawn: Any, axis: int = -1) -> Any:
        pairs = [(a[..., :, None], b[..., None, :]) for a, b in zip(drawn[:n], drawn[n:], strict=True)]
        return np.mean([(0.5 + np.sign(b - a) / 2).mean(axis=(axis, axis - 1)) for a, b in pairs], axis=0)

    found = probability_of_improvement(BY_TASK, BY_TASK_B, _rng(), level=level, n_resamples=N)
    _close(found, _scipy_percentile((*BY_TASK, *BY_TASK_B), mean_u, level))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([[1.0, 2.0]], [[3.0, 4.0, 5.0]], 1.0),
        ([[3.0, 4.0]], [[1.0, 2.0]], 0.0),
        ([[1.0, 1.0]], [[1.0, 1.0]], 0.5),
        ([[1.0, 2.0], [4.0, 4.0]], [[3.0, 4.0], [1.0, 2.0]], 0.5),
    ],
)
def test_probability_of_improvement_of_separate_or_equal_values(
    a: list[list[float]], b: list[list[float]], expected: float
) -> None:
    assert probability_of_improvement(a, b, _rng()) == Interval(estimate=expected, low=expected, high=expected)


def test_tasks_weigh_the_same_whatever_their_seeds() -> None:
    a, b = [[0.0] * 2, [1.0] * 6], [[1.0] * 2, [0.0] * 6]
    assert probability_of_improvement(a, b, _rng()).estimate == pytest.approx(0.5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(pools, pools), min_size=1, max_size=3))
def test_probability_of_improvement_is_that_of_the_other_turned(pairs: list[tuple[list[float], list[float]]]) -> None:
    a, b = [one for one, _ in pairs], [one for _, one in pairs]
    found, turned = (probability_of_improvement(*two, _rng(), n_resamples=50) for two in ((a, b), (b, a)))
    assert found.estimate + turned.estimate == pytest.approx(1.0)
    assert 0 <= found.low <= found.high <= 1
    exp = [[[math.exp(one / 100) for one in part] for part in by_task] for by_task in (a, b)]
    assert probability_of_improvement(*exp, _rng(), n_resamples=50) == found  # a matter of order alone


def test_probability_of_improvement_covers_near_its_level() -> None:
    rng = _rng(6)
    truth = stats.norm.cdf(0.5 / math.sqrt(2))
    drawn = [(rng.normal(0, 1, (2, 20)), rng.normal(0.5, 1, (2, 20))) for _ in range(400)]
    found = [probability_of_improvement(a, b, rng, n_resamples=400) for a, b in drawn]
    assert 0.90 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.98


@pytest.mark.parametrize(("a", "b"), [([[1.0]], [[2.0]]), ([[1.0, 0.0], [1.0]], [[2.0, 3.0], [2.0, 4.0]])])
def test_one_seed_on_a_task_leaves_any_probability_open(a: list[list[float]], b: list[list[float]]) -> None:
    assert probability_of_improvement(a, b, _rng()) == Interval(estimate=1.0, low=0.0, high=1.0)
    assert probability_of_improvement(b, a, _rng()) == Interval(estimate=0.0, low=0.0, high=1.0)


def test_probability_of_improvement_needs_the_same_tasks() -> None:
    rule = r"`len\(by_task_a\) == len\(by_task_b\)` must hold, but got 3 and 2 tasks\."
    with pytest.raises(ConfigError, match=rule):
        probability_of_improvement(BY_TASK, BY_TASK_B[:2], _rng())


# --- seeds_needed


@pytest.mark.parametrize(("power", "level"), [(0.8, 0.95), (0.9, 0.95), (0.5, 0.99), (0.8, 0.8)])
@pytest.mark.parametrize("effect", [-2.0, -0.5, 0.1])
def test_seeds_needed_in_closed_form(effect: float, power: float, level: float) -> None:
    """Two values of mean `effect` and sd 1."""
    x = (effect - math.sqrt(0.5), effect + math.sqrt(0.5))
    z = stats.norm.ppf(1 - (1 - level) / 2) + stats.norm.ppf(power)
    assert seeds_needed(x, power=power, level=level) == max(2, math.ceil((z / effect) ** 2))


def test_seeds_needed_gives_the_power_asked_for() -> None:
    """Effect of 0.25 sd: 126 seeds, of which a simulated z test sees the effect four times in five."""
    x = (0.25 - math.sqrt(0.5), 0.25 + math.sqrt(0.5))
    n = int(seeds_needed(x))
    assert n == 126
    z = _rng(8).normal(0.25, 1, (5000, n)).mean(axis=1) * math.sqrt(n)
    assert np.mean(np.abs(z) > stats.norm.ppf(0.975)) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ((1.0, 1.0), 2.0),
        ((-3.0, -3.1), 2.0),
        ((1.0, -1.0), math.inf),
        ((0.0, 0.0), math.inf),
        ((1.0, -1.0, 1e-200), math.inf),  # more than the largest float
    ],
)
def test_seeds_needed_at_its_ends(x: Sequence[float], expected: float) -> None:
    assert seeds_needed(x) == expected


@given(st.lists(values, min_size=2, max_size=8), st.floats(0.01, 100), st.floats(0.3, 0.98))
def test_seeds_needed_is_free_of_scale_and_grows_with_power(x: list[float], scale: float, power: float) -> None:
    found = seeds_needed(x, power=power)
    assert found >= 2
    assert math.isinf(found) or found == int(found)
    assert seeds_needed([-one for one in x], power=power) == found
    assert seeds_needed(x, power=power + 0.01) >= found
    if found < 1e6:
        assert abs(seeds_needed([scale * one for one in x], power=power) - found) <= 1


def test_seeds_needed_refuses_what_has_no_spread_or_power() -> None:
    with pytest.raises(ConfigError, match=r"`len\(x\) >= 2` must hold for a spread, but got 1\."):
        seeds_needed([0.3])
    for power in (0.0, 0.025, 1.0, math.nan):
        with pytest.raises(ConfigError, match=r"`\(1 - level\) / 2 < power < 1` must hold, but got power="):
            seeds_needed(X, power=power)
    with pytest.raises(ConfigError, match=r"`0 < level < 1` must hold, but got level=1\.0\."):
        seeds_needed(X, level=1.0)


# --- expected_best, equivalent_trials


@pytest.mark.parametrize("k", [1, 1.5, 2, 3.7, 10, 100])
def test_expected_best_is_the_sum_over_order_statistics(k: float) -> None:
    n, ascending = len(X), sorted(X)
    expected = sum(x * (((n - i) / n) ** k - ((n - i - 1) / n) ** k) for i, x in enumerate(ascending))
    assert expected_best(X, k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_expected_best_is_the_mean_over_all_draws(k: int) -> None:
    pool = (0.4, -1.0, 0.4, 2.5, 0.0)
    assert expected_best(pool, k) == pytest.approx(np.mean([min(drawn) for drawn in product(pool, repeat=k)]))


def test_expected_best_is_that_of_simulated_searches() -> None:
    drawn = _rng(9).choice(X, size=(100_000, 6)).min(axis=1)
    assert expected_best(X, 6) == pytest.approx(drawn.mean(), abs=5 * drawn.std() / math.sqrt(len(drawn)))


def test_expected_best_of_a_large_pool_is_that_of_its_distribution() -> None:
    """The minimum of k uniform numbers is 1 / (k + 1) on average."""
    pool = (np.arange(20_000) + 0.5) / 20_000
    assert [expected_best(pool, k) for k in (1, 2, 9)] == pytest.approx([1 / 2, 1 / 3, 1 / 10], abs=1e-4)


def test_expected_best_lies_above_what_new_trials_find() -> None:
    """The bias that its docstring states: k draws from pools of n, beside 1 / (k + 1)."""
    pools_of_10 = _rng(10).uniform(size=(4000, 10))
    over = [np.mean([expected_best(pool, k) for pool in pools_of_10]) * (k + 1) - 1 for k in (1, 2, 10)]
    assert over[0] == pytest.approx(0, abs=0.01)
    assert 0.02 < over[1] < over[2]


@given(pools, st.floats(1, 50), st.floats(0, 50), values)
def test_expected_best_falls_from_mean_to_minimum(pool: list[float], k: float, more: float, shift: float) -> None:
    found = expected_best(pool, k)
    assert expected_best(pool, 1) == pytest.approx(np.mean(pool), abs=1e-9)
    assert min(pool) <= expected_best(pool, k + more) <= found <= np.mean(pool) + 1e-9
    assert expected_best(pool, 1e6) == pytest.approx(min(pool), abs=1e-9)
    assert expected_best([one + shift for one in pool], k) == pytest.approx(found + shift, abs=1e-9)
    assert expected_best(pool[::-1], k) == found


@pytest.mark.parametrize("k", [0.999, 0, -3, math.nan, math.inf])
def test_fewer_than_one_trial_is_refused(k: float) -> None:
    with pytest.raises(ConfigError, match=r"`1 <= k < inf` must hold, but got k="):
        expected_best(X, k)


@pytest.mark.parametrize("k", [1, 1.25, 2, 5, 17.3, 80])
def test_equivalent_trials_turns_expected_best_round(k: float) -> None:
    assert equivalent_trials((0.0, 1.0), 0.5**k) == pytest.approx(k, rel=1e-9)
    pool = np.linspace(0, 1, 200) ** 2
    assert equivalent_trials(pool, expected_best(pool, k)) == pytest.approx(k, rel=1e-9)


@given(st.lists(values, min_size=2, max_size=12).filter(lambda x: max(x) - min(x) > 0.01), st.floats(0.001, 1.2))
def test_equivalent_trials_is_the_smallest_that_reach_the_value(pool: list[float], share: float) -> None:
    value = min(pool) + share * (float(np.mean(pool)) - min(pool))
    k = equivalent_trials(pool, value)
    assert expected_best(pool, k) <= value
    if k == 1:
        assert value >= np.mean(pool) - 1e-9
    else:
        assert expected_best(pool, max(1, k * (1 - 1e-3))) > value
    assert equivalent_trials(pool, value + 0.01) <= k


@pytest.mark.parametrize(
    ("pool", "value", "expected"),
    [
        ((1.0, 3.0), 2.0, 1.0),
        ((1.0, 3.0), 9.0, 1.0),
        ((1.0, 3.0), 1.0, math.inf),
        ((1.0, 3.0), 0.5, math.inf),
        ((1.0, 3.0), 1.5, 2.0),
        ((2.0, 2.0), 2.0, 1.0),
        ((2.0,), 2.5, 1.0),
        ((2.0, 2.0), 1.9, math.inf),
    ],
)
def test_equivalent_trials_at_its_ends(pool: Sequence[float], value: float, expected: float) -> None:
    assert equivalent_trials(pool, value) == pytest.approx(expected, rel=1e-9)


def test_equivalent_trials_just_above_the_minimum_are_many_and_finite() -> None:
    k = equivalent_trials(range(1, 1001), math.nextafter(1.0, 2.0))
    assert 10_000 < k < math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_equivalent_trials_refuses_a_value_that_is_no_number(value: float) -> None:
    with pytest.raises(ConfigError, match=r"`isfinite\(value\)` must hold, but got value="):
        equivalent_trials(X, value)


# --- cvar


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1.0, 2.5), (0.25, 4.0), (0.1, 4.0), (1e-300, 4.0), (0.5, 3.5), (0.375, (4 + 0.5 * 3) / 1.5), (0.75, 3.0)],
)
def test_cvar_in_closed_form(share: float, expected: float) -> None:
    assert cvar((2.0, 4.0, 1.0, 3.0), share) == pytest.approx(expected, rel=1e-12)


@given(pools, st.floats(0.01, 1))
def test_cvar_is_the_minimum_of_rockafellar_and_uryasev(x: list[float], share: float) -> None:
    """The minimum over c lies at one of the values, as the sum is piecewise linear."""
    expected = min(c + np.mean(np.maximum(np.subtract(x, c), 0)) / share for c in x)
    assert cvar(x, share) == pytest.approx(expected, abs=1e-8)


@given(pools, st.floats(0.01, 1), st.floats(0.01, 1), values)
def test_cvar_falls_from_maximum_to_mean(x: list[float], share: float, other: float, shift: float) -> None:
    assert cvar(x, 1 / len(x)) == pytest.approx(max(x), abs=1e-9)
    assert cvar(x, 0.5 / len(x)) == max(x)
    assert cvar(x, 1) == pytest.approx(np.mean(x), abs=1e-9)
    assert cvar(x, min(share, other)) >= cvar(x, max(share, other)) - 1e-9
    assert cvar([one + shift for one in x], share) == pytest.approx(cvar(x, share) + shift, abs=1e-8)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.001, math.nan, math.inf])
def test_cvar_refuses_what_is_no_share(share: float) -> None:
    with pytest.raises(ConfigError, match=r"`0 < share <= 1` must hold, but got share="):
        cvar(X, share)


# --- what all refuse

OF_VALUES: dict[str, tuple[str, Callable[[Any], object]]] = {
    "mean_interval": ("x", lambda x: mean_interval(x, _rng())),
    "interquartile_mean": ("x", interquartile_mean),
    "iqm_interval": (r"by_task\[1\]", lambda x: iqm_interval([X, x], _rng())),
    "improvement of a": (r"by_task_a\[1\]", lambda x: probability_of_improvement([X, x], [X, X], _rng())),
    "improvement over b": (r"by_task_b\[0\]", lambda x: probability_of_improvement([X], [x], _rng())),
    "seeds_needed": ("x", seeds_needed),
    "expected_best": ("values", lambda x: expected_best(x, 2)),
    "equivalent_trials": ("pool", lambda x: equivalent_trials(x, 0.0)),
    "cvar": ("values", lambda x: cvar(x, 0.5)),
}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("function", OF_VALUES)
def test_what_is_not_finite_is_refused(function: str, bad: float) -> None:
    name, call = OF_VALUES[function]
    with pytest.raises(ConfigError, match=rf"^`isfinite\({name}\)` must hold, but got {name}\[2\]={bad}\.$"):
        call([0.1, 0.2, bad, 0.3, bad])


@pytest.mark.parametrize("function", OF_VALUES)
def test_no_values_are_refused(function: str) -> None:
    name, call = OF_VALUES[function]
    with pytest.raises(ConfigError, match=rf"^`{name}\.shape == \(n,\), n >= 1` must hold, but got shape \(0,\)\.$"):
        call([])


@pytest.mark.parametrize("function", [name for name in OF_VALUES if name != "interquartile_mean"])
def test_a_matrix_is_not_flattened_in_silence(function: str) -> None:
    name, call = OF_VALUES[function]
    with pytest.raises(ConfigError, match=rf"^`{name}\.shape == \(n,\), n >= 1` must hold, but got shape \(2, 3\)\.$"):
        call([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])


BOOTSTRAPS: dict[str, Callable[..., Interval]] = {
    "mean_interval": lambda **options: mean_interval(X, _rng(), **options),
    "iqm_interval": lambda **options: iqm_interval(BY_TASK, _rng(), **options),
    "improvement": lambda **options: probability_of_improvement(BY_TASK, BY_TASK_B, _rng(), **options),
}


@pytest.mark.parametrize("function", BOOTSTRAPS)
def test_bootstraps_refuse_a_level_or_number_outside_its_range(function: str) -> None:
    for level in (0.0, 1.0, 95, math.nan):
        with pytest.raises(ConfigError, match=rf"^`0 < level < 1` must hold, but got level={level}\.$"):
            BOOTSTRAPS[function](level=level)
    with pytest.raises(ConfigError, match=r"^`n_resamples >= 1` must hold, but got n_resamples=0\.$"):
        BOOTSTRAPS[function](n_resamples=0)


OF_TASKS: dict[str, Callable[[], Interval]] = {
    "by_task": lambda: iqm_interval([], _rng()),
    "by_task_a": lambda: probability_of_improvement([], [X], _rng()),
    "by_task_b": lambda: probability_of_improvement([X], [], _rng()),
}


@pytest.mark.parametrize("name", OF_TASKS)
def test_no_tasks_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^`len\({name}\) >= 1` must hold, but got no tasks\.$"):
        OF_TASKS[name]()
