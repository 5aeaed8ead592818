"""A search without Ray: jobs are trained here, one after the other, as a worker would."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from studies import tiny_study, write_study

from metaopt.schedules import build_schedule
from metaopt.search.jobs import Job, Slice
from metaopt.search.optuna_space import Proposals, TrialRow
from metaopt.search.session import Session
from metaopt.search.study import Study, load_study
from metaopt.search.study_spec import SearchSpec
from metaopt.tracking import NullTracker
from metaopt.training import Training
from metaopt.training.resources import resources


def opened(folder: Path, trials: int = 4, clock: Callable[[], float] = time.monotonic, **changes: Any) -> Session:
    """A session on a tiny study; keys of its `search` may stand among the changes."""
    search: dict[str, Any] = {"trials": trials, "seed": 1, "sampler": "random"}
    ours = {*SearchSpec.model_fields} & {*changes}
    search |= {key: changes.pop(key) for key in sorted(ours)}
    content = tiny_study(search=search, **changes)
    study = load_study(str(write_study(folder, content)))
    return Session(study, folder, hashes(study), Proposals(folder, study), NullTracker(), clock=clock)


def hashes(study: Study) -> list[str]:
    """Identity of the images of each task."""
    return [resources(task).dataset.content_hash for task in study.tasks]


def slices(session: Session, job: Job) -> Iterable[Slice]:
    """What a worker would report for a job."""
    n = session.study.spec.evaluations
    schedule = build_schedule(job.family, job.params)
    for stage in [(job.training,)] if job.kind == "reference" else session.stages:
        trainings = {i: Training(session.trainings.task(i), schedule, session.trainings.id(i)[1]) for i in stage}
        for k in range(1, n + 1):
            yield Slice(records={i: list(t.run(k / n)) for i, t in trainings.items()}, wall_s=0.1)
            if all(training.finding for training in trainings.values()):
                break


def work(session: Session, job_id: str, job: Job) -> None:
    """Work on a job until it is done, or is to be stopped."""
    for part in slices(session, job):
        stop = session.to_be_stopped(job_id, part)
        session.on_slice(job_id, part)
        if stop:
            break
    session.on_end(job_id)


def work_all(session: Session, most: int = 100) -> list[TrialRow]:
    """Work on all jobs, or on some."""
    for k in range(most):
        job = session.next_job(str(k))
        if job is None:
            break
        work(session, str(k), job)
    return session.rows()
