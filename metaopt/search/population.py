"""What becomes of a population at an evaluation: who goes on from whose weights, with which controls. Pure functions.

Ray's own PopulationBasedTraining and PB2 keep the population in the memory of the driver: `Tuner.restore` forgets it,
its synchronous mode has hung after that, and it cannot be had beside a searcher. So a population is run like every
other search here: each decision follows from what the study's folder holds, and a resumed study takes the same ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from metaopt.schedules.steps import as_steps
from metaopt.search.pb2 import Observed, most_promising
from metaopt.search.ranges import Range
from metaopt.search.study_spec import PopulationSpec

Params = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A member at an evaluation."""

    number: int
    params: Params
    """In force since the evaluation before."""
    score: float
    """There, finite; lower is better."""
    before: float
    """Score at the evaluation before, of the member whose weights it started from; 0 where untrained."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a member does until the next evaluation."""

    source: int
    """Whose trainings it goes on with: its own, or those of a member that it copies."""
    params: Params


@dataclass(frozen=True, kw_only=True)
class Interval:
    """One interval of the training that a member has come from: which member trained it, with what."""

    evaluation: int
    """At which it ended, from 1."""
    trial: int
    params: Params


def decided(
    rules: PopulationSpec, space: Mapping[str, Range], seed: int, past: Sequence[Sequence[Standing]]
) -> dict[int, Step]:
    """What each member does next, by its number.

    The worst `rules.share` of the members each copy one of as many best ones, drawn at random, where that one is
    better (truncation selection, Jaderberg et al. 2017, arXiv:1711.09846, section 3); all others go on as they are.
    A copy gets other params:

    - `pbt`: each is drawn anew from its range with probability `rules.resample`, else multiplied by one of
      `rules.factors`, cut to its range.
    - `pb2`: those with the greatest upper confidence bound on the improvement of the score until the next evaluation
      (Parker-Holder et al. 2020, arXiv:2002.02518); see `metaopt.search.pb2`.

    Args:
        rules: the study's.
        space: parameter -> range; one that is held stays.
        seed: of the search: the same past gives the same decision.
        past: the members at each evaluation so far.
    """
    now, evaluation = past[-1], len(past)
    steps = {one.number: Step(source=one.number, params=one.params) for one in now}
    copies = copied(now, rules.share, Random(f"{seed}/{evaluation}/copied"))
    of = {one.number: one for one in now}
    pending = [steps[number].params for number in steps if number not in copies]
    for number, source in copies.items():
        purpose = f"{seed}/{evaluation}/{number}"
        if rules.method == "pbt":
            params = perturbed(of[source].params, space, rules, Random(purpose))
        else:
            params = _promising(space, past, pending, purpose)
        steps[number] = Step(source=source, params=params)
        pending.append(params)
    return steps


def copied(now: Sequence[Standing], share: float, random: Random) -> dict[int, int]:
    """Member -> the better one that it copies, for the worst `share` of them, in the order of their numbers."""
    ranking = sorted(now, key=lambda one: (one.score, one.number))
    n = min(math.ceil(share * len(ranking)), len(ranking) // 2)
    best, worst = ranking[:n], sorted(ranking[len(ranking) - n :], key=lambda one: one.number)
    drawn = {one.number: random.choice(best) for one in worst}
    return {one.number: drawn[one.number].number for one in worst if drawn[one.number].score < one.score}


def perturbed(params: Params, space: Mapping[str, Range], rules: PopulationSpec, random: Random) -> dict[str, float]:
    """Each parameter drawn anew, or multiplied; see `decided`."""
    found = {}
    for name, where in space.items():
        anew, u, factor = random.random() < rules.resample, random.random(), random.choice(rules.factors)
        value = where.at(u) if anew else params[name] * factor
        found[name] = min(max(value, where.low), where.high)
    return found


def _promising(
    space: Mapping[str, Range], past: Sequence[Sequence[Standing]], pending: Sequence[Params], purpose: str
) -> dict[str, float]:
    varied = {name: where for name, where in space.items() if where.low < where.high}

    def cube(params: Params) -> list[float]:
        return [where.place(params[name]) for name, where in varied.items()]

    observed = [
        Observed(x=cube(one.params), t=t, y=one.before - one.score)
        for t, standings in enumerate(past, start=1)
        for one in standings
    ]
    best = most_promising(observed, [cube(params) for params in pending], len(past) + 1, purpose, n=len(varied))
    held = {name: where.low for name, where in space.items() if name not in varied}
    found = held | {name: where.at(u) for (name, where), u in zip(varied.items(), best, strict=True)}
    return {name: found[name] for name in space}


def lineage(
    number: int, first: Mapping[int, Params], steps: Sequence[Mapping[int, Step]], evaluation: int
) -> list[Interval]:
    """The training that a member has at an evaluation, interval by interval: a training like any other.

    Args:
        number: the member's.
        first: params of every member in the first interval.
        steps: what was decided at the first evaluation, the second, ...
        evaluation: from 1.
    """
    found = []
    for k in range(evaluation, 0, -1):
        step = steps[k - 2][number] if k > 1 else Step(source=number, params=first[number])
        found.append(Interval(evaluation=k, trial=number, params=step.params))
        number = step.source
    return found[::-1]


def schedule_of(intervals: Sequence[Interval], evaluations: int) -> dict[str, float]:
    """Parameters of the family `steps` that replay them, each `1 / evaluations` of a training."""
    return as_steps([((one.evaluation - 1) / evaluations, one.params) for one in intervals])


def followed(family: str, params: Mapping[str, Any], intervals: Sequence[Mapping[str, Any]]) -> tuple[str, Any]:
    """Family and parameters of the schedule that a trial was trained with.

    Args:
        family: of the study.
        params: that the trial began with.
        intervals: as a verdict has them; empty where they never changed.
    """
    if not intervals:
        return family, params
    return "steps", schedule_of([Interval(**one) for one in intervals], len(intervals))
