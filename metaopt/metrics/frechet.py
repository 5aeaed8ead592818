"""Frechet distance between Gaussians fitted to features: the FID of Heusel et al. 2017, arXiv:1706.08500."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metaopt.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Running count, mean and scatter of feature vectors, float64 on the CPU.

    Batches are merged by the update of Chan, Golub & LeVeque (1983), which does not lose digits where the
    mean is large against the spread, as plain sums do. Non-finite features give non-finite moments.
    """

    n: int
    """Number of feature vectors seen."""
    mean: Tensor
    """``(d,)``; zeros where ``n == 0``."""
    scatter: Tensor
    """``(d, d)``: sum of ``(x - mean)(x - mean)^T``."""

    @staticmethod
    def empty(dim: int) -> "Moments":
        """Moments of no vectors at all, of dimension ``dim``."""
        zeros = torch.zeros(dim, dtype=torch.float64)
        return Moments(n=0, mean=zeros, scatter=torch.outer(zeros, zeros))

    @staticmethod
    def of(features: Tensor) -> "Moments":
        """Moments of ``features`` ``(n, d)``. Raises ConfigError unless they have two axes."""
        if features.ndim != 2:
            raise ConfigError(f"`features.shape == (n, d)` must hold, but got shape {tuple(features.shape)}.")
        return Moments.empty(features.shape[1]).updated(features)

    def updated(self, features: Tensor) -> "Moments":
        """These moments with ``features`` ``(m, d)`` added; any float dtype, any device, m >= 0.

        ``n' = n + m``, ``mean' = mean + (m / n') delta``, ``scatter' = scatter + scatter_m + (n m / n') delta
        delta^T``, where ``delta`` is the mean of the batch minus the mean so far.
        """
        dim = self.mean.shape[0]
        if features.ndim != 2 or features.shape[1] != dim:
            raise ConfigError(f"`features.shape == (m, {dim})` must hold, but got shape {tuple(features.shape)}.")
        m = features.shape[0]
        if m == 0:
            return self
        # On the CPU: MPS has no float64, and the sums are the same for every device.
        x = features.detach().cpu().double()
        centred = x - x.mean(0)
        delta = x.mean(0) - self.mean
        scatter = self.scatter + centred.T @ centred + torch.outer(delta, delta) * (self.n * m / (self.n + m))
        return Moments(n=self.n + m, mean=self.mean + delta * (m / (self.n + m)), scatter=scatter)

    @property
    def covariance(self) -> Tensor:
        """``(d, d)``: scatter / (n - 1). Raises ConfigError where n < 2."""
        if self.n < 2:
            raise ConfigError(f"`n >= 2` must hold for a covariance, but got n={self.n}.")
        return self.scatter / (self.n - 1)


@dataclass(frozen=True, kw_only=True)
class RealStatistics:
    """What a Frechet distance needs of the real images, once per data set. float64 on the CPU, finite."""

    n: int
    """Number of real images, >= 2."""
    mean: Tensor
    """mu_r: ``(d,)``."""
    covariance: Tensor
    """S_r: ``(d, d)``, with 1 / (n - 1)."""
    sqrt_covariance: Tensor
    """S_r^(1/2): ``(d, d)``, the symmetric square root."""

    @staticmethod
    def from_moments(moments: Moments) -> "RealStatistics":
        """Take the square root. Raises ConfigError where n < 2 or a feature was not finite."""
        covariance = moments.covariance
        if not _finite(moments.mean, covariance):
            raise ConfigError("`features are finite` must hold for real images, but got NaN or infinity.")
        return RealStatistics(
            n=moments.n, mean=moments.mean, covariance=covariance, sqrt_covariance=_symmetric_sqrt(covariance)
        )


def frechet_distance(real: RealStatistics, fake: Moments) -> float:
    """``|mu_r - mu_f|^2 + tr S_r + tr S_f - 2 tr (S_r^(1/2) S_f S_r^(1/2))^(1/2)``, float64, >= 0.

    The matrix under the root is symmetric and has the eigenvalues of ``S_r S_f``, so the trace is the sum of
    the roots of ``eigvalsh``: no general eigensolver, no complex numbers, singular covariances allowed.
    The estimate is biased upwards by about 1 / n: compare distances of equal ``fake.n`` only.

    Args:
        real: statistics of the real features ``(n, d)``.
        fake: moments of the generated features, same d, n >= 2.

    Returns:
        The distance; NaN where a generated feature was not finite, since a diverged generator is a value.

    Raises:
        ConfigError: fake.n < 2, or the two dimensions differ.
    """
    if fake.mean.shape != real.mean.shape:
        got = f"{fake.mean.shape[0]} and {real.mean.shape[0]}"
        raise ConfigError(f"`dimension of fake == dimension of real` must hold, but got {got}.")
    covariance = fake.covariance
    if not _finite(fake.mean, covariance):
        return math.nan
    product = real.sqrt_covariance @ covariance @ real.sqrt_covariance
    # Rounding leaves the product slightly asymmetric and its zero eigenvalues slightly negative.
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0)
    shift = (real.mean - fake.mean).square().sum()
    distance = shift + real.covariance.trace() + covariance.trace() - 2 * eigenvalues.sqrt().sum()
    return max(float(distance), 0.0)


def _symmetric_sqrt(matrix: Tensor) -> Tensor:
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * eigenvalues.clamp(min=0).sqrt()) @ vectors.T
    return root


def _finite(*tensors: Tensor) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
