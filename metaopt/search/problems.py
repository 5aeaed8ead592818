"""What a candidate is tried on: a GAN to train, or a start to learn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metaopt.gan import Task
from metaopt.meta.maml.meta_run import MetaRecord, MetaRun
from metaopt.meta.maml.meta_task import MetaTask, meta_groups
from metaopt.schedules import build_schedule
from metaopt.training import Record, Training
from metaopt.training.resources import resources

Problem = Task | MetaTask
AnyRecord = Record | MetaRecord


@dataclass(frozen=True, kw_only=True)
class Images:
    """What is known of a problem's images once they were looked at."""

    identity: str
    """SHA-256, in hex, over all of them."""
    n_left_out: Mapping[str, int]
    """Data set -> number of its files that were left out, as they are no images."""


def images(problem: Problem) -> Images:
    """Load them, once per process; DataError if they cannot be used."""
    if isinstance(problem, MetaTask):
        groups = meta_groups(problem)
        return Images(identity=groups.identity, n_left_out=groups.n_left_out)
    found = resources(problem)
    return Images(identity=found.identity, n_left_out={problem.data: found.n_left_out})


def begun(problem: Problem, family: str, params: Mapping[str, Any], seed: int, device: str) -> Training | MetaRun:
    """A candidate on a problem, before its first update."""
    if isinstance(problem, MetaTask):
        return MetaRun(problem, family, params, seed)
    return Training(problem, build_schedule(family, params), seed, device=device)
