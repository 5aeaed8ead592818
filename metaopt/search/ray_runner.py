"""Run a search on Ray Tune: our own Searcher between Tune and the session."""

import gc
import hashlib
import logging
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from metaopt.errors import ConfigError
from metaopt.search.deaths import ran_out_of_memory
from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.jobs import Slice
from metaopt.search.packing import Share, larger
from metaopt.search.ray_memory import memory_is_a_death
from metaopt.search.ray_room import Room, check_room, nodes, share_of
from metaopt.search.ray_trial import ERROR, JOB, REFUSAL, SLICE, Plan, TrainJob
from metaopt.search.session import Session
from metaopt.search.versions import refuse_node

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # Optuna's journal is the record; Tune's snapshots are never read
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


class _SessionSearcher(Searcher):
    """Hands the session's jobs to Tune and what comes back to the session.

    An exception in a searcher would end Tune with a traceback, so the first one is kept in `failure`, and no
    more jobs are handed out.
    """

    def __init__(self, session: Session, observe: Callable[[Session], None]) -> None:
        super().__init__(metric=None, mode=None)
        self._session, self._observe = session, observe
        self.room: Callable[[], int] = lambda: 1
        self.failure: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        room = self._guarded(self.room) or 0
        if self.failure is None and self._session.n_running >= room:
            return None  # Tune asks again
        job = self._guarded(lambda: self._session.next_job(trial_id))
        if job is None:  # while others run, one of them may die and have to be handed out again
            return None if self.failure is None and self._session.n_running else Searcher.FINISHED
        return {JOB: job}

    def look(self) -> None:
        """See whether there is room at all, also while Tune asks for nothing."""
        self._guarded(self.room)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if SLICE in result:
            self._guarded(lambda: self._session.on_slice(trial_id, result.pop(SLICE)))

    def to_be_stopped(self, trial_id: str, part: Slice) -> bool:
        """Whether a trial should not go on, with `part` still to come in."""
        return bool(self._guarded(lambda: self._session.to_be_stopped(trial_id, part)))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        result = result or {}
        self.on_trial_result(trial_id, result)  # Tune hands the last result in here only
        if REFUSAL in result:
            self._guarded(lambda: refuse_node(result[REFUSAL]))
        elif ran_out_of_memory(result.get(ERROR) or ""):  # of others' memory, maybe
            self._guarded(lambda: self._session.on_death(trial_id, result[ERROR]))
        elif not error:  # errors come with their text in `on_death`
            self._guarded(lambda: self._session.on_end(trial_id, error=result.get(ERROR)))

    def on_death(self, trial_id: str, reason: str) -> None:
        """A job ended by an error outside itself: its worker was killed, or could not start."""
        self._guarded(lambda: self._session.on_death(trial_id, reason))

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Tune writes its own configuration down when it starts, and never reads it here: nothing is kept."""
        return object, ()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the session's own records are what a search is resumed from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""

    def _guarded(self, act: Callable[[], Any]) -> Any:
        if self.failure is not None:
            return None
        try:
            found = act()
            self._observe(self._session)
        except Exception as failure:  # reported by `run_on_ray` once Tune has wound down
            self.failure = failure
            return None
        return found


class _Deaths(tune.Callback):
    def __init__(self, searcher: _SessionSearcher) -> None:
        self._searcher = searcher

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._searcher.look()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        log = Path(trial.error_file) if trial.error_file else None
        self._searcher.on_death(trial.trial_id, log.read_text() if log and log.exists() else "The worker died.")


class _StopOnFailure(tune.Stopper):
    def __init__(self, searcher: _SessionSearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def stop_all(self) -> bool:
        return self._searcher.failure is not None


class _Stopping(FIFOScheduler):
    """Stops a trial that should not go on; its last slice reaches the session when Tune completes it."""

    def __init__(self, searcher: _SessionSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        stop = SLICE in result and self._searcher.to_be_stopped(trial.trial_id, result[SLICE])
        return FIFOScheduler.STOP if stop else FIFOScheduler.CONTINUE


def run_on_ray(session: Session, observe: Callable[[Session], None]) -> None:
    """Work through `session` on the cluster at RAY_ADDRESS, or else on a Ray of this machine, started and ended here.

    Args:
        session: what to do; `observe` is called with it whenever something has happened.
        observe: a reader of the session, for progress.

    Raises:
        ConfigError: no node has room for one trial.
        Exception: what the session or `observe` raised first, once all workers are down.
        KeyboardInterrupt: after an orderly stop; trials that were running are run again on resuming.
    """
    study = session.study
    place = hashlib.sha256(str(session.folder.absolute()).encode()).hexdigest()[:16]
    scratch = Path(tempfile.gettempdir()) / f"metaopt-{os.getuid()}-{place}"
    shutil.rmtree(scratch, ignore_errors=True)
    searcher = _SessionSearcher(session, observe)
    try:
        with started(), memory_is_a_death():
            _tuner(study, session, searcher, scratch).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if searcher.failure is not None:
        raise searcher.failure
    if not session.complete:
        raise KeyboardInterrupt


@contextmanager
def started() -> Iterator[None]:
    """The cluster at RAY_ADDRESS, or else a Ray of this machine that ends with the block; quiet."""
    os.environ.update({key: os.environ.get(key, value) for key, value in _QUIET.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            address = os.environ.get("RAY_ADDRESS", "local")
            dashboard = False if address == "local" else None  # None: leave a running cluster as it is
            try:
                ray.init(
                    address=address,
                    include_dashboard=dashboard,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
            except (RuntimeError, ConnectionError) as error:
                if address == "local":
                    raise
                raise ConfigError(
                    f"RAY_ADDRESS must be that of a cluster which lets this client in, but {address} does not; "
                    f"`metaopt doctor --address {address}` says more."
                ) from error
            logging.getLogger("ray").setLevel(logging.CRITICAL)
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray takes it, and aborts
            yield
        finally:
            _shut_down()


def _shut_down() -> None:
    # Ray ends the whole process if another thread's garbage collection drops a reference while it shuts down
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def _tuner(study: AnyStudy, session: Session, searcher: _SessionSearcher, scratch: Path) -> tune.Tuner:
    search, n = study.spec.search, len(session.trainings)
    tasks = tuple(session.trainings.task(i) for i in range(n))
    schedule = study.reference.schedule.family, study.reference.schedule.params
    share = share_of(search.resources, tasks, session.stages, schedule, session.folder)
    if search.workers == "auto":
        check_room(share)
    searcher.room = Room(share, None if search.workers == "auto" else search.workers)
    session.takes = str(share)
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
            scheduler=_Stopping(searcher) if session.stops_early else None,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=study.name,
            storage_path=str(scratch),
            verbose=0,
            stop=_StopOnFailure(searcher),
            callbacks=[_Deaths(searcher)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )


def _bundle(share: Share) -> dict[str, float]:
    """A share as Ray counts it."""
    memory = {} if share.memory_mb is None else {"memory": share.memory_mb * 2**20}
    return {"CPU": share.cpu, "GPU": share.gpu, **memory}
