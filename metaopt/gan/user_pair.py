"""One's own networks by import path, and the contract that they must keep."""

import inspect
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from metaopt.errors import ConfigError
from metaopt.user_code import imported, source_version

_WHAT = "`network`"
_IMAGES = 4


def build_user_pair(
    path: str, *, size: int, channels: int, width: int, z_dim: int, n_classes: int, generator: torch.Generator
) -> tuple[nn.Module, nn.Module]:
    """Call ``function(size=, channels=, width=, z_dim=, n_classes=, generator=)`` and check what comes back.

    The contract: it returns (G, D) with weights drawn from `generator` alone; ``G(z)`` maps noise (n, z_dim) to
    images (n, C, H, H) in [-1, 1]; ``D(x)`` maps those to logits (n,); with `n_classes` > 0 they are called as
    ``G(z, y)`` and ``D(x, y)``, y int64 (n,); in training mode, gradients reach every parameter.

    Raises:
        ConfigError: the path leads nowhere, or the networks break the contract; the message says where.
    """
    function = imported(path, what=_WHAT)
    if not callable(function):
        raise ConfigError(f"`network` {path!r} must be a function, but is {type(function).__name__}.")
    shape = {"size": size, "channels": channels, "width": width, "z_dim": z_dim, "n_classes": n_classes}
    pair, again = (_called(path, function, shape | {"generator": g}) for g in (_copy(generator), generator))
    _check_repeats(path, pair, again)
    _check_contract(path, *pair, image=(channels, size, size), z_dim=z_dim, n_classes=n_classes)
    return again


def user_pair_version(path: str) -> str:
    """Changes with the source of the networks; see `source_version`."""
    return source_version(path, what=_WHAT)


def _called(path: str, function: Callable[..., Any], arguments: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        names = ", ".join(arguments)
        raise ConfigError(f"`network` {path!r} must take the keywords {names}, but: {error}.") from error
    try:
        pair = function(**arguments)
    except Exception as error:  # the user's own code may raise anything
        raise ConfigError(
            f"`network` {path!r} must build two networks, but: {type(error).__name__}: {error}."
        ) from error
    if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, nn.Module) for part in pair)):
        raise ConfigError(f"`network` {path!r} must return two torch modules (G, D), but returned {type(pair)}.")
    return pair


def _copy(generator: torch.Generator) -> torch.Generator:
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    return twin


def _check_repeats(path: str, one: tuple[nn.Module, nn.Module], two: tuple[nn.Module, nn.Module]) -> None:
    for player, a, b in zip("GD", one, two, strict=True):
        if not {id(p) for p in a.parameters()}.isdisjoint(id(p) for p in b.parameters()):
            raise ConfigError(f"`network` {path!r} must build new networks at each call, but {player} came twice.")
        state = b.state_dict()
        for name, value in a.state_dict().items():
            if not (name in state and torch.equal(value, state[name])):
                raise ConfigError(
                    f"`network` {path!r}: weights must be drawn from `generator` alone, but {name} of {player}"
                    f" differs between two calls with the same state."
                )


def _check_contract(
    path: str, g: nn.Module, d: nn.Module, *, image: tuple[int, int, int], z_dim: int, n_classes: int
) -> None:
    device = next((p.device for p in g.parameters()), torch.device("cpu"))
    random = torch.Generator(device).manual_seed(0)
    z = torch.randn(_IMAGES, z_dim, generator=random, device=device)
    y = (torch.arange(_IMAGES, device=device) % n_classes,) if n_classes else ()
    images = _output(path, "G", g, (z, *y), (_IMAGES, *image))
    _check_no_hidden_chance(path, "G", g, (z, *y))
    _check_no_hidden_chance(path, "D", d, (images.detach(), *y))
    low, high = (float(value) for value in images.detach().aminmax())
    if not -1 <= low <= high <= 1:
        raise ConfigError(f"`network` {path!r}: images of G must lie in [-1, 1], but lie in [{low:.3g}, {high:.3g}].")
    logits = _output(path, "D", d, (images, *y), (_IMAGES,))
    # Not a plain sum: normalisation makes the gradient of a sum over the batch vanish.
    loss = (logits * torch.arange(1, _IMAGES + 1, device=device)).sum()
    for player, module in (("G", g), ("D", d)):
        named = list(module.named_parameters())
        frozen = [name for name, p in named if not p.requires_grad]
        if frozen:
            raise ConfigError(
                f"`network` {path!r}: every parameter of {player} must be trained, but {frozen[0]} is frozen."
            )
        grads = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True, retain_graph=True)
        missed = [name for (name, _), grad in zip(named, grads, strict=True) if grad is None]
        if missed or not named:
            what = f"none reaches {missed[0]}" if missed else "it has none"
            raise ConfigError(f"`network` {path!r}: gradients must reach every parameter of {player}, but {what}.")


def _check_no_hidden_chance(path: str, player: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Dropout and the like draw from the global random state, so that a training would not repeat."""
    outputs = []
    for seed in range(2):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(seed)
            outputs.append(deepcopy(module)(*inputs))
    if isinstance(outputs[0], Tensor) and not torch.equal(*outputs):
        raise ConfigError(f"`network` {path!r}: {player} must be a function of its inputs alone, but two calls differ.")


def _output(path: str, player: str, module: nn.Module, inputs: tuple[Tensor, ...], shape: tuple[int, ...]) -> Tensor:
    try:
        out = module(*inputs)
    except Exception as error:  # the user's own code may raise anything
        got = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise ConfigError(f"`network` {path!r}: {player} must take inputs {got}, but: {error}.") from error
    if not isinstance(out, Tensor) or tuple(out.shape) != shape:
        came = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ConfigError(f"`network` {path!r}: {player} must give the shape {shape}, but gave {came}.")
    if not bool(out.isfinite().all()):
        raise ConfigError(f"`network` {path!r}: {player} must give finite numbers, but gave NaN or infinity.")
    return out
