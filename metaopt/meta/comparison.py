"""Whether one schedule is better than another, from final FIDs paired by task and seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metaopt.errors import ConfigError
from metaopt.meta.objective import TrainingId, log_fid
from metaopt.meta.statistics import Interval, iqm_interval, mean_interval, probability_of_improvement, seeds_needed


@dataclass(frozen=True, kw_only=True)
class OnTask:
    """One schedule against another on one task."""

    task: str
    ratio: Interval
    """Mean of ln(FID / FID of the other) over paired seeds, 95 % bootstrap interval; < 0 is better."""
    seeds: int
    """Paired seeds seen."""
    seeds_needed: float
    """Paired seeds at which an effect of this size is seen four times in five."""
    diverged: int
    """Trainings of the schedule that diverged; each counts as its untrained generator."""
    rival_diverged: int
    """The same of the other."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One schedule against another over all tasks."""

    schedule: str
    rival: str
    tasks: Sequence[OnTask]
    overall: Interval
    """Interquartile mean of ln(FID / FID of the rival) over tasks and seeds; 95 % stratified bootstrap."""
    improvement: Interval
    """Probability that a training with the schedule has a lower FID than one with the rival, mean over tasks."""


@dataclass(frozen=True, kw_only=True)
class Final:
    """How a training ended."""

    fid: float
    """Last FID; of a training that diverged, that of its untrained generator."""
    diverged: bool


def compare(
    schedule: str, rival: str, finals: Mapping[str, Mapping[TrainingId, Final]], random: np.random.Generator
) -> Comparison:
    """Compare two schedules on what both were trained on.

    Args:
        schedule: name of the one.
        rival: name of the other.
        finals: name -> (task, seed) -> how it ended.
        random: draws the bootstraps.

    Raises:
        ConfigError: the two were not trained on the same tasks and seeds.
    """
    ours, theirs = finals[schedule], finals[rival]
    if set(ours) != set(theirs):
        raise ConfigError(f"{schedule!r} and {rival!r} must have the same trainings, but they have not.")
    by_task: dict[str, list[TrainingId]] = {}
    for key in sorted(ours):
        by_task.setdefault(key[0], []).append(key)
    logs = [[(log_fid(ours[key].fid), log_fid(theirs[key].fid)) for key in keys] for keys in by_task.values()]
    ratios = [[a - b for a, b in part] for part in logs]
    return Comparison(
        schedule=schedule,
        rival=rival,
        tasks=[
            OnTask(
                task=task,
                ratio=mean_interval(part, random),
                seeds=len(part),
                seeds_needed=seeds_needed(part) if len(part) > 1 else math.inf,
                diverged=sum(ours[key].diverged for key in by_task[task]),
                rival_diverged=sum(theirs[key].diverged for key in by_task[task]),
            )
            for task, part in zip(by_task, ratios, strict=True)
        ],
        overall=iqm_interval(ratios, random),
        improvement=probability_of_improvement(
            [[a for a, _ in part] for part in logs], [[b for _, b in part] for part in logs], random
        ),
    )
