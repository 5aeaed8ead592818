"""A learned start with all that adapting it takes: networks, loss, schedule, weights, and where they come from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

import torch
from torch import Tensor, nn

from metaopt.errors import ArtifactError, ConfigError
from metaopt.gan import LOSSES, NETWORKS, Pair, PairSpec, make_pair
from metaopt.gan.choice import unknown
from metaopt.gan.image_folder import printable
from metaopt.gan.images import check_size
from metaopt.gan.layers import Discriminator
from metaopt.gan.networks import check_norm, resolved
from metaopt.meta.maml.adaptation import Follow
from metaopt.meta.maml.algorithms import find_algorithm
from metaopt.meta.maml.games import Round, game_players
from metaopt.meta.maml.inner import Inner, Players, Rates, Weights
from metaopt.schedules import build_schedule
from metaopt.schedules.families import check_params, find_family, is_finite_number
from metaopt.schedules.turns import Player
from metaopt.user_code import is_import_path

MAX_WIDTH = 2**16
"""Of `width` and `z_dim`: what a file asks for is bounded before it is built."""
MAX_BATCH = 4096
_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("loss", "family", "how", "algorithm"), str),
    **dict.fromkeys(("steps", "batch"), int),
    **dict.fromkeys(("params", "provenance", "frozen", "weights"), Mapping),
    "trained_on": tuple,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Initialisation:
    """Where adapting starts, and how it goes on. Tensors are copied, to the CPU. ConfigError where a rule is broken."""

    spec: PairSpec
    """What the networks are built from: no classes, and no batch norm or spectral norm, which have buffers."""
    loss: str
    """A key of `LOSSES`, of one that cuts no weights."""
    r1: float = 0.0
    """Weight of R1 in D's loss, >= 0."""
    weights: Weights
    """Of both players, "g" and "d": float32, finite."""
    rates: Rates | None = None
    """Learned multipliers of the rates of all weights that move; Adam does not read them."""
    family: str
    """Of the inner loop's schedule: a key of `FAMILIES`."""
    params: Mapping[str, float]
    """Of that family, all of them."""
    steps: int
    """Inner steps that it was learned for, >= 1."""
    batch: int
    """Images of one update, in [1, 4096]."""
    how: Follow = "sgd"
    """What adapts it: plain gradient steps, or Adam."""
    frozen: Mapping[Player, frozenset[str]] = field(default_factory=dict)
    """Weights that adapting leaves as they are."""
    algorithm: str
    """What it was learned with: a key of `ALGORITHMS`."""
    trained_on: tuple[str, ...] = ()
    """Names of what it was learned on."""
    score: float | None = None
    """What it was worth there, by the measure that `provenance` names."""
    provenance: Mapping[str, str | int | float | None] = field(default_factory=dict)
    """Where it comes from: seeds, versions, what it was adapted to."""

    def __post_init__(self) -> None:
        _check_spec(self.spec)
        _check_plain(self)
        weights = _checked_weights(self.weights)
        checked = {
            "params": check_params(find_family(self.family), self.params),
            "weights": weights,
            "frozen": _checked_frozen(self.frozen, weights),
            "provenance": dict(self.provenance),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.rates is not None:
            object.__setattr__(self, "rates", _checked_rates(self.rates, self))

    def pair(self) -> Pair:
        """New networks with these weights, on the CPU. Networks by import path are imported: their module runs.

        Raises:
            ConfigError: that module cannot be imported, or what it builds breaks the contract of networks.
            ArtifactError: the weights do not fit; all names and shapes that differ are listed.
        """
        pair = make_pair(self.spec, torch.Generator().manual_seed(0))
        load_into(self, pair)
        return pair

    def inner(self, steps: int | None = None) -> Inner:
        """The inner loop of its schedule, over `steps` (>= 1; None: its own)."""
        return Inner(schedule=build_schedule(self.family, self.params), steps=self.steps if steps is None else steps)

    def players(self, pair: Pair) -> Players[Round]:
        """The two networks as players of its loss."""
        return game_players(pair, LOSSES[self.loss], r1=self.r1, frozen=self.frozen)


@torch.no_grad()
def load_into(init: Initialisation, pair: Pair) -> None:
    """Copy the weights into networks of one's own, which keep their type and device.

    ArtifactError lists all names and shapes that differ; then nothing is copied.
    """
    _refuse(_misfits(init.weights, pair))
    for player, network in _networks(pair).items():
        for name, weight in network.named_parameters():
            weight.copy_(init.weights[player][name])


def check_fit(init: Initialisation) -> None:
    """ArtifactError that lists all names and shapes where the weights do not fit the networks of the spec.

    Networks of `NETWORKS` are built without memory for their weights. Those by import path are not imported here;
    `Initialisation.pair` checks them.
    """
    if is_import_path(init.spec.network):
        return
    with torch.device("meta"):
        parts = NETWORKS[init.spec.network].build(resolved(init.spec))
        d = Discriminator(parts.body, parts.n_features, 0)
    _refuse(_misfits(init.weights, Pair(generator=parts.generator, discriminator=d, z_dim=init.spec.z_dim)))


def _networks(pair: Pair) -> Mapping[Player, nn.Module]:
    return {"g": pair.generator, "d": pair.discriminator}


def _misfits(weights: Weights, pair: Pair) -> list[str]:
    """Each weight whose shape is not the one that is needed, and each buffer, of which no file has any."""
    found = []
    for player, network in _networks(pair).items():
        there = {name: str(tuple(weight.shape)) for name, weight in weights[player].items()}
        needed = {name: str(tuple(weight.shape)) for name, weight in network.named_parameters()}
        needed |= {name: f"a buffer {tuple(buffer.shape)}" for name, buffer in network.named_buffers()}
        for name in (*needed, *sorted(there.keys() - needed.keys())):
            has, needs = there.get(name, "nothing"), needed.get(name, "nothing")
            if has != needs:
                found.append(f"{player}.{printable(name)}: {has} is there, {needs} is needed")
    return found


def _refuse(misfits: list[str]) -> None:
    if misfits:
        raise ArtifactError(f"weights must fit the networks, but {len(misfits)} do not: {'; '.join(misfits)}.")


def _check_spec(spec: PairSpec) -> None:
    check_size(spec.size)
    for name in ("width", "z_dim"):
        if getattr(spec, name) > MAX_WIDTH:
            raise ConfigError(f"`{name} <= {MAX_WIDTH}` must hold, but got {name}={getattr(spec, name)!r}.")
    check_norm("norm_g", spec.norm_g)
    check_norm("norm_d", spec.norm_d)
    if spec.n_classes:
        raise ConfigError(f"`n_classes == 0` must hold for an initialisation, but got {spec.n_classes!r}.")
    if is_import_path(spec.network):
        module, _, name = spec.network.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), name)):
            raise ConfigError(f"network {spec.network!r} must be package.module:function, of names as Python has them.")
        return
    own = resolved(spec)
    if "batch" in (own.norm_g, own.norm_d) or own.spectral_norm:
        raise ConfigError(
            f"The networks of an initialisation must have group norm or none, and no spectral norm, but got "
            f"norm_g={own.norm_g}, norm_d={own.norm_d}, spectral_norm={own.spectral_norm}."
        )


