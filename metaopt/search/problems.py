"""What a candidate is tried on: a GAN to train, or a start to learn."""

from collections.abc import Mapping
from typing import Any

from metaopt.gan import Task
from metaopt.meta.maml.meta_run import MetaRecord, MetaRun
from metaopt.meta.maml.meta_task import MetaTask, meta_groups
from metaopt.schedules import build_schedule
from metaopt.training import Record, Training
from metaopt.training.resources import resources

Problem = Task | MetaTask
AnyRecord = Record | MetaRecord


def identity(problem: Problem) -> str:
    """SHA-256, in hex, over the images; DataError if they cannot be used."""
    return meta_groups(problem).identity if isinstance(problem, MetaTask) else resources(problem).identity


def left_out(problem: Problem) -> Mapping[str, int]:
    """Data set -> number of files in it that cannot be used, and may be left out."""
    if isinstance(problem, MetaTask):
        return meta_groups(problem).left_out
    return {problem.data: resources(problem).n_left_out}


def begun(problem: Problem, family: str, params: Mapping[str, Any], seed: int, device: str) -> Training | MetaRun:
    """A candidate on a problem, before its first update."""
    if isinstance(problem, MetaTask):
        return MetaRun(problem, family, params, seed)
    return Training(problem, build_schedule(family, params), seed, device=device)
