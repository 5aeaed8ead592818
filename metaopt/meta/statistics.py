"""Whether a schedule is better than a baseline, and by how many trials: intervals, effect sizes and budgets.

The basic quantity is ``x[task][seed] = ln(FID of the schedule) - ln(FID of the baseline)``, both with the same task and
seed: 0 is as good, < 0 better, -0.69 half the FID. Tasks are strata and seeds are what is resampled, after Agarwal et
al. 2021 (rliable), arXiv:2108.13264. All values are finite: the caller counts a training that diverged as its untrained
generator. All is computed in float64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metaopt.errors import ConfigError

_Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its confidence interval, all in the unit of the estimate.

    A percentile interval is made of quantiles of resampled estimates; of skewed data it may miss the estimate.
    """

    estimate: float
    low: float
    """-inf (0 for a probability) where the spread cannot be known."""
    high: float
    """inf (1 for a probability) where the spread cannot be known."""


def mean_interval(
    x: Sequence[float], generator: np.random.Generator, *, level: float = 0.95, n_resamples: int = 10_000
) -> Interval:
    """Mean of the paired differences of one task, with a percentile bootstrap interval over seeds.

    ``mean(x) = sum_s x_s / n``; the interval is from the quantile (1 - level) / 2 to (1 + level) / 2 of the means of
    `n_resamples` samples of n values drawn from x with replacement (Efron & Tibshirani 1993, chapter 13). Of few seeds
    it is too short: of n normal values it holds the mean with the probability ``P(|t| < z sqrt((n - 1) / n))``, t with
    n - 1 degrees of freedom; at the level 0.95 that is 0.85 for n = 5, 0.90 for n = 10 and 0.94 for n = 30.

    Args:
        x: ``(n,)``, n >= 1, finite; one value a seed. The interval of one value is (-inf, inf).
        generator: draws the resamples.
        level: in (0, 1).
        n_resamples: >= 1.

    Raises:
        ConfigError: an argument is outside its range.
    """
    _check_bootstrap(level, n_resamples)
    values = _finite("x", x)
    estimate = float(values.mean())
    if len(values) == 1:
        return Interval(estimate=estimate, low=-math.inf, high=math.inf)
    return _percentile(estimate, _resampled(values, generator, n_resamples).mean(axis=1), level)


def interquartile_mean(x: ArrayLike) -> float:
    """Mean of the middle half of all cells (IQM): the 25 % trimmed mean, in the unit of x.

    ``IQM = mean(x_(c+1), ..., x_(n-c))``, ``c = floor(n / 4)``, x_(i) ascending: that of ``scipy.stats.trim_mean(x,
    0.25)``, and the plain mean where n < 4. Less noisy than the median, less moved by outliers than the mean (Agarwal
    et al. 2021, section 4.3).

    Args:
        x: any shape, one or more cells, finite; flattened.

    Raises:
        ConfigError: x is empty or not finite.
    """
    return float(_iqm(_finite("x", np.ravel(x))))


def iqm_interval(
    by_task: Sequence[Sequence[float]],
    generator: np.random.Generator,
    *,
    level: float = 0.95,
    n_resamples: int = 10_000,
) -> Interval:
    """Interquartile mean over all tasks and seeds, with a stratified percentile bootstrap interval.

    The estimate is `interquartile_mean` of all cells, so that a task weighs by its seeds. Each resample draws, in each
    task, as many seeds as it has, with replacement; tasks are never drawn, so that the interval is of these tasks and
    not of others like them (Agarwal et al. 2021, section 4.1). Too short of few seeds, as `mean_interval`.

    Args:
        by_task: per task ``(n_t,)``, n_t >= 1, finite; one or more tasks, of equal or unequal n_t. The interval is
            (-inf, inf) where a task has one seed, as its spread cannot be known.
        generator: draws the resamples.
        level: in (0, 1).
        n_resamples: >= 1.

    Raises:
        ConfigError: an argument is outside its range.
    """
    _check_bootstrap(level, n_resamples)
    tasks = _finite_tasks("by_task", by_task)
    estimate = float(_iqm(np.concatenate(tasks)))
    if min(map(len, tasks)) == 1:
        return Interval(estimate=estimate, low=-math.inf, high=math.inf)
    resampled = np.concatenate([_resampled(task, generator, n_resamples) for task in tasks], axis=1)
    return _percentile(estimate, _iqm(resampled), level)


