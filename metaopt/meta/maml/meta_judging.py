"""What a start is worth: adaptations to groups that it was not learned on, the same ones for every candidate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from metaopt.gan import Pair
from metaopt.gan.random_streams import generator_for
from metaopt.meta.maml.adaptation import AdaptationMeasures, Follow, Target, followed, measured, target
from metaopt.meta.maml.games import Round, images_of
from metaopt.meta.maml.groups import draw, rounds_of, stack_rounds
from metaopt.meta.maml.initialisation import Initialisation
from metaopt.meta.maml.inner import Inner, Players, Rates, Weights, stacked
from metaopt.meta.maml.meta_task import MetaTask, meta_groups
from metaopt.meta.objective import log_fid
from metaopt.metrics import find_features

DRAWS = 2
"""Adaptations to each group, to other images of it."""
TEST_DRAWS = 5
"""The same of groups that nothing is chosen by."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One adaptation: images, batches and noise."""

    group: str
    support: Tensor
    """uint8 (shots, C, H, H)."""
    rounds: list[Round]
    z: Tensor
    """Noise to judge by, (n_samples, z_dim)."""
    target: Target


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A start, and how it adapts."""

    pair: Pair
    """Networks, whose own weights do not matter."""
    players: Players[Round]
    weights: Weights
    rates: Rates | None
    inner: Inner
    how: Follow


@lru_cache(maxsize=2)
def cases(task: MetaTask, *, test: bool = False) -> list[Case]:
    """All adaptations to the groups of `validation`, or of `test`, group by group; they depend on the task alone."""
    found, extractor, shots = [], find_features(task.features), task.episode(task.adapt_steps)
    groups = meta_groups(task)
    for i, group in enumerate(groups.test if test else groups.validation):
        for number in range(TEST_DRAWS if test else DRAWS):
            random = generator_for(f"{'tested' if test else 'judged'} by {i} {number}")
            drawn = draw(group, shots, random)
            rounds = rounds_of(drawn.support, shots, random)
            z = torch.randn(task.n_samples, task.spec.z_dim, generator=random)
            against = target(drawn.support, drawn.rest, extractor)
            found.append(Case(group=group.name, support=drawn.support, rounds=rounds, z=z, target=against))
    return found


def judged(candidate: Candidate, of: Sequence[Case]) -> dict[str, Any]:
    """Means over all adaptations, of FIDs geometric ones; an adaptation that diverges counts as its start.

    Keys are those of `MetaRecord`; `fid` is NaN where a start makes no finite images.
    """
    before, after = adaptations(candidate, of)
    lost = sum(new is old for old, new in zip(before, after, strict=True))
    return {
        "fid": _geometric_mean([one.fid for one in after]),
        "kid": _mean([one.kid for one in after]),
        "coverage": _mean([one.coverage for one in after]),
        "memorisation": _mean([one.memorisation for one in after]),
        "start_fid": _geometric_mean([one.fid for one in before]),
        "warning": f"adaptation diverged: {lost} of {len(of)}" if lost else "",
    }


def adaptations(candidate: Candidate, of: Sequence[Case]) -> tuple[list[AdaptationMeasures], list[AdaptationMeasures]]:
    """Measures of each case before and after adapting; where that diverged, those of before twice."""
    before, after = (
        [
            measured(images, case.target, generator_for("kid"))
            for images, case in zip(generated(candidate, of, adapted=adapted), of, strict=True)
        ]
        for adapted in (False, True)
    )
    return before, [new if math.isfinite(new.fid) else old for old, new in zip(before, after, strict=True)]


def candidate_of(start: Initialisation, steps: int) -> Candidate:
    """A start as it was kept, adapting for so many steps."""
    pair = start.pair()
    return Candidate(
        pair=pair,
        players=start.players(pair),
        weights=start.weights,
        rates=start.rates,
        inner=start.inner(steps),
        how=start.how,
    )


def generated(candidate: Candidate, of: Sequence[Case], *, adapted: bool) -> list[Tensor]:
    """Images of each case's generator (n_samples, C, H, H), before or after adapting to all cases side by side."""
    n = len(of)
    now: Weights = {
        player: {name: w.detach().expand(n, *w.shape) for name, w in weights.items()}
        for player, weights in candidate.weights.items()
    }
    if adapted:
        rounds = stack_rounds([case.rounds for case in of])
        players = stacked(candidate.players, n)
        *_, now = followed(players, now, rounds, candidate.inner, candidate.rates, how=candidate.how)
    return [
        images_of(candidate.pair, {name: w[i].detach() for name, w in now["g"].items()}, case.z)
        for i, case in enumerate(of)
    ]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _geometric_mean(fids: Sequence[float]) -> float:
    return math.exp(_mean([log_fid(fid) for fid in fids])) if all(map(math.isfinite, fids)) else math.nan
