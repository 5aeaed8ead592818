"""Modes: which classes of the real images the generated ones show, and how evenly."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metaopt.errors import ConfigError

REACHED = 0.1
"""A class is reached from this share of what it has among the real images."""
_TEST_EVERY = 5


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """Multinomial logistic regression on standardised features, float64 on the CPU."""

    weight: Tensor
    """``(classes, d)``"""
    bias: Tensor
    """``(classes,)``"""
    shares: Tensor
    """Share of each class among the real images, ``(classes,)``; 0 for a number that no image has."""
    accuracy: float
    """On every fifth image, which it was not trained on, in [0, 1]."""

    def as_tensors(self) -> dict[str, Tensor]:
        """All of it, to be kept."""
        tensors = {name: getattr(self, name) for name in ("weight", "bias", "shares")}
        return {**tensors, "accuracy": torch.tensor(self.accuracy, dtype=torch.float64)}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> "Classifier":
        """What `as_tensors` gave."""
        names = ("weight", "bias", "shares")
        return Classifier(accuracy=float(tensors["accuracy"]), **{name: tensors[name] for name in names})

    def classes(self, features: Tensor) -> Tensor:
        """Most probable class of features ``(n, d)``: int64 ``(n,)``."""
        return (features.detach().cpu().double() @ self.weight.T + self.bias).argmax(dim=1)


@dataclass(frozen=True, kw_only=True)
class Modes:
    """What a classifier sees in generated images."""

    reached: int
    """Classes that have at least a tenth of the share that they have among the real images."""
    balance: float
    """``1 - KL(generated shares || real shares) / ln(classes)`` cut to [0, 1]; 1: as frequent as in the data."""


def fit_classifier(features: Tensor, labels: Tensor) -> Classifier:
    """Fit on four of five real images, test on the fifth.

    Args:
        features: ``(n, d)``, finite.
        labels: int64 ``(n,)``, >= 0, of two classes or more in both parts.

    Raises:
        ConfigError: fewer than two classes.
    """
    from sklearn.linear_model import LogisticRegression

    x, y = features.detach().cpu().double(), labels.cpu()
    n_classes = int(y.max()) + 1
    test = torch.arange(len(y)) % _TEST_EVERY == _TEST_EVERY - 1
    if len(y[~test].unique()) < 2:
        raise ConfigError(f"`modes` needs labels of two classes or more, but got {len(y.unique())}.")
    mean, std = x[~test].mean(0), x[~test].std(0).clamp_min(1e-12)
    model: Any = LogisticRegression(max_iter=1000, C=1.0)
    model.fit(((x[~test] - mean) / std).numpy(), y[~test].numpy())
    weight, bias = _all_classes(model, n_classes, x.shape[1])
    weight = weight / std
    bias = bias - weight @ mean
    shares = torch.bincount(y, minlength=n_classes).double() / len(y)
    fitted = Classifier(weight=weight, bias=bias, shares=shares, accuracy=0.0)
    right = fitted.classes(x[test]) == y[test]
    return Classifier(weight=weight, bias=bias, shares=shares, accuracy=float(right.double().mean()))


def _all_classes(model: Any, n_classes: int, dim: int) -> tuple[Tensor, Tensor]:
    """One row per class number: classes that no image has get a bias of minus infinity."""
    weight = torch.zeros(n_classes, dim, dtype=torch.float64)
    bias = torch.full((n_classes,), -torch.inf, dtype=torch.float64)
    coef, intercept = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if len(coef) == 1:  # two classes: scikit-learn keeps the logit of the second alone
        coef, intercept = torch.cat([-coef, coef]) / 2, torch.cat([-intercept, intercept]) / 2
    weight[model.classes_], bias[model.classes_] = coef, intercept
    return weight, bias


def modes(features: Tensor, classifier: Classifier) -> Modes:
    """Classes reached and their balance, of generated features ``(n, d)``, n >= 1.

    The classifier's own errors count: real images would not quite reach a balance of 1.
    """
    counts = torch.bincount(classifier.classes(features), minlength=len(classifier.shares)).double()
    shares, real = counts / counts.sum(), classifier.shares
    there = real > 0
    # A share of exactly a tenth must not fall to the rounding of the product.
    reached = int((shares[there] >= REACHED * real[there] * (1 - 1e-12)).sum())
    kl = torch.where(shares > 0, shares * (shares / real.clamp_min(1e-12)).log(), 0.0).sum()
    balance = 1 - float(kl) / math.log(int(there.sum()))
    return Modes(reached=reached, balance=min(max(balance, 0.0), 1.0))
