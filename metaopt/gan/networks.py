"""Networks of the game: NETWORKS, name -> how to build a generator and a discriminator."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import nn

from metaopt.errors import ConfigError
from metaopt.gan.choice import unknown
from metaopt.gan.images import MAX_SIZE, MIN_SIZE
from metaopt.gan.layers import NORMS, ConditionalGenerator, Discriminator, Norm, norm, with_spectral_norm
from metaopt.gan.resnet import init_resnet, resnet_body, resnet_generator
from metaopt.gan.user_pair import build_user_pair
from metaopt.user_code import is_import_path

SLOPE = 0.2
"""Slope of every LeakyReLU below 0 (Radford et al. 2016)."""
WEIGHT_STD = 0.02
"""Standard deviation of the first weights of a dcgan (Radford et al. 2016)."""


@dataclass(frozen=True, kw_only=True)
class PairSpec:
    """What two networks are built from, short of their weights. ConfigError where it cannot be built."""

    network: str
    """A key of `NETWORKS`, or the import path ``package.module:function`` of one's own."""
    size: int
    """Pixels along one side of an image; see `check_network_size`."""
    channels: int
    """1 (gray) or 3 (colour)."""
    width: int
    """Hidden units (mlp), channels next to the image (dcgan) or everywhere (sngan), >= 1."""
    z_dim: int
    """Length of the noise vector, >= 1."""
    n_classes: int = 0
    """Classes that G and D are told, as G(z, y) and D(x, y); 0: they are told none."""
    norm_g: Norm | None = None
    """Normalisation in G: batch, group or none; None: the network's own."""
    norm_d: Norm | None = None
    """Normalisation in D, likewise."""
    spectral_norm: bool | None = None
    """Whether D's weights are divided by their largest singular value; None: the network's own."""

    def __post_init__(self) -> None:
        check_network_size(self.network, self.size)
        if self.channels not in (1, 3):
            raise ConfigError(f"`channels` must be 1 or 3, but got {self.channels!r}.")
        for name, least in (("width", 1), ("z_dim", 1), ("n_classes", 0)):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"`{name} >= {least}` must hold, but got {name}={value!r}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """The two players of one game."""

    generator: nn.Module
    """G: noise (n, z_dim), and classes int64 (n,) if it is told any -> images (n, C, H, H) in [-1, 1]."""
    discriminator: nn.Module
    """D: images (n, C, H, H) in [-1, 1], and classes -> logits (n,), > 0 where it takes them for real."""
    z_dim: int
    """Length of the noise vector."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The players without weights, heads and classes."""

    generator: nn.Module
    """Noise (n, z_dim + n_classes) -> images."""
    body: nn.Module
    """Images -> features (n, n_features)."""
    n_features: int


@dataclass(frozen=True, kw_only=True)
class Network:
    """A way to build both players."""

    build: Callable[[PairSpec], Parts]
    """The parts, for a spec in which nothing is None."""
    init: Callable[[nn.Module, torch.Generator], None]
    """Draws the weights of one module that has weights of its own, in place."""
    sizes: Sequence[int]
    """Image sizes that it can make."""
    rule: str
    """Those sizes in words, for messages."""
    norm_g: Norm
    """Normalisation in G unless said otherwise."""
    norm_d: Norm
    spectral_norm: bool


def make_pair(spec: PairSpec, generator: torch.Generator) -> Pair:
    """A generator and a discriminator with fresh weights, on the device of `generator`.

    Every weight comes from `generator`, and the global random state is not touched: the same state of
    `generator` gives the same bits.
    """
    if is_import_path(spec.network):
        g, d = build_user_pair(
            spec.network,
            size=spec.size,
            channels=spec.channels,
            width=spec.width,
            z_dim=spec.z_dim,
            n_classes=spec.n_classes,
            generator=generator,
        )
        return Pair(generator=g, discriminator=d, z_dim=spec.z_dim)
    found, spec = NETWORKS[spec.network], resolved(spec)
    with torch.device("meta"):  # no weights yet: torch's own would come from the global random state
        parts = found.build(spec)
        g = ConditionalGenerator(parts.generator, spec.n_classes) if spec.n_classes else parts.generator
        d = Discriminator(parts.body, parts.n_features, spec.n_classes)
    g, d = (_with_weights(player, found, generator) for player in (g, d))
    if spec.spectral_norm:
        d = with_spectral_norm(d, generator)
    return Pair(generator=g, discriminator=d, z_dim=spec.z_dim)


