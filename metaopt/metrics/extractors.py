"""FEATURES: name -> extractor, and one's own by import path."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.metrics.features import FeatureExtractor, small_features
from metaopt.metrics.inception import InceptionFeatures
from metaopt.metrics.lite0 import Lite0Features
from metaopt.user_code import imported, source_version

FEATURES: Mapping[str, Callable[[], FeatureExtractor]] = {
    "small": lambda: small_features,
    "lite0": Lite0Features,
    "inception": InceptionFeatures,
}
_INCEPTION_FILE = "inception:"
_PROBES = 5


@lru_cache(maxsize=16)
def find_features(spec: str) -> FeatureExtractor:
    """The extractor of that spec; weights are loaded when it is first called.

    Args:
        spec: a key of `FEATURES`; ``inception:FILE`` with weights of one's own; or ``package.module:name``, an
            object that is a `FeatureExtractor`, which is tried on noise.

    Raises:
        ConfigError: there is no such extractor, or it breaks the rules.
    """
    check_features(spec)
    if spec in FEATURES:
        return FEATURES[spec]()
    if spec.startswith(_INCEPTION_FILE):
        return InceptionFeatures(spec.removeprefix(_INCEPTION_FILE))
    found = _checked(spec, imported(spec, what="features"))
    return _Own(extractor=found, version=f"{found.version}-{source_version(spec, what='features')}")


def check_features(spec: str) -> None:
    """ConfigError unless `spec` has the form of one that `find_features` knows; nothing is imported or read."""
    if spec in FEATURES:
        return
    if spec.startswith(_INCEPTION_FILE):
        if not spec.removeprefix(_INCEPTION_FILE).strip():
            raise ConfigError(f"features {spec!r} must be inception:FILE, with a file of weights after the colon.")
        return
    module, colon, name = spec.partition(":")
    if not colon:
        near = get_close_matches(spec, FEATURES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ConfigError(
            f"There are no features {spec!r}{hint} Known: {', '.join(FEATURES)}, inception:FILE, package.module:name."
        )
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ConfigError(f"features {spec!r} must be package.module:name, of names as Python has them.")


@dataclass(frozen=True, kw_only=True)
class _Own:
    """One's own extractor, with a version that changes with its source too."""

    extractor: FeatureExtractor
    version: str

    @property
    def name(self) -> str:
        return self.extractor.name

    @property
    def dim(self) -> int:
        return self.extractor.dim

    @property
    def n_logits(self) -> int:
        return self.extractor.n_logits

    def __call__(self, images: Tensor) -> Tensor:
        return self.extractor(images)

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.extractor.features_and_logits(images)


def _checked(spec: str, found: Any) -> FeatureExtractor:
    for name, kind in (("name", str), ("version", str), ("dim", int), ("n_logits", int)):
        value = getattr(found, name, None)
        if not isinstance(value, kind):
            raise ConfigError(f"features {spec!r} must have `{name}`, {kind.__name__}, but it is {value!r}.")
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (_PROBES, 3, 32, 32), generator=random, dtype=torch.uint8)
    features, logits = _tried(spec, found, images)
    again, _ = _tried(spec, found, images)
    alone = torch.cat([_tried(spec, found, images[i : i + 1])[0] for i in range(_PROBES)])
    if not torch.equal(features, again):
        raise ConfigError(f"features {spec!r} must be the same for the same images, but differ between two calls.")
    if not torch.allclose(features, alone, rtol=1e-3, atol=1e-4):
        raise ConfigError(f"features {spec!r} must not depend on the other images in a batch, but they do.")
    if (logits is None) != (found.n_logits == 0):
        raise ConfigError(f"features {spec!r} must have logits if and only if n_logits > 0, but {found.n_logits=}.")
    _tried(spec, found, images[:, :1])
    return found  # type: ignore[no-any-return]


def _tried(spec: str, found: Any, images: Tensor) -> tuple[Tensor, Tensor | None]:
    try:
        features, logits = found.features_and_logits(images)
        plain = found(images)
    except Exception as error:  # the user's own code may raise anything
        raise ConfigError(f"features {spec!r} must take uint8 images {tuple(images.shape)}, but: {error}.") from error
    for what, value, width in (("features", features, found.dim), ("logits", logits, found.n_logits)):
        if value is None and what == "logits":
            continue
        if not isinstance(value, Tensor) or value.shape != (len(images), width) or not value.is_floating_point():
            came = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"features {spec!r} must give float {what} ({len(images)}, {width}), but gave {came}.")
        if not bool(value.isfinite().all()):
            raise ConfigError(f"features {spec!r} must give finite {what}, but gave NaN or infinity.")
    if not (isinstance(plain, Tensor) and torch.equal(plain, features)):
        raise ConfigError(f"features {spec!r}: calling it must give what `features_and_logits` gives, but does not.")
    return features, logits
