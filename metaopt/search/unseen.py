"""The best start of a study against its reference, on groups that nothing was chosen by."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from metaopt.meta.maml import load_initialisation
from metaopt.meta.maml.adaptation import AdaptationMeasures
from metaopt.meta.maml.meta_judging import Case, adaptations, candidate_of, cases
from metaopt.meta.maml.meta_task import MetaTask
from metaopt.meta.objective import log_fid
from metaopt.meta.statistics import Interval, iqm_interval
from metaopt.search.folder import START, trial_folder
from metaopt.search.winner import REFERENCE
from metaopt.whole_file import write_whole

FILE = "test.json"


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """What the groups of `test` say: five adaptations to each, the same ones for both starts."""

    trial: int
    """Number of the best trial."""
    groups: Mapping[str, float]
    """Mean ln(FID / FID of the reference) on each."""
    ratio: Interval
    """Interquartile mean of all, with a 95 % bootstrap interval over adaptations: for these two starts and groups."""
    kid: float
    """Mean KID."""
    reference_kid: float


def judged_on_unseen(folder: Path, task: MetaTask, best: int) -> Unseen:
    """Adapt both, and write `test.json`.

    Raises:
        ArtifactError: a trial's start is not whole.
        StorageError: the disk is full.
    """
    of = cases(task, test=True)
    ours, theirs = (_measures(folder, task, number, of) for number in (best, REFERENCE))
    by_group: dict[str, list[float]] = {}
    for case, one, other in zip(of, ours, theirs, strict=True):
        by_group.setdefault(case.group, []).append(log_fid(one.fid) - log_fid(other.fid))
    found = Unseen(
        trial=best,
        groups={group: math.fsum(ratios) / len(ratios) for group, ratios in by_group.items()},
        ratio=iqm_interval(list(by_group.values()), np.random.default_rng(0)),
        kid=math.fsum(one.kid for one in ours) / len(of),
        reference_kid=math.fsum(one.kid for one in theirs) / len(of),
    )
    write_whole(folder / FILE, json.dumps(asdict(found), indent=2) + "\n")
    return found


def _measures(folder: Path, task: MetaTask, number: int, of: list[Case]) -> list[AdaptationMeasures]:
    start = load_initialisation(trial_folder(folder, number) / START)
    return adaptations(candidate_of(start, task.adapt_steps), of)[1]
