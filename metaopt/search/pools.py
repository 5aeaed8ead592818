"""What tuning on one task alone found: the trials of an ordinary study, as a pool to compare a schedule with."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from metaopt.errors import ConfigError
from metaopt.gan import Task
from metaopt.meta.objective import log_fid
from metaopt.search.export import study_in
from metaopt.search.folder import trained_on
from metaopt.search.optuna_space import read_rows
from metaopt.search.study import tasks_of
from metaopt.training.resources import resources


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The trials of a study that was tuned on one task."""

    task: str
    """The task's name in the evaluation that the pool is for."""
    ln_fids: Sequence[float]
    """Last ln FID of each proposed trial; of one that diverged, that of its untrained generator."""


def tuning_pool(folder: Path, tasks: Sequence[Task], *, allow_import: bool = False) -> Pool:
    """The pool of the study in `folder`.

    ConfigError unless it has ended, with one seed, on one of `tasks` (but for its evaluations) and on the images that
    this has now, and unless it names code, which must be allowed.
    """
    manifest = study_in(folder)
    own = tasks_of(manifest.spec, str(folder), allow_import=allow_import)
    if len(own) != 1 or len(manifest.seeds) != 1:
        raise ConfigError(
            f"{folder}: a study must have one task and one seed to say what tuning on that task finds, but has "
            f"{len(own)} and {len(manifest.seeds)}."
        )
    name = _same_task(folder, own[0], tasks)
    if manifest.trained_on != trained_on(own, [resources(task).identity for task in own]):
        raise ConfigError(f"{folder}: images, features and metaopt must be those of the study, but have changed since.")
    ended = [row for row in read_rows(folder, manifest.name) if row.verdict is not None]
    found = [log_fid(fid) for row in ended if not row.name and row.verdict for fid in row.verdict.fids.values()]
    wanted = manifest.spec["search"]["trials"]
    if len(ended) < wanted or not found:
        raise ConfigError(f"{folder}: all {wanted} trials of the study must have ended, but {len(ended)} have.")
    return Pool(task=name, ln_fids=found)


def _same_task(folder: Path, own: Task, tasks: Sequence[Task]) -> str:
    """Name of the one of `tasks` that the study has; ConfigError naming the fields that keep the nearest one apart."""
    apart = {task.name: _differences(own, task) for task in tasks}
    name = min(apart, key=lambda one: len(apart[one]))
    if apart[name]:
        raise ConfigError(
            f"{folder}: the study must be tuned on one of the tasks, but it differs from {name} in "
            f"{', '.join(apart[name])}."
        )
    return name


def _differences(one: Task, other: Task) -> list[str]:
    return [
        field.name
        for field in fields(Task)
        if field.name not in ("name", "evaluations") and getattr(one, field.name) != getattr(other, field.name)
    ]
