"""Families of few-shot image tasks: groups of images (a class, or a whole set), and episodes drawn from them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metaopt.errors import ConfigError, DataError
from metaopt.gan import Corruption, Dataset, corrupted, to_unit
from metaopt.gan.images import content_hash, with_channels
from metaopt.meta.maml.games import Round
from metaopt.meta.maml.inner import Episode

_SEEDS = 2**31


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Images of one kind: what a task of few shots is drawn from."""

    name: str
    x: Tensor
    """Images, uint8 (N, C, H, H)."""
    identity: str
    """SHA-256, in hex, of the images."""


def groups_of(dataset: Dataset, classes: Sequence[int] | None, *, channels: int) -> list[Group]:
    """One group for each of `classes`, or one of the whole set where that is None; gray or colour as asked for.

    DataError where a class has no images.
    """
    if classes is None:
        x = with_channels(dataset.x.cpu(), channels)
        return [Group(name=dataset.name, x=x, identity=content_hash(x))]
    if dataset.y is None:
        raise DataError(f"{dataset.name}: images must have classes to be grouped by them, but have none.")
    found = []
    for c in classes:
        x = with_channels(dataset.x[dataset.y == c].cpu(), channels)
        if len(x) == 0:
            raise DataError(f"{dataset.name}: `classes` must be of its {dataset.n_classes} classes, but got {c}.")
        found.append(Group(name=f"{dataset.name}-{c}", x=x, identity=content_hash(x)))
    return found


@dataclass(frozen=True, kw_only=True)
class Shots:
    """How an episode is drawn from a group. Checked at birth: ConfigError names the rule and the value."""

    shots: int
    """Images to adapt to, >= 1."""
    query: int
    """Other images, to be judged on, >= 1."""
    batch: int
    """Images of one update, drawn with replacement, >= 1."""
    rounds: int
    """Batches of each set that are drawn; inner loops that are longer take them again, >= 1."""
    z_dim: int
    """Length of the noise vector, >= 1."""
    corruptions: Sequence[Corruption] = (Corruption(),)
    """An episode has one of these, each as likely; the images to be judged on stay clean."""

    def __post_init__(self) -> None:
        for field in ("shots", "query", "batch", "rounds", "z_dim"):
            if getattr(self, field) < 1:
                raise ConfigError(f"`{field} >= 1` must hold, but got {field}={getattr(self, field)!r}.")
        if not self.corruptions:
            raise ConfigError("`corruptions` must have one entry or more, but has none.")


def check_groups(groups: Sequence[Group], shots: Shots) -> None:
    """DataError unless each group has images enough for an episode."""
    least = shots.shots + shots.query
    for group in groups:
        if len(group.x) < least:
            raise DataError(
                f"{group.name}: a group must have at least {least} images, {shots.shots} to adapt to and "
                f"{shots.query} to be judged on, but has {len(group.x)}."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A few images of a group, and the others."""

    group: Group
    support: Tensor
    """uint8 (shots, C, H, H), corrupted where the episode is."""
    rest: Tensor
    """uint8 (N - shots, C, H, H), clean."""


def draw(group: Group, shots: Shots, random: torch.Generator) -> Drawn:
    """`shots.shots` images to adapt to, with one of the corruptions."""
    order = torch.randperm(len(group.x), generator=random)
    corruption = shots.corruptions[int(torch.randint(len(shots.corruptions), (), generator=random))]
    seed = int(torch.randint(_SEEDS, (), generator=random))
    support = group.x[order[: shots.shots]]
    if not corruption.off:
        dataset = Dataset(name=group.name, x=support, y=None, content_hash=group.identity)
        support = corrupted(dataset, replace(corruption, seed=seed)).x
    return Drawn(group=group, support=support, rest=group.x[order[shots.shots :]])


def rounds_of(images: Tensor, shots: Shots, random: torch.Generator, *, n: int | None = None) -> list[Round]:
    """`n` batches (None: `shots.rounds`) drawn from uint8 images (N, C, H, H) with replacement, and noise."""
    unit, batch = to_unit(images), shots.batch
    return [
        Round(
            real=unit[torch.randint(len(images), (batch,), generator=random)],
            z=torch.randn(batch, shots.z_dim, generator=random),
            u=torch.rand(batch, 1, 1, 1, generator=random),
        )
        for _ in range(shots.rounds if n is None else n)
    ]


def image_episode(groups: Sequence[Group], shots: Shots, n: int, random: torch.Generator) -> Episode[Round]:
    """`n` stacked episodes, each of a group drawn uniformly: ``shots.rounds`` batches to adapt to, as many to judge.

    Tensors are (n, batch, ...). A class and a whole data set are as likely as each other.
    """
    supports, queries = [], []
    for _ in range(n):
        drawn = draw(groups[int(torch.randint(len(groups), (), generator=random))], shots, random)
        supports.append(rounds_of(drawn.support, shots, random))
        queries.append(rounds_of(drawn.rest[: shots.query], shots, random))
    return Episode(support=stack_rounds(supports), query=stack_rounds(queries))


def stack_rounds(rounds: Sequence[Sequence[Round]]) -> list[Round]:
    """Rounds of several episodes as those of stacked players: the first of each, the second of each, ..."""
    return [Round(*(torch.stack(tensors) for tensors in zip(*of, strict=True))) for of in zip(*rounds, strict=True)]


def identity_of(groups: Sequence[Group]) -> str:
    """SHA-256, in hex, over all images of all groups, in order."""
    return hashlib.sha256(" ".join(group.identity for group in groups).encode()).hexdigest()
