"""Tensors kept on disk by what they are a function of: whole or not at all, and never in the way."""

import logging
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from metaopt.errors import StorageError
from metaopt.whole_file import write_whole

_log = logging.getLogger(__name__)


def cached(folder: Path | None, key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors kept in `folder` under `key`; computed, and kept, where they are not there.

    Any number of processes may share a cache: files appear whole, by rename. A file that is torn, or is not
    what its name says, is computed anew and replaced. A cache that cannot be written only costs the time.

    Args:
        folder: made if missing; None: no cache.
        key: names what the tensors are a function of.
        compute: gives the tensors, on the CPU, none called ``digest``.
    """
    if folder is None:
        return compute()
    file = folder / f"{sha256(key.encode()).hexdigest()[:32]}.safetensors"
    found = _read(file, key)
    if found is None:
        found = compute()
        _write(file, key, found)
    return found


def _digest(key: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """SHA-256 of key and content as uint8 ``(32,)``: safetensors itself would not see a flipped bit."""
    digest = sha256(key.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def _read(file: Path, key: str) -> dict[str, Tensor] | None:
    """The tensors in ``file``; None if there are none, or they cannot be trusted."""
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
    return tensors


def _write(file: Path, key: str, tensors: Mapping[str, Tensor]) -> None:
    """Write ``file`` whole or not at all; where the disk refuses, say so and go on."""
    raw = save_safetensors({**tensors, "digest": _digest(key, tensors)}, metadata={"key": key})
    try:
        write_whole(file, raw)
    except StorageError as error:
        _log.warning("Statistics of the real images are not cached: %s", error)