def _check_plain(init: Initialisation) -> None:
    """ConfigError unless everything but spec, parameters and tensors keeps its rule."""
    for name, kind in _KINDS.items():
        value = getattr(init, name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ConfigError(f"`{name}` must be of type {kind.__name__}, but got {value!r}.")
    if init.steps < 1:
        raise ConfigError(f"`steps >= 1` must hold, but got steps={init.steps!r}.")
    if not 1 <= init.batch <= MAX_BATCH:
        raise ConfigError(f"`1 <= batch <= {MAX_BATCH}` must hold, but got batch={init.batch!r}.")
    if not (is_finite_number(init.r1) and init.r1 >= 0):
        raise ConfigError(f"`r1` must be a finite number >= 0, but got {init.r1!r}.")
    if not (init.score is None or is_finite_number(init.score)):
        raise ConfigError(f"`score` must be a finite number or None, but got {init.score!r}.")
    losses = [name for name, loss in LOSSES.items() if loss.weight_clip is None]
    for name, value, known in (("loss", init.loss, losses), ("how", init.how, get_args(Follow))):
        if value not in known:
            raise ConfigError(unknown(f"`{name}` of an initialisation", value, known))
    find_algorithm(init.algorithm)
    if not all(isinstance(name, str) for name in init.trained_on):
        raise ConfigError(f"`trained_on` must be names, but got {init.trained_on!r}.")
    for key, entry in init.provenance.items():
        if not (isinstance(key, str) and (entry is None or isinstance(entry, str) or is_finite_number(entry))):
            raise ConfigError(f"`provenance` must have strings, finite numbers or None, but got {key!r}: {entry!r}.")


def _checked_weights(weights: Weights) -> dict[Player, dict[str, Tensor]]:
    if set(weights) != {"g", "d"}:
        raise ConfigError(f"`weights` must be of the players 'g' and 'd', but are of {sorted(weights)}.")
    return {player: {name: _copied(f"{player}.{name}", w) for name, w in of.items()} for player, of in weights.items()}


def _copied(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32:
        raise ConfigError(f"{printable(name)} must be of float32, but is of {tensor.dtype}.")
    if not bool(tensor.isfinite().all()):
        raise ConfigError(f"{printable(name)} must be finite, but has NaN or infinity.")
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _checked_frozen(frozen: Mapping[Player, Iterable[str]], weights: Weights) -> dict[Player, frozenset[str]]:
    for player, names in frozen.items():
        if player not in weights:
            raise ConfigError(f"`frozen` must be of the players 'g' and 'd', but has {player!r}.")
        if outside := sorted(set(names) - set(weights[player])):
            raise ConfigError(f"`frozen` must name weights of {player!r}, but names {outside}.")
    return {player: frozenset(names) for player, names in frozen.items()}


def _checked_rates(rates: Rates, init: Initialisation) -> Rates:
    """A copy, if there is one of the right shape for each weight that moves."""
    values: dict[Player, dict[str, Tensor]] = {}
    for player, of in init.weights.items():
        moving = [name for name in of if name not in init.frozen.get(player, ())]
        given = rates.values.get(player, {})
        if wrong := sorted(set(given) ^ set(moving)):
            raise ConfigError(f"`rates` must be of all weights of {player!r} that move, but differ in {wrong}.")
        values[player] = {name: _copied(f"rate.{player}.{name}", given[name]) for name in moving}
        for name, value in values[player].items():
            there, needed = tuple(value.shape), (init.steps,) if rates.per_step else tuple(of[name].shape)
            if there != needed:
                raise ConfigError(f"rate.{player}.{printable(name)}: {there} is there, {needed} is needed.")
    return replace(rates, values=values)
