"""initialisation.safetensors: write, read, validate. Data only, never code; what is wrong is refused."""

import json
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from metaopt.errors import ArtifactError, ConfigError
from metaopt.gan import PairSpec
from metaopt.gan.image_folder import printable
from metaopt.meta.maml.initialisation import Initialisation, check_fit
from metaopt.meta.maml.inner import Rates
from metaopt.schedules.turns import Player
from metaopt.whole_file import write_whole

FORMAT = "metaopt.initialisation/1"
MAX_BYTES = 2**30
MAX_HEADER_BYTES = 1_000_000
Groups = dict[Player, dict[str, Tensor]]
"""Player -> name -> tensor."""
_KEY = "metaopt"
"""Of the one entry of the metadata."""
_DIGEST = "digest"
"""Of the one tensor that is no weight and no rate."""
_MAX_MESSAGE = 500
_PICKLES = (b"PK\x03\x04", *(bytes((0x80, protocol)) for protocol in range(2, 6)))
"""How files of torch.save start, and plain pickles."""
_PLAIN = ("loss", "r1", "family", "params", "steps", "batch", "how", "algorithm", "score", "provenance")
_KEYS = ("format", "spec", *_PLAIN, "frozen", "trained_on", "rates_per_step")
_SPEC_KINDS: Mapping[str, tuple[type, ...]] = {
    "network": (str,),
    **dict.fromkeys(("size", "channels", "width", "z_dim", "n_classes"), (int,)),
    **dict.fromkeys(("norm_g", "norm_d"), (str, NoneType)),
    "spectral_norm": (bool, NoneType),
}


def save_initialisation(init: Initialisation, path: str | Path) -> Path:
    """Write `init`, all of it or nothing; returns the path.

    Raises:
        ArtifactError: what `load_initialisation` would refuse: weights that do not fit the spec, a header too long.
        StorageError: the disk is full or not writable; a file that was there before is as it was.
    """
    path = _expanded(path)
    check_fit(init)
    header, tensors = _header(init), _flat(init)
    raw = save_safetensors({**tensors, _DIGEST: _digest(header, tensors)}, metadata={_KEY: header})
    _check_size(raw)
    write_whole(path, raw)
    return path


def load_initialisation(path: str | Path) -> Initialisation:
    """Read an initialisation.safetensors. Nothing in it is run, and nothing that it names is imported.

    Networks by import path are imported by `Initialisation.pair` alone, which then checks that the weights fit; for
    the others that is checked here. ArtifactError names the file, the rule and the value that breaks it.
    """
    try:
        path = _expanded(path)
        init = _unpacked(_content(path))
    except ConfigError as error:
        message = str(error)
        shown = message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}..."
        raise ArtifactError(f"{path}: {shown}") from error
    try:
        check_fit(init)
    except ArtifactError as error:  # whole: it lists all names
        raise ArtifactError(f"{path}: {error}") from error
    return init


def _header(init: Initialisation) -> str:
    content = {
        "format": FORMAT,
        "spec": asdict(init.spec),
        **{name: getattr(init, name) for name in _PLAIN},
        "frozen": {player: sorted(names) for player, names in init.frozen.items()},
        "trained_on": list(init.trained_on),
        "rates_per_step": None if init.rates is None else init.rates.per_step,
    }
    return json.dumps(content, sort_keys=True, allow_nan=False)


def _flat(init: Initialisation) -> dict[str, Tensor]:
    found = {f"{player}.{name}": w for player, of in init.weights.items() for name, w in of.items()}
    if init.rates is not None:
        found |= {f"rate.{player}.{name}": w for player, of in init.rates.values.items() for name, w in of.items()}
    return found


