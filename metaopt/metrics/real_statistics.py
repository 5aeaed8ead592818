"""Statistics of the real images, computed once and kept on disk: every training on a data set shares them."""

import json
import logging
import os
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from metaopt.metrics.features import FeatureExtractor
from metaopt.metrics.frechet import Moments, RealStatistics

FORMAT = "metaopt.real_statistics/1"
"""Changes where what is stored, or the way from images to numbers, changes."""
BATCH_SIZE = 1000
"""Images whose features are in memory at a time."""

_log = logging.getLogger(__name__)


def real_statistics(
    images: Tensor, extractor: FeatureExtractor, *, content_hash: str, cache_dir: Path | None
) -> RealStatistics:
    """Mean, covariance and its square root of the features of ``images``, from the cache where it has them.

    Any number of processes may share a cache: files appear whole, by rename. A file that is torn, or is not
    what its name says, is computed anew and replaced. A cache that cannot be written only costs the time.

    Args:
        images: uint8 ``(n, c, h, w)``, n >= 2, on any device.
        extractor: what turns images into features; its name and version are part of the key.
        content_hash: names the content of ``images``. Whoever changes the images must change it.
        cache_dir: folder of the cache, made if missing; None: no cache.

    Raises:
        ConfigError: n < 2, or images that the extractor refuses.
    """
    if cache_dir is None:
        return _computed(images, extractor)
    key = _key(extractor, content_hash)
    file = cache_dir / "real_statistics" / f"{sha256(key.encode()).hexdigest()[:32]}.safetensors"
    cached = _read(file, key)
    if cached is not None:
        return cached
    statistics = _computed(images, extractor)
    _write(file, key, statistics)
    return statistics


def default_cache_dir() -> Path:
    """``$METAOPT_CACHE``, or ``$XDG_CACHE_HOME/metaopt``, or ``~/.cache/metaopt``; empty counts as unset."""
    if own := os.environ.get("METAOPT_CACHE"):
        return Path(own).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "metaopt"
    return Path.home() / ".cache" / "metaopt"


def _computed(images: Tensor, extractor: FeatureExtractor) -> RealStatistics:
    moments = Moments.empty(extractor.dim)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the last bits depend on it, and whoever fills the cache decides for all
    try:
        for batch in torch.split(images, BATCH_SIZE):
            moments = moments.updated(extractor(batch))
        return RealStatistics.from_moments(moments)
    finally:
        torch.set_num_threads(n_threads)


def _key(extractor: FeatureExtractor, content_hash: str) -> str:
    parts = {
        "format": FORMAT,
        "extractor": extractor.name,
        "version": extractor.version,
        "content": content_hash,
    }
    return json.dumps(parts, sort_keys=True)


def _digest(key: str, tensors: dict[str, Tensor]) -> Tensor:
    """SHA-256 of key and content as uint8 ``(32,)``: safetensors itself would not see a flipped bit."""
    content = b"".join(tensors[name].contiguous().numpy().tobytes() for name in sorted(tensors))
    return torch.tensor(list(sha256(key.encode() + content).digest()), dtype=torch.uint8)


def _read(file: Path, key: str) -> RealStatistics | None:
    """The statistics in ``file``; None if there are none, or they cannot be trusted."""
    try:
        tensors = load_safetensors(file.read_bytes())
    except OSError:
        return None
    except SafetensorError as error:
        _log.warning("%s is not a whole file and is computed anew: %s", file, error)
        return None
    digest = tensors.pop("digest", torch.empty(0))
    if not torch.equal(digest, _digest(key, tensors)):
        _log.warning("%s does not hold what its name says and is computed anew.", file)
        return None
    n = int(tensors.pop("n"))
    return RealStatistics(n=n, **tensors)


def _write(file: Path, key: str, statistics: RealStatistics) -> None:
    """Write ``file`` whole or not at all; where the disk refuses, say so and go on."""
    tensors = {name: getattr(statistics, name) for name in ("mean", "covariance", "sqrt_covariance")}
    tensors["n"] = torch.tensor(statistics.n)
    raw = save_safetensors({**tensors, "digest": _digest(key, tensors)}, metadata={"key": key})
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _replace(file, raw)
    except OSError as error:
        _log.warning("Statistics of the real images are not cached: %s", error)


def _replace(file: Path, raw: bytes) -> None:
    # A name of its own for each writer; not mkstemp, whose files no other user of a shared cache may read.
    part = file.with_name(f".{file.stem}.{uuid4().hex}.tmp")
    try:
        part.write_bytes(raw)
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
        raise
