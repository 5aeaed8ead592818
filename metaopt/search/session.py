"""What the driver of a search decides, free of any engine: which job is next, what a result means, where it goes.

The order of writing makes a kill at any moment harmless: a trial's numbers go to the spool first, then Optuna is
told, then its run is closed; a resumed session closes the runs that a dead driver had no time to close.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from metaopt.errors import MetaoptError, StorageError
from metaopt.meta.maml import Initialisation
from metaopt.search.budget import Budget
from metaopt.search.deaths import explained, in_a_line, is_silent, lost_its_node, ran_out_of_memory
from metaopt.search.export import front_of
from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.jobs import Job, Slice
from metaopt.search.judging import judge
from metaopt.search.optuna_space import Proposal, Proposals, TrialRow, Verdict
from metaopt.search.population_run import PopulationRun, population_of
from metaopt.search.reference_runs import ReferenceRuns
from metaopt.search.running import Ended, Running
from metaopt.search.stopping import Stopping
from metaopt.search.study import Study
from metaopt.search.trainings import Trainings
from metaopt.search.trial_runs import TrialRuns
from metaopt.tracking import Tracker

log = logging.getLogger(__name__)

_SILENCES = 10
"""Times that the worker of a job may not answer: its node is lost, but a death of which Ray hears late looks alike."""


class Session:
    """The state of one run of the driver. Every method may raise StorageError when the disk is full."""

    def __init__(
        self,
        study: AnyStudy,
        folder: Path,
        identities: Sequence[str],
        proposals: Proposals,
        tracker: Tracker,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take up the study where its records stand.

        Args:
            study: the study.
            folder: its folder, claimed and locked by the caller.
            identities: of each task's resources.
            proposals: the record of trials.
            tracker: where numbers go.
            clock: seconds that only rise.
        """
        self._clock = clock
        self.study, self.folder, self.proposals, self.tracker = study, folder, proposals, tracker
        horizons = study.spec.search.horizons if isinstance(study, Study) else (1.0,)
        self.trainings = Trainings(tasks=study.tasks, seeds=study.spec.seeds, horizons=tuple(horizons))
        self._runs = TrialRuns(study, folder, self.trainings, tracker)
        self._references = ReferenceRuns(study, folder, self.trainings, identities)
        self.population = population_of(study, folder, self.trainings)
        self._running: dict[str, Running] = {}
        self._again: list[Job] = []
        self._deaths: Counter[tuple[int, int, int]] = Counter()
        self._silences: Counter[tuple[int, int, int]] = Counter()
        self._failures: Counter[tuple[int, int, int]] = Counter()
        self._unscored: list[Ended] = []
        self.takes = ""
        """What a trial occupies, once that is known."""
        self.budget = Budget(study, clock)
        self._stopping = Stopping(study, self.trainings, self._references, proposals, self.budget)
        for row in self.rows():
            if row.verdict is not None and row.ended is not None:
                self._runs.close(row.number, row.verdict, round(row.ended.timestamp() * 1000))

    # What a worker does next

    def next_job(self, job_id: str, *, placed: bool = True) -> Job | None:
        """The reference trainings first, then candidates; None once there is nothing left to hand out.

        Where a worker for it must still be found (not `placed`), `on_placed` says that it was.
        """
        job = self._next(job_id)
        if job is not None:
            self._running[job_id] = Running(job=job, placed=placed, heard=self._clock())
        return job

    def on_placed(self, job_id: str, placed: bool) -> None:
        """A worker was found for a job, or must be found after all."""
        self._running[job_id].placed, self._running[job_id].heard = placed, self._clock()

    def _next(self, job_id: str) -> Job | None:
        if self.budget.over():
            return None
        if self._again:
            return self._again.pop(0)
        reference = self._references.next_job()
        if reference is not None:
            return reference
        proposal = self._asked(job_id)
        if proposal is None:
            return None if self.population is None else self._next_interval(self.population)
        self._runs.open(proposal)
        if self._is_reference(proposal):  # it has been trained already, piece by piece
            self._unscored.append(Ended(number=proposal.number))
            self._score_what_can_be()
            return self._next(job_id)
        return Job(kind="candidate", family=self.study.family.name, params=proposal.params, number=proposal.number)

    def _asked(self, job_id: str) -> Proposal | None:
        """The next candidate; the members of a population only join it."""
        proposal = self.proposals.ask(job_id)
        while self.population is not None and proposal is not None and not proposal.name:
            self._runs.open(proposal)
            proposal = self.proposals.ask(job_id)
        return proposal

    def _next_interval(self, population: PopulationRun) -> Job | None:
        """What a member trains next, or to wait for those who train, where there will be more to do."""
        self._settle(population)
        job = population.next_job()
        if job is None and population.goes_on and self._others_train():
            return Job(kind="wait", family="", params={})
        return job

    def _others_train(self) -> bool:
        """Whether jobs are being trained, and none waits for the place that a worker without work would keep."""
        working = [one for one in self._running.values() if one.job.kind != "wait"]
        return bool(working) and all(one.placed for one in working)

    def _settle(self, population: PopulationRun) -> None:
        """Take the decisions for which all is there, and give the members at their end their scores."""
        population.join(self.rows())
        if not self._references.complete:
            return
        ended = population.settle(self._references.records)
        self._unscored += [Ended(number=number, records=population.records(number)) for number in ended]
        self._score_what_can_be()
        if ended:
            population.join(self.rows())

    def _waits(self, population: PopulationRun) -> bool:
        """Whether there is still nothing for a worker that waits."""
        self._settle(population)
        return not self._again and not population.has_work and population.goes_on and self._others_train()

    def _is_reference(self, proposal: Proposal) -> bool:
        return dict(proposal.params) == dict(self.study.reference.params)

    # What a worker has done

    def on_slice(self, job_id: str, part: Slice) -> None:
        """Take in new records of a running job."""
        running = self._running[job_id]
        job = running.job
        self.budget.train(part.wall_s - running.wall_s, larger=job.larger)
        running.wall_s, running.heard = part.wall_s, self._clock()
        running.memory_mb, running.gpu_memory_mb = part.memory_mb, part.gpu_memory_mb
        running.starts.update(part.starts)
        for i, records in part.records.items():
            running.records.setdefault(i, []).extend(records)
        for i, grid in part.grids.items():
            running.grids.setdefault(i, []).append(grid)
        if job.kind in ("candidate", "interval"):
            self._runs.log(job.number, part.records)
            for i, grid in part.grids.items():
                self._runs.keep_grid(job.number, i, job.evaluation or len(running.grids[i]), grid)
        if self.population is not None and job.kind == "interval" and part.records:
            self.population.keep(job, part)

    def to_be_stopped(self, job_id: str, part: Slice) -> bool:
        """Whether a job, with `part` still to be taken in, should not go on; of a candidate see `Stopping`."""
        running = self._running[job_id]
        if running.job.kind == "wait" and self.population is not None:
            return not self._waits(self.population)
        if running.job.kind != "candidate":
            return False
        running.lost = self._stopping.reason(running, part)
        return bool(running.lost)

    @property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """Trainings of a candidate that advance together, one stage after the other."""
        return self.trainings.stages(racing=self._stopping.racing)

    @property
    def stops_early(self) -> bool:
        """Whether a job may be stopped before its end."""
        return self._stopping.racing or self.proposals.prunes or self.population is not None or self.budget.limited

    def on_end(self, job_id: str, *, error: str | None = None) -> None:
        """A job is over: finished, stopped early, or broken by `error`, of which the study may allow some."""
        job = self._running[job_id].job
        if error is not None and job.kind != "wait":
            self._failures[_place(job)] += 1
            if self._failures[_place(job)] <= self.study.spec.search.retries:
                self._count_silence(self._running[job_id])
                self._train_again(job_id, job, error)
                return
        self._end(job_id, error)

    def _end(self, job_id: str, error: str | None) -> None:
        running = self._running.pop(job_id)
        job, starts = running.job, running.starts
        if self.population is not None:
            self.population.leave(job)
        if job.kind == "reference":
            if error is not None:
                raise MetaoptError(f"The reference training of {self.trainings.label(job.training)} failed: {error}")
            i = job.training
            self._references.keep(i, running.records[i], running.grids.get(i, []), starts.get(i))
            self._score_what_can_be()
            return
        if error is not None and job.kind != "wait":
            self._count_silence(running)
            for number in self._concerned(job):
                self._tell(number, Verdict(status="error", reason=error, wall_s=running.wall_s))
            return
        if job.kind != "candidate":
            return
        ended = Ended(
            number=job.number,
            records=running.records,
            wall_s=running.wall_s,
            memory_mb=running.memory_mb,
            gpu_memory_mb=running.gpu_memory_mb,
            lost=running.lost,
            start=starts.get(0),
        )
        self._unscored.append(ended)
        self._score_what_can_be()

    def _concerned(self, job: Job) -> list[int]:
        """Trials that end where a job fails: its own, or, where that has ended before, those that come from it."""
        if self.population is None or self.proposals.row(job.number).verdict is None:
            return [job.number]
        return self.population.needing(job)

    def on_death(self, job_id: str, reason: str) -> None:
        """The worker of a job died: maybe not the schedule's fault, so it is handed out once more.

        One whose node has gone is handed out as often as that happens, one whose worker did not answer, ten times,
        and one that found no memory, with a larger share.
        """
        if self._running[job_id].job.kind == "wait":
            del self._running[job_id]
            return
        job, limit = self._running[job_id].job, self.study.spec.search.evaluation_limit_s
        silent_s = self._count_silence(self._running[job_id])
        explains_itself = ran_out_of_memory(reason) or lost_its_node(reason)
        if limit is not None and silent_s >= limit and not explains_itself:
            reason = f"no evaluation within {limit:g} s, and its process was ended"
        if ran_out_of_memory(reason):
            if job.larger:
                self._end(job_id, f"{explained(reason)}; also with up to twice the share")
                return
            job = replace(job, larger=True)
        else:
            self._silences[_place(job)] += is_silent(reason)
            self._deaths[_place(job)] += not (is_silent(reason) or lost_its_node(reason))
            if self._silences[_place(job)] > _SILENCES:
                reason = f"its worker did not answer {self._silences[_place(job)]} times"
            if self._deaths[_place(job)] > 1 or self._silences[_place(job)] > _SILENCES:
                self._end(job_id, explained(reason))
                return
        self._train_again(job_id, job, reason)

    def _count_silence(self, running: Running) -> float:
        """Count the seconds since a job was heard of as training; how many they are."""
        silent_s = self._clock() - running.heard
        if running.placed:
            self.budget.train(silent_s, larger=running.job.larger)
            running.heard += silent_s
        return silent_s

    def _train_again(self, job_id: str, job: Job, reason: str) -> None:
        del self._running[job_id]
        self._again.append(job)
        what = f"trial {job.number}" if job.kind != "reference" else "a reference training"
        log.warning("%s is run again: %s", what, in_a_line(reason))

    @property
    def complete(self) -> bool:
        """Whether the study has all its trials, or some where a budget is over, and each has ended."""
        rows = [row for row in self.rows() if row.state != "WAITING"]
        if self.budget.over() and self.scored:
            return not self._running  # those that were to be run again have no turn any more
        return len(rows) >= self.study.spec.search.trials and all(row.verdict is not None for row in rows)

    @property
    def scored(self) -> bool:
        """Whether a trial has a score."""
        return any(row.verdict and row.verdict.score is not None for row in self.rows())

    def rows(self) -> list[TrialRow]:
        """All trials so far."""
        return self.proposals.rows()

    def mark_front(self) -> None:
        """Say of each trial of a study with several objectives whether it is on their front, which goes on moving."""
        rows = self.rows()
        front = {row.number for row in front_of(rows)}
        for row in rows:
            if row.verdict is not None and row.verdict.objectives and row.ended is not None:
                tags = {"metaopt.front": str(row.number in front).lower()}
                self._runs.close(row.number, row.verdict, round(row.ended.timestamp() * 1000), tags)

    @property
    def n_running(self) -> int:
        """Jobs in the hands of workers."""
        return len(self._running)

    # Scores

    def _score_what_can_be(self) -> None:
        if not self._references.complete:
            return
        while self._unscored:
            ended = self._unscored.pop(0)
            if not ended.records:
                ended = self._as_reference(ended.number)
            verdict = judge(
                self.study,
                self.trainings,
                ended.records,
                self._references.records,
                wall_s=ended.wall_s,
                lost=ended.lost,
            )
            verdict = replace(verdict, memory_mb=ended.memory_mb, gpu_memory_mb=ended.gpu_memory_mb)
            if self.population is not None and not self.rows()[ended.number].name:
                notes = [self.population.notes(ended.number), verdict.reason]
                history = self.population.history(ended.number)
                verdict = replace(verdict, reason="; ".join(filter(None, notes)), **history)
            self._tell(ended.number, verdict, ended.start)

    def _as_reference(self, number: int) -> Ended:
        """The reference trainings as those of a trial, whose curves and grids are kept."""
        records = {i: list(part) for i, part in self._references.records.items()}
        self._runs.log(number, records)
        for i, recorded in self._references.found.items():
            for evaluation, grid in enumerate(recorded.grids, start=1):
                self._runs.keep_grid(number, i, evaluation, grid)
        wall_s = sum(part[-1].wall_s for part in records.values())
        return Ended(number=number, records=records, wall_s=wall_s, start=self._references.start)

    def _tell(self, number: int, verdict: Verdict, start: Initialisation | None = None) -> None:
        if isinstance(self.tracker.error, OSError):  # told now, it would never be trained again, and its curves missing
            raise StorageError(f"{self.folder} could not be written: {self.tracker.error.strerror}.")
        if verdict.score is not None:
            if start is not None:
                self._runs.keep_start(number, start, verdict)
            elif isinstance(self.study, Study):
                self._runs.keep_schedule(self.study, number, self.proposals.row(number).params, verdict)
        self.proposals.tell(number, verdict)
        self._runs.close(number, verdict)


def _place(job: Job) -> tuple[int, int, int]:
    """What a job trains, whoever trains it."""
    return job.number, job.training, job.evaluation
