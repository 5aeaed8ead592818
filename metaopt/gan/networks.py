"""Networks of the game: NETWORKS, name -> how to build a generator and a discriminator."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from metaopt.errors import ConfigError
from metaopt.gan.choice import unknown
from metaopt.gan.images import MAX_SIZE, MIN_SIZE

SLOPE = 0.2
"""Slope of every LeakyReLU below 0 (Radford et al. 2016)."""
WEIGHT_STD = 0.02
"""Standard deviation of the first weights of a dcgan (Radford et al. 2016)."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large the networks are."""

    size: int
    """Pixels along one side of an image."""
    channels: int
    """1 (gray) or 3 (colour)."""
    width: int
    """Hidden units of an mlp; channels of a dcgan's layer next to the image."""
    z_dim: int
    """Length of the noise vector."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """The two players of one game."""

    generator: nn.Module
    """G: noise (n, z_dim) -> images (n, C, H, H) in [-1, 1]."""
    discriminator: nn.Module
    """D: images (n, C, H, H) in [-1, 1] -> logits (n,), > 0 where it takes them for real."""
    z_dim: int
    """Length of the noise vector."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A way to build both players."""

    build: Callable[[Shape], tuple[nn.Module, nn.Module]]
    """Shape -> (generator, discriminator), without weights."""
    init: Callable[[nn.Module, torch.Generator], None]
    """Draws the weights of one module that has weights of its own, in place."""
    sizes: Sequence[int]
    """Image sizes that it can make."""
    rule: str
    """Those sizes in words, for messages."""


def make_pair(network: str, *, size: int, channels: int, width: int, z_dim: int, generator: torch.Generator) -> Pair:
    """A generator and a discriminator with fresh weights, on the device of `generator`.

    Every weight comes from `generator`, and the global random state is not touched: the same state of
    `generator` gives the same bits.

    Args:
        network: a key of `NETWORKS`.
        size: pixels along one side; see `check_network_size`.
        channels: 1 (gray) or 3 (colour).
        width: hidden units (mlp) or channels next to the image (dcgan), >= 1.
        z_dim: length of the noise vector, >= 1.
        generator: where the weights are drawn from.
    """
    check_network_size(network, size)
    if channels not in (1, 3):
        raise ConfigError(f"`channels` must be 1 or 3, but got {channels!r}.")
    for name, value in (("width", width), ("z_dim", z_dim)):
        if value < 1:
            raise ConfigError(f"`{name} >= 1` must hold, but got {name}={value!r}.")
    found = NETWORKS[network]
    with torch.device("meta"):  # no weights yet: torch's own would come from the global random state
        players = found.build(Shape(size=size, channels=channels, width=width, z_dim=z_dim))
    g, d = (_with_weights(player, found, generator) for player in players)
    return Pair(generator=g, discriminator=d, z_dim=z_dim)


def check_network_size(network: str, size: int) -> None:
    """ConfigError unless there is such a network and it can make images of `size` x `size`."""
    if network not in NETWORKS:
        raise ConfigError(unknown("network", network, NETWORKS))
    if size not in NETWORKS[network].sizes:
        raise ConfigError(f"network {network!r} needs a `size` that is {NETWORKS[network].rule}, but got {size!r}.")


@torch.no_grad()
def _with_weights(player: nn.Module, network: Network, generator: torch.Generator) -> nn.Module:
    player.to_empty(device=generator.device)
    for module in player.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
        if module._parameters:
            network.init(module, generator)
    return player


def _mlp(shape: Shape) -> tuple[nn.Module, nn.Module]:
    """Two hidden layers of `width` LeakyReLUs in each player, no normalisation."""
    image = (shape.channels, shape.size, shape.size)
    generator = nn.Sequential(
        *_hidden(shape.z_dim, shape.width),
        nn.Linear(shape.width, math.prod(image)),
        nn.Tanh(),
        nn.Unflatten(1, image),
    )
    discriminator = nn.Sequential(
        nn.Flatten(), *_hidden(math.prod(image), shape.width), nn.Linear(shape.width, 1), nn.Flatten(0)
    )
    return generator, discriminator


def _hidden(n_in: int, width: int) -> list[nn.Module]:
    return [nn.Linear(n_in, width), nn.LeakyReLU(SLOPE), nn.Linear(width, width), nn.LeakyReLU(SLOPE)]


def _init_mlp(module: nn.Module, generator: torch.Generator) -> None:
    """``U(-b, b)`` with ``b = 1 / sqrt(n_in)`` for weights and biases, as torch has it for linear layers."""
    if not isinstance(module, nn.Linear):
        raise TypeError(f"no rule for the weights of {type(module).__name__} in an mlp")
    bound = 1 / math.sqrt(module.in_features)
    for parameter in module.parameters():
        parameter.uniform_(-bound, bound, generator=generator)


def halvings(size: int) -> int:
    """How often a dcgan halves an image: at least twice, and until at most 7 pixels are left.

    So 8 -> 2, 12 -> 3, 16 -> 4, 20 -> 5, 24 -> 6, 28 -> 7 in two halvings, and 32 -> 4 in three.
    """
    n = 2
    while size >> n > 7:
        n += 1
    return n


def _dcgan(shape: Shape) -> tuple[nn.Module, nn.Module]:
    """DCGAN (Radford, Metz & Chintala 2016), cut to small images.

    Convolutions of 4 x 4 with stride 2 in place of pooling; BatchNorm everywhere but at G's output and at D's
    input and output; ReLU and tanh in G, LeakyReLU in D. Channels double at every halving, from `width` next
    to the image.
    """
    steps = halvings(shape.size)
    start = shape.size >> steps
    widths = [shape.width << step for step in range(steps)]
    up: list[nn.Module] = [nn.Unflatten(1, (shape.z_dim, 1, 1))]
    up += [
        nn.ConvTranspose2d(shape.z_dim, widths[-1], start, bias=False),
        nn.BatchNorm2d(widths[-1]),
        nn.ReLU(),
    ]
    for wide, narrow in pairwise(reversed(widths)):
        up += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()]
    up += [nn.ConvTranspose2d(widths[0], shape.channels, 4, 2, 1), nn.Tanh()]
    down: list[nn.Module] = [nn.Conv2d(shape.channels, widths[0], 4, 2, 1), nn.LeakyReLU(SLOPE)]
    for narrow, wide in pairwise(widths):
        down += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.LeakyReLU(SLOPE)]
    down += [nn.Conv2d(widths[-1], 1, start), nn.Flatten(0)]
    return nn.Sequential(*up), nn.Sequential(*down)


def _init_dcgan(module: nn.Module, generator: torch.Generator) -> None:
    """``N(0, 0.02)`` for convolutions, ``N(1, 0.02)`` for scales of BatchNorm, 0 for biases."""
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
        raise TypeError(f"no rule for the weights of {type(module).__name__} in a dcgan")
    mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
    module.weight.normal_(mean, WEIGHT_STD, generator=generator)
    if module.bias is not None:
        module.bias.zero_()


NETWORKS: Mapping[str, Network] = {
    "mlp": Network(
        build=_mlp,
        init=_init_mlp,
        sizes=range(MIN_SIZE, MAX_SIZE + 1),
        rule=f"in [{MIN_SIZE}, {MAX_SIZE}]",
    ),
    "dcgan": Network(
        build=_dcgan,
        init=_init_dcgan,
        sizes=range(MIN_SIZE, MAX_SIZE + 1, 4),
        rule=f"a multiple of 4 in [{MIN_SIZE}, {MAX_SIZE}]",
    ),
}
