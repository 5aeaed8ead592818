"""METRICS: name -> what it measures; all of them from one pass over the generated images."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Generator, Tensor

from metaopt.errors import ConfigError
from metaopt.metrics.features import FeatureExtractor
from metaopt.metrics.frechet import Moments, frechet_distance
from metaopt.metrics.inception_score import SPLITS, inception_score
from metaopt.metrics.kernel import kernel_distance
from metaopt.metrics.manifold import density_coverage, precision_recall
from metaopt.metrics.modes import modes
from metaopt.metrics.real_statistics import MAX_FEATURES, RealReference

_FLOOR_DRAWS = 3


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Generated images, as far as metrics look at them."""

    features: Tensor
    """float32 ``(m, d)`` of the first `MAX_FEATURES` images (or d, if that is more), on the CPU."""
    logits: Tensor | None
    """``(m, classes)`` of all images."""
    moments: Moments | None
    """Of the features of all images; None where these are no more than d, and `features` serve."""

    @property
    def all(self) -> Moments | Tensor:
        """What a Frechet distance takes."""
        return self.features if self.moments is None else self.moments

    @property
    def n(self) -> int:
        """Images."""
        return len(self.features) if self.moments is None else self.moments.n

    @property
    def covariance(self) -> Tensor:
        """Of the features, float64 ``(d, d)``; of d images or fewer ``(n, n)``, with the same non-zero eigenvalues."""
        if self.moments is not None:
            return self.moments.covariance
        centred = self.features.double() - self.features.double().mean(0)
        return centred @ centred.T / (len(centred) - 1)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One entry of `METRICS`."""

    keys: tuple[str, ...]
    """Names of the numbers that it gives."""
    measure: Callable[[RealReference, Sample, Generator], tuple[float, ...]]
    """Those numbers."""
    least: int
    """Generated images that it needs."""
    least_real: int = 2
    """Real images that it needs."""


def _fid(real: RealReference, sample: Sample, _: Generator) -> tuple[float, ...]:
    return (frechet_distance(real.statistics, sample.all),)


def _kid(real: RealReference, sample: Sample, generator: Generator) -> tuple[float, ...]:
    return (kernel_distance(real.features, sample.features, generator).mean,)


def _inception_score(_: RealReference, sample: Sample, __: Generator) -> tuple[float, ...]:
    if sample.logits is None:
        raise ConfigError("`inception_score` needs features with logits, but these have none.")
    return (inception_score(sample.logits).mean,)


def _precision_recall(real: RealReference, sample: Sample, _: Generator) -> tuple[float, ...]:
    found = precision_recall(real.features, sample.features)
    return found.precision, found.recall


def _density_coverage(real: RealReference, sample: Sample, _: Generator) -> tuple[float, ...]:
    found = density_coverage(real.features, sample.features)
    return found.density, found.coverage


def _modes(real: RealReference, sample: Sample, _: Generator) -> tuple[float, ...]:
    if real.classifier is None:
        raise ConfigError("`modes` needs real images with classes, but these have none.")
    found = modes(sample.features, real.classifier)
    return float(found.reached), found.balance


METRICS: Mapping[str, Metric] = {
    "fid": Metric(keys=("fid",), measure=_fid, least=2),
    "kid": Metric(keys=("kid",), measure=_kid, least=2),
    "inception_score": Metric(keys=("inception_score",), measure=_inception_score, least=SPLITS),
    "precision_recall": Metric(keys=("precision", "recall"), measure=_precision_recall, least=4, least_real=4),
    "density_coverage": Metric(keys=("density", "coverage"), measure=_density_coverage, least=1, least_real=6),
    "modes": Metric(keys=("modes", "mode_balance"), measure=_modes, least=1),
}


def check_metrics(
    metrics: Sequence[str], extractor: FeatureExtractor, *, labelled: bool, n_real: int, n_samples: int
) -> None:
    """ConfigError unless all can be measured: known names, `fid` among them, logits, classes and images enough.

    Args:
        metrics: keys of `METRICS`.
        extractor: whose features they are measured on.
        labelled: whether the real images have classes.
        n_real: real images.
        n_samples: generated images an evaluation.
    """
    for name in metrics:
        if name not in METRICS:
            near = get_close_matches(name, METRICS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ConfigError(f"There is no metric {name!r}{hint} Known: {', '.join(METRICS)}.")
        if n_samples < METRICS[name].least:
            raise ConfigError(f"`n_samples >= {METRICS[name].least}` must hold for {name!r}, but got {n_samples}.")
        if n_real < METRICS[name].least_real:
            raise ConfigError(f"{name!r} needs {METRICS[name].least_real} real images or more, but there are {n_real}.")
    if "fid" not in metrics or len(set(metrics)) < len(metrics):
        raise ConfigError(f"`metrics` must have `fid` and no name twice, but got {', '.join(metrics) or 'none'}.")
    if "inception_score" in metrics and not extractor.n_logits:
        raise ConfigError(
            f"`inception_score` needs features with logits, lite0 or inception, but got {extractor.name}."
        )
    if "modes" in metrics and not labelled:
        raise ConfigError("`modes` needs images with classes, but these have none.")


def evaluate(
    batches: Iterable[Tensor],
    real: RealReference,
    extractor: FeatureExtractor,
    metrics: Sequence[str],
    generator: Generator,
) -> dict[str, float]:
    """Each number of `metrics` by its key, `feature_spread` and `feature_rank`, from one pass over generated images.

    `feature_spread` is the trace of the covariance S of generated features over that of real ones, >= 0;
    `feature_rank` the same of the participation ratio ``(tr S)^2 / tr S^2``, the number of directions that features
    vary in, relative to what so many images can have: of k images again and again it is at most k - 1. All are NaN
    where a feature is not finite.

    Args:
        batches: uint8 ``(n_i, c, h, w)``.
        real: from `real_reference` with the same extractor and metrics.
        extractor: what turns images into features.
        metrics: keys of `METRICS` that passed `check_metrics`.
        generator: draws subsets for KID, on the CPU.
    """
    sample = _sample(batches, extractor)
    keys = [key for name in metrics for key in METRICS[name].keys]
    spread, rank = _spread_and_rank(sample.covariance)
    if not math.isfinite(spread):
        return dict.fromkeys([*keys, "feature_spread", "feature_rank"], math.nan)
    values = [value for name in metrics for value in METRICS[name].measure(real, sample, generator)]
    spread_real, rank_real = _spread_and_rank(real.statistics.covariance)
    diversity = {"feature_spread": spread / spread_real, "feature_rank": rank / min(rank_real, sample.n - 1)}
    return {**dict(zip(keys, values, strict=True)), **diversity}


def _spread_and_rank(covariance: Tensor) -> tuple[float, float]:
    """Trace and participation ratio; a rank of 0 where nothing varies."""
    spread = float(covariance.trace())
    return spread, spread**2 / float(covariance.square().sum()) if spread > 0 else 0.0


def _sample(batches: Iterable[Tensor], extractor: FeatureExtractor) -> Sample:
    features, logits, n = [torch.empty(0, extractor.dim)], [], 0
    moments: Moments | None = None
    kept = max(MAX_FEATURES, extractor.dim)
    for batch in batches:
        found, found_logits = extractor.features_and_logits(batch)
        features.append(found[: max(kept - n, 0)].cpu())
        logits += [] if found_logits is None else [found_logits.cpu()]
        n += len(found)
        if moments is not None:
            moments = moments.updated(found)
        elif n > extractor.dim:
            moments = Moments.of(torch.cat([*features[:-1], found.cpu()]))
    return Sample(features=torch.cat(features), logits=torch.cat(logits) if logits else None, moments=moments)


def fid_floor(
    images: Tensor,
    real: RealReference,
    extractor: FeatureExtractor,
    n_samples: int,
    generator: Generator,
    *,
    device: str = "cpu",
) -> float:
    """FID of `n_samples` real images, drawn with replacement, to all of them: mean of 3 draws.

    What a generator would get that had learned the data set itself, so that no FID of as many images can be
    expected below it.

    Args:
        images: the real ones, uint8 ``(n, c, h, w)``.
        real: their reference.
        extractor: that of `real`.
        n_samples: generated images an evaluation, >= 2.
        generator: draws images, on the CPU.
        device: where features are computed.
    """
    found = []
    for _ in range(_FLOOR_DRAWS):
        index = torch.randint(len(images), (n_samples,), generator=generator).to(images.device)
        sample = _sample((images[part].to(device) for part in torch.split(index, 1000)), extractor)
        found.append(frechet_distance(real.statistics, sample.all))
    return math.fsum(found) / len(found)


def small_sample_warning(n_samples: int, dim: int) -> str:
    """What to know where there are no more images, real or generated, than features; else ""."""
    if n_samples > dim:
        return ""
    return (
        f"{n_samples} images are too few for a covariance of {dim} features (it is singular): FIDs are far above"
        f" those of many images; compare them with the floor, or use KID."
    )
