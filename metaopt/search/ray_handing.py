"""Between Tune and the session: which worker gets which job, and what becomes of what it reports."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from metaopt.search.deaths import ran_out_of_memory
from metaopt.search.jobs import Job, Slice
from metaopt.search.ray_trial import ERROR, JOB, OVER, REFUSAL, SLICE
from metaopt.search.session import Session
from metaopt.search.versions import refuse_node


class SessionSearcher(Searcher):
    """Hands the session's jobs to Tune's workers and what comes back to the session.

    A Tune trial is a worker and not a job: it takes one job after the other. A trial of its own for each job would
    cost a driver that keeps all of them, and start no second worker where jobs are shorter than its start: Tune gives
    the trial that waits for it the worker that is free first, and ends the one that is starting.

    An exception in a searcher would end Tune with a traceback, so the first one is kept in `failure`, and no
    more jobs are handed out.
    """

    def __init__(self, session: Session, observe: Callable[[Session], None]) -> None:
        super().__init__(metric=None, mode=None)
        self._session, self._observe = session, observe
        self.room: Callable[[], int] = lambda: 1
        self.failure: Exception | None = None
        self._jobs: dict[str, tuple[str, Job]] = {}
        """Tune trial -> the job that its worker has, with its identity."""
        self._held: list[tuple[str, Job]] = []
        """Jobs that wait for a worker with another share than the one that was free."""
        self._unplaced: dict[str, Job] = {}
        """Tune trial -> its first job, while no worker was found for it."""
        self._numbers = itertools.count()

    def suggest(self, trial_id: str) -> Any:
        found = self._held.pop() if self._held else self._next(trial_id, placed=False)
        if found is not None:
            self._jobs[trial_id] = found
            self._unplaced[trial_id] = found[1]
            return {JOB: found[1]}
        # None makes Tune ask again: while others run, one of them may die and have to be handed out again
        return None if self.failure is None and self._session.n_running else Searcher.FINISHED

    def next_job(self, trial_id: str) -> Job | None:
        """What the worker of a Tune trial does after a job that is over; None: nothing, and it is let go."""
        _, before = self._jobs.pop(trial_id)
        found = self._next(trial_id, placed=True)
        if found is None:
            return None
        if found[1].larger != before.larger:  # the worker's share is another one
            self._held.append(found)
            self._guarded(lambda: self._session.on_placed(found[0], False))
            return None
        self._jobs[trial_id] = found
        return found[1]

    def on_start(self, trial_id: str) -> None:
        """A worker was found for the first job of a Tune trial."""
        if self._unplaced.pop(trial_id, None) is not None:
            self._guarded(lambda: self._session.on_placed(self._jobs[trial_id][0], True))

    def _next(self, trial_id: str, *, placed: bool) -> tuple[str, Job] | None:
        """Identity and content of a job that is not in anyone's hands, if there is room for it.

        None while a larger share is waited for: workers that go on for ever would never make room for it.
        """
        room = self._guarded(self.room) or 0
        larger_waits = any(job.larger for job in (*self._unplaced.values(), *(held for _, held in self._held)))
        if self.failure is not None or larger_waits or self._session.n_running >= room:
            return None
        job_id = f"{trial_id}-{next(self._numbers)}"
        job = self._guarded(lambda: self._session.next_job(job_id, placed=placed))
        return None if job is None else (job_id, job)

    def look(self) -> None:
        """See whether there is room at all, also while Tune asks for nothing."""
        self._guarded(self.room)

    def take_in(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Hand what a worker reports to the session; whether its job is over."""
        return bool(self._guarded(lambda: self._take_in(self._jobs[trial_id][0], result)))

    def _take_in(self, job_id: str, result: Mapping[str, Any]) -> bool:
        if REFUSAL in result:
            refuse_node(result[REFUSAL])
        session, over = self._session, bool(result.get(OVER))
        part: Slice | None = result.get(SLICE)
        if part is not None:
            over = over or (session.stops_early and session.to_be_stopped(job_id, part))
            session.on_slice(job_id, part)
        error: str | None = result.get(ERROR)
        if error is not None and ran_out_of_memory(error):  # of others' memory, maybe
            session.on_death(job_id, error)
        elif over:
            session.on_end(job_id, error=error)
        return over

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: a Tune trial ends between two jobs, or with an error that comes in `on_death`."""

    def on_death(self, trial_id: str, reason: str) -> None:
        """A worker ended by an error outside its job: it was killed, or could not start."""
        job_id, _ = self._jobs.pop(trial_id)
        self._unplaced.pop(trial_id, None)
        self._guarded(lambda: self._session.on_death(job_id, reason))

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


class Deaths(tune.Callback):
    def __init__(self, searcher: SessionSearcher) -> None:
        self._searcher = searcher

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._searcher.look()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._searcher.on_start(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        log = Path(trial.error_file) if trial.error_file else None
        self._searcher.on_death(trial.trial_id, log.read_text() if log and log.exists() else "The worker died.")


class StopOnFailure(tune.Stopper):
    def __init__(self, searcher: SessionSearcher) -> None:
        self._searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def stop_all(self) -> bool:
        return self._searcher.failure is not None


class Handing(FIFOScheduler):
    """Hands a worker its next job when one is over, and lets go of it where there is none."""

    def __init__(self, searcher: SessionSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if not self._searcher.take_in(trial.trial_id, result):
            return FIFOScheduler.CONTINUE
        job = self._searcher.next_job(trial.trial_id)
        if job is None:
            return FIFOScheduler.STOP
        trial.temporary_state.ray_actor.take.remote(job)  # comes before the next step, which Tune asks for after this
        return FIFOScheduler.CONTINUE