def resolved(spec: PairSpec, *, gradient_penalty: bool = False, weight_clip: bool = False) -> PairSpec:
    """The spec with the network's own choices filled in.

    Args:
        spec: of a network in `NETWORKS`.
        gradient_penalty: whether the loss looks at D's gradient at each image. Normalising over the batch would
            mix images there, so that D gets group norm in its place, and asking for batch norm is refused
            (Gulrajani et al. 2017, section 4).
        weight_clip: whether the loss cuts D's weights. Their largest singular value then jumps faster than one
            power iteration an update follows, so that D has no spectral norm, and asking for it is refused.
    """
    found = NETWORKS[spec.network]
    norm_d = spec.norm_d or found.norm_d
    if gradient_penalty and norm_d == "batch":
        if spec.norm_d is not None:
            raise ConfigError("`norm_d` must be group or none where the loss penalises D's gradient, but got batch.")
        norm_d = "group"
    spectral = found.spectral_norm if spec.spectral_norm is None else spec.spectral_norm
    if weight_clip and spectral:
        if spec.spectral_norm is not None:
            raise ConfigError("`spectral_norm` must be false where the loss cuts D's weights, but got true.")
        spectral = False
    return replace(spec, norm_g=spec.norm_g or found.norm_g, norm_d=norm_d, spectral_norm=spectral)


def check_norm(field: str, value: object) -> None:
    """ConfigError unless `value` is None or a kind of normalisation."""
    if value is not None and value not in NORMS:
        raise ConfigError(f"`{field}` must be one of {', '.join(NORMS)}, but got {value!r}.")


def check_network(network: str) -> None:
    """ConfigError unless there is such a network; one's own is not imported yet."""
    if not is_import_path(network) and network not in NETWORKS:
        raise ConfigError(unknown("network", network, (*NETWORKS, "package.module:function")))


def check_network_size(network: str, size: int) -> None:
    """ConfigError unless there is such a network and it can make images of `size` x `size`."""
    check_network(network)
    if not is_import_path(network) and size not in NETWORKS[network].sizes:
        raise ConfigError(f"network {network!r} needs a `size` that is {NETWORKS[network].rule}, but got {size!r}.")


@torch.no_grad()
def _with_weights(player: nn.Module, network: Network, generator: torch.Generator) -> nn.Module:
    player.to_empty(device=generator.device)
    for module in player.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
        if module._parameters:
            network.init(module, generator)
    return player


def _own(kind: Norm | None) -> Norm:
    return kind or "none"


def _mlp(spec: PairSpec) -> Parts:
    """Two hidden layers of `width` LeakyReLUs in each player, no normalisation unless asked for."""
    image = (spec.channels, spec.size, spec.size)
    generator = nn.Sequential(
        *_hidden(spec.z_dim + spec.n_classes, spec.width, _own(spec.norm_g)),
        nn.Linear(spec.width, math.prod(image)),
        nn.Tanh(),
        nn.Unflatten(1, image),
    )
    body = nn.Sequential(nn.Flatten(), *_hidden(math.prod(image), spec.width, _own(spec.norm_d)))
    return Parts(generator=generator, body=body, n_features=spec.width)


def _hidden(n_in: int, width: int, kind: Norm) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for n in (n_in, width):
        layers += [nn.Linear(n, width), *norm(kind, width, spatial=0), nn.LeakyReLU(SLOPE)]
    return layers


def _init_mlp(module: nn.Module, generator: torch.Generator) -> None:
    """``U(-b, b)`` with ``b = 1 / sqrt(n_in)`` for weights and biases, as torch has it for linear layers.

    1 for scales and 0 for shifts of a norm; ``N(0, 1 / n_features)`` for the vectors of classes.
    """
    if isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.in_features)
        for parameter in module.parameters(recurse=False):
            parameter.uniform_(-bound, bound, generator=generator)
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(0.0, 1 / math.sqrt(module.embedding_dim), generator=generator)
    else:
        init_resnet(module, generator)


