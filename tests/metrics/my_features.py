"""Features of a user's own, good and bad, named by import path in the tests."""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Quarters:
    """Mean of each quarter of the gray image, and the same again as logits."""

    name: Any = "quarters"
    version: Any = "1"
    dim: Any = 4
    n_logits: Any = 4

    def __call__(self, images: Tensor) -> Tensor:
        return self.features_and_logits(images)[0]

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        found = torch.nn.functional.adaptive_avg_pool2d(images.float().mean(1), 2).flatten(1)
        return found, found / 10 if self.n_logits else None


class _Wrong(Quarters):
    """`Quarters` with `spoil` on its features."""

    def spoil(self, features: Tensor) -> Any:
        raise NotImplementedError

    def features_and_logits(self, images: Tensor) -> tuple[Any, Tensor | None]:
        features, logits = super().features_and_logits(images)
        return self.spoil(features), logits


class _Random(_Wrong):
    def spoil(self, features: Tensor) -> Tensor:
        return features + torch.rand(features.shape)


class _Counting(_Wrong):
    calls = itertools.count()

    def spoil(self, features: Tensor) -> Tensor:
        return features + next(self.calls)


class _Drifting(_Wrong):
    """The same in both ways of one question, other at the next."""

    calls = itertools.count()

    def spoil(self, features: Tensor) -> Tensor:
        return features + next(self.calls) // 2


class _OfTheBatch(_Wrong):
    def spoil(self, features: Tensor) -> Tensor:
        return features - features.mean(0)


class _Infinite(_Wrong):
    def spoil(self, features: Tensor) -> Tensor:
        return features / 0


class _Wide(_Wrong):
    def spoil(self, features: Tensor) -> Tensor:
        return torch.cat([features, features], dim=1)


class _Integer(_Wrong):
    def spoil(self, features: Tensor) -> Tensor:
        return features.long()


class _Array(_Wrong):
    def spoil(self, features: Tensor) -> Any:
        return features.numpy()


class _Two(Quarters):
    def __call__(self, images: Tensor) -> Tensor:
        return self.features_and_logits(images)[0] + 1


class _ColourOnly(_Wrong):
    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if images.shape[1] != 3:
            raise RuntimeError("expected 3 channels")
        return super(_Wrong, self).features_and_logits(images)


class _Unasked(Quarters):
    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        return super().features_and_logits(images)[0], None


quarters = Quarters()
no_logits = Quarters(n_logits=0)
random, counting, drifting, of_the_batch, infinite = _Random(), _Counting(), _Drifting(), _OfTheBatch(), _Infinite()
wide, integer, array, two, colour_only, unasked = _Wide(), _Integer(), _Array(), _Two(), _ColourOnly(), _Unasked()
no_name, no_dim, text_dim = Quarters(name=None), Quarters(dim=None), Quarters(dim="4")
function = len
