"""What tuning on one task alone found: the trials of an ordinary study, as a pool to compare a schedule with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from metaopt.errors import ConfigError
from metaopt.gan import Task
from metaopt.meta.objective import log_fid
from metaopt.search.export import study_in
from metaopt.search.optuna_space import read_rows
from metaopt.search.study import tasks_of


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The trials of a study that was tuned on one task."""

    task: str
    """The task's name in the evaluation that the pool is for."""
    ln_fids: Sequence[float]
    """Last ln FID of each proposed trial; of one that diverged, that of its untrained generator."""


def tuning_pool(folder: Path, tasks: Sequence[Task]) -> Pool:
    """The pool of the study in `folder`; ConfigError unless it is of one of `tasks`, with one seed."""
    manifest = study_in(folder)
    own = tasks_of(manifest.spec, str(folder))
    if len(own) != 1 or len(manifest.seeds) != 1:
        raise ConfigError(
            f"{folder}: a study must have one task and one seed to say what tuning on that task finds, but has "
            f"{len(own)} and {len(manifest.seeds)}."
        )
    keys = {replace(task, evaluations=1).key(): task.name for task in tasks}
    key = replace(own[0], evaluations=1).key()
    if key not in keys:
        raise ConfigError(
            f"{folder}: the study must be tuned on one of the tasks {', '.join(keys.values())}, with the same "
            f"settings, but its {own[0].name} is another one."
        )
    rows = read_rows(folder, manifest.name)
    reference = rows[0].verdict if rows else None
    proposed = [row.verdict.score for row in rows if not row.name and row.verdict and row.verdict.score is not None]
    if reference is None or not reference.fids or not proposed:
        raise ConfigError(f"{folder}: trials of the study must have ended, but none has.")
    (fid,) = reference.fids.values()
    return Pool(task=keys[key], ln_fids=[log_fid(fid) + score for score in proposed])
