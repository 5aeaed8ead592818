"""Inception Score: how sure a classifier is of each image, and how many classes all of them show."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metaopt.errors import ConfigError

SPLITS = 10


@dataclass(frozen=True, kw_only=True)
class InceptionScore:
    """The score over several parts of the images."""

    mean: float
    """In [1, number of classes]."""
    std: float
    """Standard deviation over the parts, with 1 / number of parts."""


def inception_score(logits: Tensor, *, splits: int = SPLITS) -> InceptionScore:
    """``exp E_x KL(p(y|x) || p(y))`` of each of `splits` parts in the order given, their mean and spread.

    Source: Salimans et al. 2016. ``p(y)`` is the mean over the part. float64; logits of equal weight for all
    classes give 1, one sure class an image with all classes as frequent gives their number.

    Args:
        logits: ``(n, classes)``, n >= splits.
        splits: parts ``[i n // splits, (i + 1) n // splits)``, >= 1.
    """
    n = len(logits)
    if logits.ndim != 2 or splits < 1 or n < splits:
        raise ConfigError(
            f"`logits (n >= splits >= 1, classes)` must hold, but got {tuple(logits.shape)}, splits={splits}."
        )
    log_p = logits.double().log_softmax(dim=1)
    scores = [_score(log_p[i * n // splits : (i + 1) * n // splits]) for i in range(splits)]
    values = torch.stack(scores)
    return InceptionScore(mean=float(values.mean()), std=float(values.std(correction=0)))


def _score(log_p: Tensor) -> Tensor:
    p = log_p.exp()
    log_marginal = log_p.logsumexp(dim=0, keepdim=True) - torch.tensor(len(p), dtype=torch.float64).log()
    # A class of probability 0 has log p = -inf, and 0 (-inf) is 0 here.
    terms = torch.where(p > 0, p * (log_p - log_marginal), 0.0)
    return terms.sum(dim=1).mean().exp()
