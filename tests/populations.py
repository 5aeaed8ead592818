"""A population without Ray: intervals are trained here, one after the other, as a worker would."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from sessions import hashes, work
from studies import tiny_study, write_study

from metaopt.search.interval import IntervalRun
from metaopt.search.jobs import Job, Slice
from metaopt.search.optuna_space import Proposals, TrialRow
from metaopt.search.session import Session
from metaopt.search.study import load_study
from metaopt.tracking import NullTracker, Tracker

RANGES = {"lr_g": {"low": 1e-5, "high": 1e-2}, "lr_d": {"low": 1e-5, "high": 1e-2}}
TASKS = [{"data": "digits", "budget": 60, "n_samples": 100, "width": 12, "ema": 0.0, "network": "mlp"}]


def population_study(method: str = "pbt", trials: int = 5, **changes: Any) -> dict[str, Any]:
    """A study of a population of four and the reference; keys of `population` may stand among the changes."""
    population: dict[str, Any] = {"method": method}
    population |= {key: changes.pop(key) for key in ("share", "factors", "resample", "first") if key in changes}
    content = tiny_study(
        tasks=TASKS,
        schedule={"family": "constant", "ranges": RANGES},
        evaluations=3,
        search={"trials": trials, "seed": 1, "population": population},
    )
    return content | changes


def session_of(folder: Path, content: dict[str, Any], tracker: Tracker | None = None) -> Session:
    """A driver on the study, in `folder`."""
    study = load_study(str(write_study(folder, content)))
    return Session(study, folder, hashes(study), Proposals(folder, study), tracker or NullTracker())


def interval_of(session: Session, job: Job) -> Iterator[Slice]:
    """What a worker reports of an interval."""
    n = len(session.trainings)
    tasks, seeds = ([session.trainings.task(i) for i in range(n)], [session.trainings.id(i)[1] for i in range(n)])
    run = IntervalRun(deepcopy(job), tasks, seeds, "cpu", session.study.spec.evaluations)
    while not run.over:
        yield run.advance()


def train(session: Session, job_id: str, job: Job) -> None:
    """Work on any job to its end."""
    if job.kind != "interval":
        work(session, job_id, job)
        return
    for part in interval_of(session, job):
        session.on_slice(job_id, part)
    session.on_end(job_id)


def train_all(session: Session, most: int = 1000) -> list[TrialRow]:
    """Work on all jobs, or on some."""
    for k in range(most):
        job = session.next_job(str(k))
        if job is None:
            break
        train(session, str(k), job)
    return session.rows()


def outcome(rows: list[TrialRow]) -> list[Any]:
    """What must not depend on how often the driver was stopped: all but time and memory."""
    return [(row.number, row.state, row.params, _said(row)) for row in rows]


def _said(row: TrialRow) -> dict[str, Any]:
    assert row.verdict is not None
    return {
        key: value for key, value in vars(row.verdict).items() if key not in ("wall_s", "memory_mb", "gpu_memory_mb")
    }