def _digest(header: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """SHA-256 of header and float32 tensors as uint8 (32,): safetensors itself would not see a flipped bit."""
    digest = sha256(header.encode())
    for name in sorted(tensors):
        digest.update(f"\n{name} {tuple(tensors[name].shape)}\n".encode() + tensors[name].numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def _expanded(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"the home folder of {str(path)!r} must exist, but it does not.") from error


def _content(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
            raise ArtifactError("an initialisation must be a file, but this is a folder or a device.")
        if found.st_size > MAX_BYTES:
            raise ArtifactError(f"an initialisation must be at most {MAX_BYTES} bytes, but it has {found.st_size}.")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"the file cannot be read: {error.strerror}.") from error


def _check_size(raw: bytes) -> None:
    n = int.from_bytes(raw[:8], "little")
    if MAX_HEADER_BYTES < n <= len(raw):
        raise ArtifactError(f"the header must have at most {MAX_HEADER_BYTES} bytes, but has {n}.")


def _unpacked(raw: bytes) -> Initialisation:
    """The initialisation in a file's content."""
    header, tensors = _parts(raw)
    content = _parsed(header)
    digest = tensors.pop(_DIGEST, torch.empty(0))
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ArtifactError(f"{printable(name)} must be of float32, but is of {tensor.dtype}.")
    if not torch.equal(digest, _digest(header, tensors)):
        raise ArtifactError("the content must have the digest that is stored with it: the file is damaged.")
    weights, rates = _grouped(tensors)
    return Initialisation(
        spec=_spec(content["spec"]),
        weights=weights,
        rates=_rates(content["rates_per_step"], rates),
        frozen=_frozen(content["frozen"]),
        trained_on=tuple(_strings("trained_on", content["trained_on"])),
        **{name: content[name] for name in _PLAIN},
    )


def _parts(raw: bytes) -> tuple[str, dict[str, Tensor]]:
    """Header and tensors; ArtifactError says what the file is where it is none of ours."""
    _check_size(raw)
    try:
        tensors = load_safetensors(raw)
        outer = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    except Exception as error:  # of any type: damage takes the parser anywhere
        if raw.startswith(_PICKLES):
            raise ArtifactError("the file holds a pickle, which could run code: refused.") from error
        raise ArtifactError(f"the file must be whole, and of safetensors, but is not: {error}.") from error
    header = (outer.get("__metadata__") or {}).get(_KEY)
    if header is None:
        raise ArtifactError(f"an initialisation must have `{_KEY}` in its metadata, but this file has not.")
    return header, tensors


def _parsed(header: str) -> dict[str, Any]:
    try:
        content = json.loads(header)
    except (ValueError, RecursionError) as error:  # not JSON, too deep, or too many digits
        raise ArtifactError(f"the header must be JSON, but it is not: {error}.") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"the header must be a JSON object, but got {type(content).__name__}.")
    if content.get("format") != FORMAT:
        raise ArtifactError(f"`format` must be {FORMAT!r}, but got {content.get('format')!r}.")
    _check_keys("the header", content, _KEYS)
    return content


def _check_keys(what: str, content: Mapping[str, Any], known: Iterable[str]) -> None:
    if missing := [key for key in known if key not in content]:
        raise ArtifactError(f"{what} must have `{missing[0]}`, but it is missing.")
    if others := sorted(content.keys() - set(known)):
        raise ArtifactError(f"{what} must have no other keys than {', '.join(known)}, but has {others[0]!r}.")


def _grouped(tensors: Mapping[str, Tensor]) -> tuple[Groups, Groups]:
    """Weights and rates, by player."""
    weights: Groups = {"g": {}, "d": {}}
    rates: Groups = {"g": {}, "d": {}}
    places = {**{f"{p}.": of for p, of in weights.items()}, **{f"rate.{p}.": of for p, of in rates.items()}}
    for name, tensor in tensors.items():
        start = next((start for start in places if name.startswith(start)), None)
        if start is None:
            raise ArtifactError(f"names of tensors must start with one of {', '.join(places)}, but got {name!r}.")
        places[start][name.removeprefix(start)] = tensor
    return weights, rates


def _rates(per_step: object, values: Groups) -> Rates | None:
    if per_step is None and not any(values.values()):
        return None
    if not isinstance(per_step, bool):
        raise ArtifactError(f"`rates_per_step` must be true or false where there are rates, but got {per_step!r}.")
    return Rates(values=values, per_step=per_step)


def _spec(content: object) -> PairSpec:
    if not isinstance(content, dict):
        raise ArtifactError(f"`spec` must be an object, but got {content!r}.")
    _check_keys("`spec`", content, _SPEC_KINDS)
    for name, kinds in _SPEC_KINDS.items():
        if type(content[name]) not in kinds:  # a bool is an int by isinstance
            words = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
            raise ArtifactError(f"`spec.{name}` must be {words}, but got {content[name]!r}.")
    return PairSpec(**content)


def _frozen(content: object) -> dict[Player, frozenset[str]]:
    if not isinstance(content, dict):
        raise ArtifactError(f"`frozen` must be an object, but got {content!r}.")
    return {player: frozenset(_strings(f"frozen.{printable(player)}", names)) for player, names in content.items()}


def _strings(key: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ArtifactError(f"`{key}` must be a list of strings, but got {value!r}.")
    return value
