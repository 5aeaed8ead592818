"""Frechet distance between Gaussians fitted to features: the FID of Heusel et al. 2017, arXiv:1706.08500."""

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

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
    root: Tensor
    """L: ``(d, d)``, lower triangular, ``L L^T = S_r``; singular where S_r is."""

    @staticmethod
    def from_moments(moments: Moments) -> "RealStatistics":
        """Take the root. Raises ConfigError where n < 2 or a feature was not finite."""
        covariance = moments.covariance
        if not _finite(moments.mean, covariance):
            raise ConfigError("`features are finite` must hold for real images, but got NaN or infinity.")
        return RealStatistics(n=moments.n, mean=moments.mean, covariance=covariance, root=_root(covariance))


def frechet_distance(real: RealStatistics, fake: Moments | Tensor) -> float:
    """``|mu_r - mu_f|^2 + tr S_r + tr S_f - 2 tr (L^T S_f L)^(1/2)``, ``L L^T = S_r``, float64, >= 0.

    The matrix under the root is symmetric and has the eigenvalues of ``S_r S_f``, so the trace is the sum of
    the roots of its eigenvalues: no general eigensolver, no complex numbers, singular covariances allowed. Where
    there are no more features vectors X than d, the same roots are those of the ``(n, n)`` matrix ``Y Y^T / (n -
    1)``, ``Y = (X - mu_f) L``, which is smaller. The estimate is biased upwards by about 1 / n: compare distances
    of equal n only.

    Args:
        real: statistics of the real features ``(n, d)``.
        fake: moments of the generated features, same d, n >= 2; or those features, ``(n, d)``.

    Returns:
        The distance; NaN where a generated feature was not finite, since a diverged generator is a value.

    Raises:
        ConfigError: n < 2, or the two dimensions differ.
    """
    few = isinstance(fake, Tensor) and fake.ndim == 2 and len(fake) <= fake.shape[1]
    if isinstance(fake, Tensor) and not few:
        fake = Moments.of(fake)
    dim, n = (fake.shape[1], len(fake)) if isinstance(fake, Tensor) else (fake.mean.shape[0], fake.n)
    if dim != real.mean.shape[0]:
        got = f"{dim} and {real.mean.shape[0]}"
        raise ConfigError(f"`dimension of fake == dimension of real` must hold, but got {got}.")
    if n < 2:
        raise ConfigError(f"`n >= 2` must hold for a covariance, but got n={n}.")
    if isinstance(fake, Tensor):
        x = fake.detach().cpu().double()
        mean = x.mean(0)
        centred = x - mean
        trace = centred.square().sum() / (n - 1)
    else:
        mean, trace = fake.mean, fake.covariance.trace()
    if not _finite(mean, trace):
        return math.nan
    roots = _roots_of_few(real, centred) if isinstance(fake, Tensor) else _roots(real, fake)
    shift = (real.mean - mean).square().sum()
    return max(float(shift + real.covariance.trace() + trace) - 2 * roots, 0.0)


def _roots(real: RealStatistics, fake: Moments) -> float:
    """``tr (L^T S_f L)^(1/2)``, with the product that LAPACK has for it at a quarter of two general products."""
    from scipy.linalg.lapack import dsygst

    with _threads():
        product, _ = dsygst(fake.covariance.numpy(), real.root.numpy(), itype=2, lower=1)
        return _sum_of_roots(product)


def _roots_of_few(real: RealStatistics, centred: Tensor) -> float:
    """The same from the features themselves, ``(n, d)``."""
    from scipy.linalg.blas import dsyrk, dtrmm

    with _threads():
        y = dtrmm(1.0, real.root.numpy(), centred.numpy(), side=1, lower=1)
        return _sum_of_roots(dsyrk(1 / (len(centred) - 1), y, lower=1))


def _sum_of_roots(lower: Any) -> float:
    """Of the eigenvalues of a symmetric matrix of which the lower half is given."""
    from scipy.linalg import eigvalsh

    # Rounding leaves zero eigenvalues slightly negative.
    eigenvalues = eigvalsh(lower, lower=True, driver="evd", check_finite=False, overwrite_a=True)
    return float((eigenvalues.clip(min=0) ** 0.5).sum())


def _threads() -> AbstractContextManager[Any]:
    """As many threads for LAPACK as torch has, so that workers do not take each other's cores."""
    limited: AbstractContextManager[Any] = _controller().limit(limits=torch.get_num_threads(), user_api="blas")
    return limited


@lru_cache(maxsize=1)
def _controller() -> Any:
    import scipy.linalg  # noqa: F401  its library must be loaded before the controller looks for libraries
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _root(matrix: Tensor) -> Tensor:
    """Lower triangular L with ``L L^T = matrix``: of ``V W V^T``, the R of ``(V W^(1/2))^T = Q R``, turned over.

    Unlike Cholesky's it needs no full rank.
    """
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    root: Tensor = torch.linalg.qr((vectors * eigenvalues.clamp(min=0).sqrt()).T).R.T.contiguous()
    return root


def _finite(*tensors: Tensor) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
