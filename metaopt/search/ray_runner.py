"""Run a search on Ray Tune, on a cluster or on this machine alone."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from metaopt.errors import BudgetError, ConfigError
from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.packing import Share, larger
from metaopt.search.ray_handing import Deaths, Handing, SessionSearcher, StopOnFailure
from metaopt.search.ray_memory import memory_is_a_death, results_are_let_go
from metaopt.search.ray_room import Room, check_room, nodes, share_of
from metaopt.search.ray_start import started
from metaopt.search.ray_trial import JOB, Plan, TrainJob
from metaopt.search.session import Session


def run_on_ray(session: Session, observe: Callable[[Session], None]) -> None:
    """Work through `session` on the cluster at RAY_ADDRESS, or else on a Ray of this machine, started and ended here.

    Args:
        session: what to do; `observe` is called with it whenever something has happened.
        observe: a reader of the session, for progress.

    Raises:
        ConfigError: no node has room for one trial.
        BudgetError: a budget was over before any trial had a score.
        Exception: what the session or `observe` raised first, once all workers are down.
        KeyboardInterrupt: after an orderly stop; trials that were running are run again on resuming.
    """
    study = session.study
    place = hashlib.sha256(str(session.folder.absolute()).encode()).hexdigest()[:16]
    scratch = Path(tempfile.gettempdir()) / f"metaopt-{os.getuid()}-{place}"
    shutil.rmtree(scratch, ignore_errors=True)
    searcher = SessionSearcher(session, observe)
    try:
        with started(), memory_is_a_death(), results_are_let_go():
            _tuner(study, session, searcher, scratch).fit()
            spent = session.budget.over()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if searcher.failure is not None:
        raise searcher.failure
    if session.complete:
        return
    if spent and not session.scored:
        raise BudgetError(f"No trial has a score, and {spent}. Reference trainings that ended are kept.")
    raise KeyboardInterrupt


def _tuner(study: AnyStudy, session: Session, searcher: SessionSearcher, scratch: Path) -> tune.Tuner:
    search, n = study.spec.search, len(session.trainings)
    tasks = tuple(session.trainings.task(i) for i in range(n))
    schedule = study.reference.schedule.family, study.reference.schedule.params
    if session.budget.counts_gpus and search.resources == "auto" and not any(node.gpu >= 1 for node in nodes()):
        raise ConfigError(
            "`search.gpu_budget_s` needs trials on a GPU, but no node has one now: start one that has, or leave it out."
        )
    share = share_of(search.resources, tasks, session.stages, schedule, session.folder)
    if search.workers == "auto":
        check_room(share)
    searcher.room = Room(share, None if search.workers == "auto" else search.workers)
    session.takes, session.budget.gpu = str(share), share.gpu
    plan = Plan(
        tasks=tasks,
        seeds=tuple(session.trainings.id(i)[1] for i in range(n)),
        evaluations=study.spec.evaluations,
        share=share,
        stages=session.stages,
        limit_s=search.evaluation_limit_s,
    )

    def placed(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([_bundle(larger(share, nodes()) if config[JOB].larger else share)])

    trainable = tune.with_resources(tune.with_parameters(TrainJob, plan=plan), placed)
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=Handing(searcher),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=study.name,
            storage_path=str(scratch),
            verbose=0,
            stop=StopOnFailure(searcher),
            callbacks=[Deaths(searcher)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )


def _bundle(share: Share) -> dict[str, float]:
    """A share as Ray counts it."""
    memory = {} if share.memory_mb is None else {"memory": share.memory_mb * 2**20}
    return {"CPU": share.cpu, "GPU": share.gpu, **memory}