def probability_of_improvement(
    by_task_a: Sequence[Sequence[float]],
    by_task_b: Sequence[Sequence[float]],
    generator: np.random.Generator,
    *,
    level: float = 0.95,
    n_resamples: int = 10_000,
) -> Interval:
    """Probability that a training of A has a lower value than one of B, in [0, 1]; > 0.5 is better.

    ``mean_t [P(A_t < B_t) + P(A_t = B_t) / 2]``, each probability the share of all n_t m_t pairs (the U of Mann &
    Whitney 1947 over ``n_t m_t``). The interval is the stratified percentile bootstrap, seeds of A and of B drawn apart
    (Agarwal et al. 2021, section 4.3). It has no width where in each task all of A lies on one side of all of B.

    Args:
        by_task_a: per task ``(n_t,)``, n_t >= 1, finite: values such as ln FID, lower is better.
        by_task_b: per task ``(m_t,)``, the same tasks in the same order.
        generator: draws the resamples.
        level: in (0, 1).
        n_resamples: >= 1. The interval is (0, 1) where A or B has one seed on a task, as its spread cannot be known.

    Raises:
        ConfigError: an argument is outside its range, or the two are not of equally many tasks.
    """
    _check_bootstrap(level, n_resamples)
    a, b = _finite_tasks("by_task_a", by_task_a), _finite_tasks("by_task_b", by_task_b)
    if len(a) != len(b):
        raise ConfigError(f"`len(by_task_a) == len(by_task_b)` must hold, but got {len(a)} and {len(b)} tasks.")
    wins = [_wins(*pair) for pair in zip(a, b, strict=True)]
    estimate = float(np.mean([won.mean() for won in wins]))
    if min(map(len, a + b)) == 1:
        return Interval(estimate=estimate, low=0.0, high=1.0)
    return _percentile(estimate, np.mean([_resampled_wins(won, generator, n_resamples) for won in wins], axis=0), level)


def seeds_needed(x: Sequence[float], *, power: float = 0.8, level: float = 0.95) -> float:
    """Paired seeds at which a two-sided paired test sees an effect of the mean seen: a whole number >= 2, or inf.

    ``n = ceil(((z_(1 - a/2) + z_power) sd / mean)^2)``, ``a = 1 - level``, z the normal quantile, sd with 1 / (n - 1):
    the normal approximation (Cohen 1988, chapter 2), some two seeds too low for the t test. inf where the mean is 0.
    The mean seen is itself an estimate, so that this guides the next comparison and is no result of this one.

    Args:
        x: ``(n,)``, n >= 2, finite; one paired difference a seed.
        power: probability to see the effect, in ((1 - level) / 2, 1); lower ones need no seeds.
        level: 1 less the probability to see an effect where there is none, in (0, 1).

    Raises:
        ConfigError: an argument is outside its range.
    """
    _check_level(level)
    if not (1 - level) / 2 < power < 1:
        raise ConfigError(f"`(1 - level) / 2 < power < 1` must hold, but got power={power!r}, level={level!r}.")
    values = _finite("x", x)
    if len(values) < 2:
        raise ConfigError(f"`len(x) >= 2` must hold for a spread, but got {len(values)}.")
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    if mean == 0:
        return math.inf
    ratio = (NormalDist().inv_cdf(power) - NormalDist().inv_cdf((1 - level) / 2)) * sd / mean
    return max(2.0, float(np.ceil(ratio * ratio)))


def expected_best(values: Sequence[float], k: float) -> float:
    """Expected minimum of k draws with replacement from the values of n trials, in their unit.

    ``E[min of k] = sum_i x_(i) [((n - i + 1) / n)^k - ((n - i) / n)^k]``, x_(i) ascending: what a random search of k
    trials finds (the protocol of Lucic et al. 2018, arXiv:1711.10337; the closed form of Dodge et al. 2019,
    arXiv:1909.03004). Falls from the mean at k = 1 towards the minimum. Draws repeat, so that it lies above what k new
    trials would find, the more the nearer k is to n (Tang et al. 2020, arXiv:2004.13705).

    Args:
        values: ``(n,)``, n >= 1, finite; one score a trial, lower is better.
        k: trials, finite and >= 1; need not be whole.

    Raises:
        ConfigError: an argument is outside its range.
    """
    if not 1 <= k < math.inf:
        raise ConfigError(f"`1 <= k < inf` must hold, but got k={k!r}.")
    return _expected_minimum(np.sort(_finite("values", values)), k)


