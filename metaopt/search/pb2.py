"""PB2's proposals: a Gaussian process over controls and time, and its upper confidence bound."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6)
OMEGAS = (0.01, 0.05, 0.1, 0.2, 0.5)
NOISES = (0.01, 0.1, 0.5)
"""Among which the most likely are taken."""
_C1, _C2 = 0.2, 0.4
"""Of the bound's width, as in the code published with the paper."""
_N_DRAWN, _N_NEAR, _NEAR = 1000, 500, 0.05
_LARGEST = 2.0
"""Standard deviations at which an improvement is cut: a divergence is no more than bad."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What an interval has brought."""

    x: Sequence[float]
    """Its controls, in the unit cube."""
    t: int
    """The evaluation at its end."""
    y: float
    """Improvement of the score; higher is better."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """``k((x, t), (x', t')) = exp(-|x - x'|^2 / (2 length^2)) (1 - omega)^(|t - t'| / 2)``.

    Squared exponential in x, forgetting in t (Bogunovic et al. 2016; eq. 3 and 4 of Parker-Holder et al. 2020), of
    standardised values, so that its variance is 1.
    """

    length: float
    omega: float
    """In [0, 1): how much is forgotten in a step of time."""

    def __call__(self, x: Array, t: Array, other_x: Array, other_t: Array) -> Array:
        """Shape [n, m], for x [n, d], t [n] and [m, d], [m]."""
        square = ((x[:, None, :] - other_x[None, :, :]) ** 2).sum(axis=-1)
        apart = np.abs(t[:, None] - other_t[None, :])
        value: Array = np.exp(-square / (2 * self.length**2)) * (1 - self.omega) ** (apart / 2)
        return value


class Posterior:
    """The process where it has been observed with independent noise: its mean and deviation elsewhere."""

    def __init__(self, kernel: Kernel, noise: float, x: Array, t: Array) -> None:
        """Of observations at x [n, d], t [n], whose variance is `noise` > 0."""
        self._kernel, self._x, self._t = kernel, x, t
        self._root: Array = np.linalg.cholesky(kernel(x, t, x, t) + noise * np.eye(len(x)))

    def log_likelihood(self, y: Array) -> float:
        """Of the values [n] observed, by the marginal likelihood."""
        whitened = np.linalg.solve(self._root, y)
        return float(
            -0.5 * whitened @ whitened - np.log(np.diag(self._root)).sum() - 0.5 * len(y) * math.log(2 * math.pi)
        )

    def mean(self, x: Array, t: float, y: Array) -> Array:
        """At x [m, d] and one time, given the values [n] observed."""
        value: Array = self._weights(x, t).T @ np.linalg.solve(self._root, y)
        return value

    def deviation(self, x: Array, t: float) -> Array:
        """At x [m, d] and one time; it does not depend on the values."""
        value: Array = np.sqrt(np.maximum(1 - (self._weights(x, t) ** 2).sum(axis=0), 0.0))
        return value

    def _weights(self, x: Array, t: float) -> Array:
        found: Array = np.linalg.solve(self._root, self._kernel(self._x, self._t, x, np.full(len(x), float(t))))
        return found


def most_promising(
    observed: Sequence[Observed], pending: Sequence[Sequence[float]], t: int, purpose: str, *, n: int
) -> list[float]:
    """The x in the unit cube with the greatest ``mean + sqrt(beta) deviation`` at time `t`.

    ``beta = 0.2 + max(0, ln(0.4 n_observed))``. The mean is that of what was observed; the deviation counts what is
    `pending` at `t` as observed too, whatever it will bring, so that a batch spreads (hallucination, Desautels et al.
    2014). The greatest is looked for among 1,000 points drawn at random, and then 500 near the best of them.

    Args:
        observed: so far; where it is empty, a random point.
        pending: controls of the members that are already decided on.
        t: the evaluation at the end of the interval to come.
        purpose: what the random points follow from.
        n: number of controls.
    """
    seed = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big")
    random = np.random.default_rng(seed)
    drawn = random.random((_N_DRAWN, n))
    if not observed:
        return [float(u) for u in drawn[0]]
    x, when = np.array([one.x for one in observed]), np.array([float(one.t) for one in observed])
    y = standardised(np.array([one.y for one in observed]))
    kernel, noise = _likeliest(x, when, y)
    known = Posterior(kernel, noise, x, when)
    now = np.array(pending).reshape(-1, n)
    crowded = Posterior(kernel, noise, np.vstack([x, now]), np.concatenate([when, np.full(len(now), float(t))]))
    width = math.sqrt(_C1 + max(0.0, math.log(_C2 * len(y))))

    def best_of(points: Array) -> Array:
        best: Array = points[np.argmax(known.mean(points, t, y) + width * crowded.deviation(points, t))]
        return best

    best = best_of(drawn)
    near = np.clip(best + _NEAR * random.standard_normal((_N_NEAR, n)), 0.0, 1.0)
    return [float(u) for u in best_of(np.vstack([best[None], near]))]


def standardised(y: Array) -> Array:
    """With mean 0 and deviation 1, cut at 2 deviations; all 0 where they do not differ."""
    value: Array = np.clip((y - y.mean()) / (y.std() or 1.0), -_LARGEST, _LARGEST)
    return value


def _likeliest(x: Array, t: Array, y: Array) -> tuple[Kernel, float]:
    found = [
        (Posterior(Kernel(length=length, omega=omega), noise, x, t).log_likelihood(y), length, omega, noise)
        for length, omega, noise in product(LENGTHS, OMEGAS, NOISES)
    ]
    _, length, omega, noise = max(found)
    return Kernel(length=length, omega=omega), noise
