"""Adapting a GAN to a few images, and judging what it makes then."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metaopt.gan import to_uint8
from metaopt.gan.images import content_hash
from metaopt.meta.maml.fine_tuning import fine_tune
from metaopt.meta.maml.games import Round
from metaopt.meta.maml.inner import Inner, Players, Rates, Weights, adapt
from metaopt.metrics import FeatureExtractor, RealReference, evaluate, real_reference

Follow = Literal["sgd", "adam"]
"""Plain gradient steps, as in learning; or Adam, as people fine-tune."""
_METRICS = ("fid", "kid", "density_coverage")
_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class AdaptationMeasures:
    """What generated images are worth. NaN throughout where a pixel is not finite."""

    fid: float
    kid: float
    """Unbiased at any number of images; may be below 0."""
    coverage: float
    """Share of real images that have a generated one among their five nearest, in [0, 1]."""
    memorisation: float
    """Median distance of a generated image to the nearest of those adapted to, over the same of unseen real images.

    Euclidean, of pixels. 1: as far from them as other real images are; near 0: copies. NaN where the real images are
    copies of those adapted to.
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """What an adapted generator is judged against."""

    support: Tensor
    """uint8 (k, C, H, H): images that were adapted to."""
    reference: RealReference
    """Others of their kind, n >= 6, in features."""
    usual: float
    """Median distance of those others to the nearest image that was adapted to."""
    extractor: FeatureExtractor


def target(support: Tensor, real: Tensor, extractor: FeatureExtractor) -> Target:
    """Features of real images, uint8 (n, C, H, H), n >= 6, in one pass; `support` is uint8 (k, C, H, H)."""
    reference = real_reference(real, None, extractor, content_hash=content_hash(real), cache_dir=None, metrics=_METRICS)
    return Target(support=support, reference=reference, usual=_nearest(real, support), extractor=extractor)


def measured(images: Tensor, against: Target, random: torch.Generator) -> AdaptationMeasures:
    """Measures of generated images (m, C, H, H) in [-1, 1], m >= 2; `random` draws the subsets of KID."""
    if not bool(images.isfinite().all()):
        return AdaptationMeasures(fid=torch.nan, kid=torch.nan, coverage=torch.nan, memorisation=torch.nan)
    found = evaluate([to_uint8(images)], against.reference, against.extractor, _METRICS, random)
    near, usual = _nearest(to_uint8(images), against.support), against.usual
    memorisation = near / usual if usual else torch.nan
    return AdaptationMeasures(fid=found["fid"], kid=found["kid"], coverage=found["coverage"], memorisation=memorisation)


def _nearest(images: Tensor, support: Tensor) -> float:
    """Median over images of the distance to the nearest support image."""
    shown = support.flatten(1).float()
    parts = [torch.cdist(chunk.flatten(1).float(), shown).amin(1) for chunk in torch.split(images, _CHUNK)]
    return float(torch.cat(parts).median())


def followed(
    players: Players[Round],
    weights: Weights,
    support: list[Round],
    inner: Inner,
    rates: Rates | None = None,
    *,
    how: Follow,
) -> Iterator[Weights]:
    """The weights after each step, by plain gradient steps or by Adam; `rates` are for the former alone."""
    if how == "adam":
        return fine_tune(players, weights, support, inner)
    return adapt(players, weights, support, inner, rates, derivatives="none")