def equivalent_trials(pool: Sequence[float], value: float) -> float:
    """Tuning trials whose expected best equals a value had with no tuning, in [1, inf].

    The smallest real k with ``expected_best(pool, k) <= value``, by bisection to a relative 1e-12: 1 where the value is
    no better than the mean of the pool, inf where it is no worse than its minimum, which the expected best never
    reaches. A pool of equal values counts as 1 for that value. By the bias of `expected_best` it is too high, little
    while it is far below n; above n it is an extrapolation. Protocol and source as there.

    Args:
        pool: ``(n,)``, n >= 1, finite; one score a tuning trial, lower is better.
        value: finite, in the unit of the pool.

    Raises:
        ConfigError: an argument is outside its range.
    """
    ascending = np.sort(_finite("pool", pool))
    if not math.isfinite(value):
        raise ConfigError(f"`isfinite(value)` must hold, but got value={value!r}.")
    low, high = 1.0, 2.0
    if _expected_minimum(ascending, low) <= value:
        return 1.0
    if value <= ascending[0]:
        return math.inf
    while _expected_minimum(ascending, high) > value:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _expected_minimum(ascending, middle) > value else (low, middle)
    return high


def cvar(values: Sequence[float], share: float) -> float:
    """Mean of the worst (largest) share of the values: the conditional value at risk, in their unit.

    ``CVaR = sum_i w_i x_(i) / (share n)``, x_(i) descending, ``w_i = clip(share n - i + 1, 0, 1)``: the value on the
    boundary counts in part, so that it equals ``min_c [c + mean(max(x - c, 0)) / share]`` (Rockafellar & Uryasev 2000,
    Journal of Risk 2(3)). The mean where share is 1, the maximum where ``share <= 1 / n``.

    Args:
        values: ``(n,)``, n >= 1, finite; higher is worse.
        share: in (0, 1].

    Raises:
        ConfigError: an argument is outside its range.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"`0 < share <= 1` must hold, but got share={share!r}.")
    descending = np.sort(_finite("values", values))[::-1]
    counted = share * len(descending)
    # Divided before it is multiplied: the weight of a single value is then 1 and no rounding of it.
    weights = np.clip(counted - np.arange(len(descending)), 0, 1) / counted
    return float(weights @ descending)


def _iqm(x: _Values) -> _Values:
    n = x.shape[-1]
    middle: _Values = np.sort(x, axis=-1)[..., n // 4 : n - n // 4]
    return np.asarray(middle.mean(axis=-1))


def _wins(a: _Values, b: _Values) -> _Values:
    """``(n, m)``: 1 where a_i < b_j, 1/2 where equal, 0 elsewhere."""
    return np.asarray((a[:, None] < b) + 0.5 * (a[:, None] == b))


def _expected_minimum(ascending: _Values, k: float) -> float:
    # The sum of `expected_best` by parts: rounding cannot take it below the minimum, nor up as k grows.
    n = len(ascending)
    return float(ascending[0] + np.diff(ascending) @ (np.arange(n - 1, 0, -1) / n) ** k)


def _resampled(x: _Values, generator: np.random.Generator, n_resamples: int) -> _Values:
    """``(n_resamples, n)``."""
    return x[generator.integers(len(x), size=(n_resamples, len(x)))]


def _resampled_wins(wins: _Values, generator: np.random.Generator, n_resamples: int) -> _Values:
    """``(n_resamples,)``: the share of pairs that A wins, of how often each seed of A and of B was drawn."""
    drawn_a, drawn_b = (generator.multinomial(n, np.full(n, 1 / n), size=n_resamples) for n in wins.shape)
    return np.asarray(((drawn_a @ wins) * drawn_b).sum(axis=1) / wins.size)


def _percentile(estimate: float, resampled: _Values, level: float) -> Interval:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate=estimate, low=float(low), high=float(high))


def _finite(name: str, values: ArrayLike) -> _Values:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not x.size:
        raise ConfigError(f"`{name}.shape == (n,), n >= 1` must hold, but got shape {x.shape}.")
    bad = np.flatnonzero(~np.isfinite(x))
    if bad.size:
        raise ConfigError(f"`isfinite({name})` must hold, but got {name}[{bad[0]}]={x[bad[0]]}.")
    return x


def _finite_tasks(name: str, by_task: Sequence[Sequence[float]]) -> list[_Values]:
    if not len(by_task):
        raise ConfigError(f"`len({name}) >= 1` must hold, but got no tasks.")
    return [_finite(f"{name}[{i}]", values) for i, values in enumerate(by_task)]


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"`0 < level < 1` must hold, but got level={level!r}.")


def _check_bootstrap(level: float, n_resamples: int) -> None:
    _check_level(level)
    if n_resamples < 1:
        raise ConfigError(f"`n_resamples >= 1` must hold, but got n_resamples={n_resamples!r}.")
