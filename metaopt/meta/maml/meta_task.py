"""What an initialisation is learned on: groups of images, networks, and how an episode is drawn and judged."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch

from metaopt.errors import ConfigError, DataError
from metaopt.gan import LOSSES, Corruption, Pair, PairSpec, load_dataset, make_pair
from metaopt.gan.choice import unknown
from metaopt.gan.datasets import check_spec
from metaopt.meta.maml.games import all_but_heads, game_players
from metaopt.meta.maml.groups import Group, Shots, check_groups, groups_of, identity_of
from metaopt.metrics import find_features

_AT_LEAST_1 = ("batch", "shots", "query", "meta_batch", "budget", "evaluations", "adapt_steps")
_FEWEST_REAL = 6
_CLEAN = (Corruption(),)


@dataclass(frozen=True, kw_only=True)
class GroupSpec:
    """A data set whose classes, or which as a whole, few-shot tasks are drawn from."""

    data: str
    """Spec of the data set; see `load_dataset`."""
    classes: tuple[int, ...] | None = None
    """Each is a group of its own; None: the whole set is one."""


@dataclass(frozen=True, kw_only=True)
class MetaTask:
    """One problem of learning where to start. Checked at birth: ConfigError names the rule and the value.

    What is learned on and what it is judged on share no class and no data set taken as a whole.
    """

    name: str
    """Prefix of metric names."""
    train: tuple[GroupSpec, ...]
    """What episodes are drawn from."""
    validation: tuple[GroupSpec, ...]
    """What a start is judged on."""
    test: tuple[GroupSpec, ...] = ()
    """What nothing is chosen by."""
    spec: PairSpec
    """The networks; their size and channels are those of the images. No batch norm and no spectral norm."""
    loss: str = "non_saturating"
    """A key of `LOSSES`, of one that cuts no weights."""
    r1: float = 0.0
    """Weight of R1, >= 0."""
    corruptions: tuple[Corruption, ...] = _CLEAN
    """An episode's images to adapt to have one of these: noise, missing pixels and patches, foreign images."""
    shots: int = 25
    """Images to adapt to, >= 1."""
    query: int = 50
    """Other images of the group that an episode's outer loss is on, >= 1."""
    batch: int = 16
    """Images of one update, >= 1."""
    meta_batch: int = 4
    """Episodes of an outer iteration, >= 1."""
    budget: int
    """Outer iterations, >= 1."""
    evaluations: int = 1
    """Judgements, >= 1, equally spaced, the last at the end."""
    adapt_steps: int = 50
    """Steps of the adaptations that a start is judged by, >= 1."""
    n_samples: int = 200
    """Generated images of each of them, >= 2."""
    features: str = "small"
    """What images are compared by."""

    def __post_init__(self) -> None:
        for field, least in {**dict.fromkeys(_AT_LEAST_1, 1), "n_samples": 2}.items():
            if getattr(self, field) < least:
                raise ConfigError(f"`{field} >= {least}` must hold, but got {field}={getattr(self, field)!r}.")
        if self.loss not in LOSSES:
            raise ConfigError(unknown("loss", self.loss, LOSSES))
        _check_apart(self.train, self.validation, self.test)
        for corruption in self.corruptions:
            _check_corruption(corruption, (*self.validation, *self.test))
        game_players(self.pair(), LOSSES[self.loss], r1=self.r1)

    def pair(self, seed: int = 0) -> Pair:
        """Networks with the random weights of a seed."""
        return make_pair(self.spec, torch.Generator().manual_seed(seed))

    def episode(self, rounds: int) -> Shots:
        """How episodes are drawn, with so many batches of either set."""
        return Shots(
            shots=self.shots,
            query=self.query,
            batch=self.batch,
            rounds=rounds,
            z_dim=self.spec.z_dim,
            corruptions=self.corruptions,
        )

    def key(self) -> str:
        """SHA-256, in hex, over all fields but `name`."""
        content: dict[str, Any] = asdict(self)
        del content["name"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class MetaGroups:
    """The images of a task."""

    train: Sequence[Group]
    validation: Sequence[Group]
    test: Sequence[Group]
    identity: str
    """SHA-256, in hex, of all images."""
    n_left_out: Mapping[str, int]
    """Data set -> number of its files that were left out, as they are no images."""


def meta_groups(task: MetaTask) -> MetaGroups:
    """Load them, once per process; DataError unless each has images enough, and those of one part are in no other."""
    loaded = [_loaded(specs, task.spec.size, task.spec.channels) for specs in (task.train, task.validation, task.test)]
    train, validation, test = (groups for groups, _ in loaded)
    find_features(task.features)
    check_groups(train, task.episode(1))
    _check_unseen([*train, *validation], test)
    _check_unseen(train, validation)
    least = task.shots + _FEWEST_REAL
    for group in (*validation, *test):
        if len(group.x) < least:
            raise DataError(
                f"{group.name}: a group to judge on must have at least {least} images, {task.shots} to adapt to and "
                f"{_FEWEST_REAL} to compare with, but has {len(group.x)}."
            )
    identity = identity_of([*train, *validation, *test])
    n_left_out = {data: n for _, found in loaded for data, n in found.items()}
    return MetaGroups(train=train, validation=validation, test=test, identity=identity, n_left_out=n_left_out)


def _check_unseen(seen: Sequence[Group], unseen: Sequence[Group]) -> None:
    """DataError where most images of an unseen group are among the seen ones, by whatever name."""
    known = {image.numpy().tobytes() for group in seen for image in group.x}
    for group in unseen:
        shared = sum(image.numpy().tobytes() in known for image in group.x)
        if 2 * shared > len(group.x):
            raise DataError(
                f"{group.name}: images to judge on must not be learned on, but {shared} of {len(group.x)} are."
            )


@lru_cache(maxsize=8)
def _loaded(specs: tuple[GroupSpec, ...], size: int, channels: int) -> tuple[list[Group], dict[str, int]]:
    """Groups, and data set -> number of files that were left out."""
    groups: list[Group] = []
    n_left_out: dict[str, int] = {}
    for spec in specs:
        dataset = load_dataset(spec.data, size=size)
        groups += groups_of(dataset, spec.classes, channels=channels)
        n_left_out[spec.data] = dataset.n_left_out
    return groups, n_left_out


def heads_only(task: MetaTask) -> Mapping[Any, frozenset[str]]:
    """What an algorithm that moves the heads alone freezes."""
    return all_but_heads(task.pair())


def _check_apart(train: Sequence[GroupSpec], validation: Sequence[GroupSpec], test: Sequence[GroupSpec]) -> None:
    if not train or not validation:
        raise ConfigError("`train` and `validation` must have one group or more each, but one of them has none.")
    for part, specs in (("train", train), ("validation", validation), ("test", test)):
        for spec in specs:
            check_spec(spec.data)
            if spec.classes is not None and (not spec.classes or len(set(spec.classes)) < len(spec.classes)):
                raise ConfigError(
                    f"`classes` of {part} must be different ones, one or more, but got {list(spec.classes)}."
                )
    seen: dict[str, set[int] | None] = {}
    for spec in (*train, *validation, *test):
        before = seen.get(spec.data, set())
        classes = None if spec.classes is None else set(spec.classes)
        if spec.data in seen and (before is None or classes is None or before & classes):
            shared = "" if before is None or classes is None else f" of class {min(before & classes)}"
            raise ConfigError(
                f"Groups of `train`, `validation` and `test` must not share images, but {spec.data!r}{shared} is there "
                "twice."
            )
        seen[spec.data] = None if classes is None else (before or set()) | classes


def _check_corruption(corruption: Corruption, unseen: Sequence[GroupSpec]) -> None:
    """What an episode can have: something wrong with its images, which must not come from what is judged on."""
    for field in ("n_kept", "label_noise"):
        if getattr(corruption, field):
            raise ConfigError(
                f"`corruption.{field}` must be left out, since an episode has a number of shots and no classes, "
                f"but got {getattr(corruption, field)!r}."
            )
    if corruption.foreign_data in [spec.data for spec in unseen]:
        raise ConfigError(f"`corruption.foreign_data` must not be judged on, but {corruption.foreign_data!r} is.")
