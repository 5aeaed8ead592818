"""Fidelity and diversity apart: improved precision and recall, density and coverage, by nearest neighbours.

Around each point of a set lies a ball that reaches to its k-th nearest neighbour in the same set (itself not
counted); its edge belongs to it. Distances are Euclidean, computed in float64, in chunks, so that 10,000 x 10,000
points need no more memory than 1,000 x 10,000.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from metaopt.errors import ConfigError

K_PRECISION_RECALL = 3
K_DENSITY_COVERAGE = 5
_CHUNK = 1000
_ZERO = 1e-13
"""Of |x|^2 + |y|^2: a hundred times the rounding of a product, and less than float32 features can differ by."""


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall:
    """Both in [0, 1]."""

    precision: float
    """Share of generated images inside the ball of some real image."""
    recall: float
    """Share of real images inside the ball of some generated image."""


@dataclass(frozen=True, kw_only=True)
class DensityCoverage:
    """Both robust against a single real outlier."""

    density: float
    """Real balls that a generated image lies in, over k, on average; >= 0, and 1 expected for equal sets."""
    coverage: float
    """Share of real images whose ball holds a generated image, in [0, 1]."""


def precision_recall(real: Tensor, fake: Tensor, *, k: int = K_PRECISION_RECALL) -> PrecisionRecall:
    """``precision = mean_j 1[some i: |y_j - x_i| <= r_k(x_i)]``, and recall with x and y exchanged.

    Source: Kynkaanniemi et al. 2019. Raises ConfigError unless each set has more than k features.

    Args:
        real: x, ``(n, d)``, n > k.
        fake: y, ``(m, d)``, m > k.
        k: neighbours, >= 1.
    """
    _check(real, k)
    _check(fake, k)
    reach_real, reach_fake = radii(real, k), radii(fake, k)
    precise, recalled = [], torch.zeros(len(real), dtype=torch.bool)
    for start, distances in _distances(fake, real):
        precise.append((distances <= reach_real).any(dim=1))
        recalled |= (distances <= reach_fake[start : start + len(distances), None]).any(dim=0)
    return PrecisionRecall(precision=_share(torch.cat(precise)), recall=_share(recalled))


def density_coverage(real: Tensor, fake: Tensor, *, k: int = K_DENSITY_COVERAGE) -> DensityCoverage:
    """``density = sum_ij 1[|y_j - x_i| <= r_k(x_i)] / (k m)``, ``coverage = mean_i 1[min_j |y_j - x_i| <= r_k(x_i)]``.

    Source: Naeem et al. 2020. Raises ConfigError unless real has more than k features and fake has any.

    Args:
        real: x, ``(n, d)``, n > k.
        fake: y, ``(m, d)``, m >= 1.
        k: neighbours, >= 1.
    """
    _check(real, k)
    _check(fake, 0)
    reach = radii(real, k)
    n_inside, covered = 0, torch.zeros(len(real), dtype=torch.bool)
    for _, distances in _distances(fake, real):
        inside = distances <= reach
        n_inside += int(inside.sum())
        covered |= inside.any(dim=0)
    return DensityCoverage(density=n_inside / (k * len(fake)), coverage=_share(covered))


def radii(x: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other point: float32 ``(n,)``."""
    found = []
    for start, distances in _distances(x, x):
        # A point is no neighbour of itself, but a twin of it is.
        distances[torch.arange(len(distances)), torch.arange(start, start + len(distances))] = torch.inf
        found.append(distances.kthvalue(k).values)
    return torch.cat(found)


def _share(which: Tensor) -> float:
    return float(which.double().mean())


def _distances(x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Distances of a chunk of x to all of y, float32 ``(chunk, len(y))`` on the CPU, and where the chunk starts.

    ``|x|^2 + |y|^2 - 2 x . y`` in float64 about the mean of y. What is 0 up to its rounding becomes 0, and the rest is
    rounded to float32, so that equal distances compare as equal whichever product they come from.
    """
    y = y.detach().cpu().double()
    centre = y.mean(0)
    y = y - centre
    y_squared = y.square().sum(1)
    for start in range(0, len(x), _CHUNK):
        chunk = x[start : start + _CHUNK].detach().cpu().double() - centre
        scale = chunk.square().sum(1, keepdim=True) + y_squared
        squared = torch.addmm(scale, chunk, y.T, alpha=-2)
        squared[squared < _ZERO * scale] = 0
        yield start, squared.sqrt().float()


def _check(features: Tensor, k: int) -> None:
    if features.ndim != 2 or len(features) <= k or k < 0:
        raise ConfigError(f"`features (n > k, d)` must hold, but got {tuple(features.shape)} with k={k}.")