def halvings(size: int) -> int:
    """How often a dcgan or sngan halves an image: at least twice, and until at most 7 pixels are left.

    So 8 -> 2, 12 -> 3, 16 -> 4, 20 -> 5, 24 -> 6, 28 -> 7 in two halvings, 32 -> 4 to 56 -> 7 in three, and
    64 -> 4 in four.
    """
    n = 2
    while size >> n > 7:
        n += 1
    return n


def _dcgan(spec: PairSpec) -> Parts:
    """DCGAN (Radford, Metz & Chintala 2016), cut to small images.

    Convolutions of 4 x 4 with stride 2 in place of pooling; BatchNorm everywhere but at G's output and at D's
    input and output; ReLU and tanh in G, LeakyReLU in D. Channels double at every halving, from `width` next
    to the image.
    """
    steps = halvings(spec.size)
    start = spec.size >> steps
    widths = [spec.width << step for step in range(steps)]
    z_dim, norm_g, norm_d = spec.z_dim + spec.n_classes, _own(spec.norm_g), _own(spec.norm_d)
    up: list[nn.Module] = [nn.Unflatten(1, (z_dim, 1, 1))]
    up += [nn.ConvTranspose2d(z_dim, widths[-1], start, bias=norm_g == "none"), *norm(norm_g, widths[-1]), nn.ReLU()]
    for wide, narrow in pairwise(reversed(widths)):
        up += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=norm_g == "none"), *norm(norm_g, narrow), nn.ReLU()]
    up += [nn.ConvTranspose2d(widths[0], spec.channels, 4, 2, 1), nn.Tanh()]
    down: list[nn.Module] = [nn.Conv2d(spec.channels, widths[0], 4, 2, 1), nn.LeakyReLU(SLOPE)]
    for narrow, wide in pairwise(widths):
        down += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=norm_d == "none"), *norm(norm_d, wide), nn.LeakyReLU(SLOPE)]
    down += [nn.Flatten()]  # the last convolution of the paper, over all pixels, is a linear layer on these
    return Parts(generator=nn.Sequential(*up), body=nn.Sequential(*down), n_features=widths[-1] * start * start)


def _init_dcgan(module: nn.Module, generator: torch.Generator) -> None:
    """``N(0, 0.02)`` for weights, ``N(1, 0.02)`` for scales of a norm, 0 for biases."""
    for name, parameter in module.named_parameters(recurse=False):
        if name == "bias":
            parameter.zero_()
        else:
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, WEIGHT_STD, generator=generator)


def _sngan(spec: PairSpec) -> Parts:
    """Residual players with spectral norm in D (Miyato et al. 2018); see `resnet.py`."""
    steps = halvings(spec.size)
    generator = resnet_generator(
        z_dim=spec.z_dim + spec.n_classes,
        start=spec.size >> steps,
        steps=steps,
        width=spec.width,
        channels=spec.channels,
        kind=_own(spec.norm_g),
    )
    body = resnet_body(steps=steps, width=spec.width, channels=spec.channels, kind=_own(spec.norm_d))
    return Parts(generator=generator, body=body, n_features=spec.width)


_HALVED = [size for size in range(MIN_SIZE, MAX_SIZE + 1) if size % 2 ** halvings(size) == 0]
_HALVED_RULE = "a multiple of 4 in [8, 28], a multiple of 8 in [32, 56], or 64"

NETWORKS: Mapping[str, Network] = {
    "mlp": Network(
        build=_mlp,
        init=_init_mlp,
        sizes=range(MIN_SIZE, MAX_SIZE + 1),
        rule=f"in [{MIN_SIZE}, {MAX_SIZE}]",
        norm_g="none",
        norm_d="none",
        spectral_norm=False,
    ),
    "dcgan": Network(
        build=_dcgan,
        init=_init_dcgan,
        sizes=_HALVED,
        rule=_HALVED_RULE,
        norm_g="batch",
        norm_d="batch",
        spectral_norm=False,
    ),
    "sngan": Network(
        build=_sngan,
        init=init_resnet,
        sizes=_HALVED,
        rule=_HALVED_RULE,
        norm_g="batch",
        norm_d="none",
        spectral_norm=True,
    ),
}
