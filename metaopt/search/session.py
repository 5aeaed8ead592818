"""What the driver of a search decides, free of any engine: which job is next, what a result means, where it goes.

The order of writing makes a kill at any moment harmless: a trial's numbers go to the spool first, then Optuna is
told, then its run is closed; a resumed session closes the runs that a dead driver had no time to close.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metaopt.errors import MetaoptError, StorageError
from metaopt.gan import LOSSES, Task
from metaopt.meta import TrainingCurve, TrainingId, curve, outcome, score
from metaopt.meta.objective import log_fid
from metaopt.meta.racing import LEVEL, worse_by_chance
from metaopt.meta.reference import Recorded, find, store, training_key
from metaopt.schedules import ScheduleArtifact, save_schedule
from metaopt.search.folder import grid_name, references, trial_folder, trial_uid
from metaopt.search.jobs import Job, Slice
from metaopt.search.optuna_space import Proposal, Proposals, TrialRow, Verdict
from metaopt.search.study import Study
from metaopt.tracking import Point, Status, Tracker
from metaopt.training import Record


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """The trainings of every candidate, in order: each task with each seed."""

    tasks: Sequence[Task]
    seeds: Sequence[int]

    def __len__(self) -> int:
        return len(self.tasks) * len(self.seeds)

    def id(self, index: int) -> TrainingId:
        """Name of the task, and seed."""
        return self.task(index).name, self.seeds[index % len(self.seeds)]

    def task(self, index: int) -> Task:
        """The task of a training."""
        return self.tasks[index // len(self.seeds)]

    def stages(self, *, racing: bool) -> tuple[tuple[int, ...], ...]:
        """All trainings at once; in a race one after the other, all tasks with the first seed first."""
        if not racing:
            return (tuple(range(len(self))),)
        n = len(self.seeds)
        return tuple((task * n + seed,) for seed in range(n) for task in range(len(self.tasks)))

    def label(self, index: int) -> str:
        """Prefix of metric names: the task, and the seed where there are several."""
        name, seed = self.id(index)
        return name if len(self.seeds) == 1 else f"{name}/seed{seed}"


class Session:
    """The state of one run of the driver. Every method may raise StorageError when the disk is full."""

    def __init__(
        self,
        study: Study,
        folder: Path,
        identities: Sequence[str],
        proposals: Proposals,
        tracker: Tracker,
    ) -> None:
        """Take up the study where its records stand.

        Args:
            study: the study.
            folder: its folder, claimed and locked by the caller.
            identities: of each task's resources.
            proposals: the record of trials.
            tracker: where numbers go.
        """
        self.study, self.folder, self.proposals, self.tracker = study, folder, proposals, tracker
        self.trainings = Trainings(tasks=study.tasks, seeds=study.spec.seeds)
        self._keys = [
            training_key(
                self.trainings.task(i),
                study.reference.schedule,
                self.trainings.id(i)[1],
                identities[i // len(study.spec.seeds)],
            )
            for i in range(len(self.trainings))
        ]
        self._reference = {i: found for i, key in enumerate(self._keys) if (found := find(references(folder), key))}
        self._untaken = [i for i in range(len(self.trainings)) if i not in self._reference]
        self._jobs: dict[str, Job] = {}
        self._records: dict[str, dict[int, list[Record]]] = {}
        self._grids: dict[str, dict[int, list[bytes]]] = {}
        self._wall_s: dict[str, float] = {}
        self._again: list[Job] = []
        self._lost: dict[str, str] = {}
        self._deaths: Counter[tuple[int, int]] = Counter()
        self._unscored: list[tuple[int, dict[int, list[Record]], float, str]] = []
        self._close_runs()

    # What a worker does next

    def next_job(self, job_id: str) -> Job | None:
        """The reference trainings first, then candidates; None once there is nothing left to hand out."""
        job = self._next(job_id)
        if job is not None:
            self._jobs[job_id] = job
            self._records[job_id], self._grids[job_id] = {}, {}
        return job

    def _next(self, job_id: str) -> Job | None:
        if self._again:
            return self._again.pop(0)
        if self._untaken:
            schedule = self.study.reference.schedule
            return Job(
                kind="reference",
                family=schedule.family,
                params=schedule.params,
                training=self._untaken.pop(0),
            )
        proposal = self.proposals.ask(job_id)
        if proposal is None:
            return None
        self._open_run(proposal)
        if self._is_reference(proposal):  # it has been trained already, piece by piece
            self._unscored.append((proposal.number, {}, 0.0, ""))
            self._score_what_can_be()
            return self._next(job_id)
        return Job(kind="candidate", family=self.study.family.name, params=proposal.params, number=proposal.number)

    def _is_reference(self, proposal: Proposal) -> bool:
        return dict(proposal.params) == dict(self.study.reference.params)

    # What a worker has done

    def on_slice(self, job_id: str, part: Slice) -> None:
        """Take in new records of a running job."""
        job = self._jobs[job_id]
        self._wall_s[job_id] = part.wall_s
        for i, records in part.records.items():
            self._records[job_id].setdefault(i, []).extend(records)
        for i, grid in part.grids.items():
            self._grids[job_id].setdefault(i, []).append(grid)
        if job.kind == "candidate":
            self._log(job.number, part.records)
            for i, grid in part.grids.items():
                self._keep_grid(job.number, i, len(self._grids[job_id][i]), grid)

    def out_of_the_race(self, job_id: str, part: Slice) -> bool:
        """Whether a candidate, with `part` still to be taken in, is clearly worse than the best trial so far.

        Paired on the trainings that it has finished. Judged whenever one has ended.
        """
        job = self._jobs[job_id]
        if job.kind == "reference" or any(new[-1].outcome is None for new in part.records.values()):
            return False
        best = min((row for row in self.rows() if row.state == "COMPLETE"), key=_score, default=None)
        if best is None or best.verdict is None:
            return False
        before = self._records[job_id]
        records = before | {i: [*before.get(i, []), *new] for i, new in part.records.items()}
        differences = [
            log_fid(_final_fid(curve(found))) - log_fid(best.verdict.fids[self.trainings.label(i)])
            for i, found in records.items()
        ]
        p = worse_by_chance(differences)
        if p >= LEVEL:
            return False
        self._lost[job_id] = (
            f"race lost to trial {best.number} after {len(differences)} of {len(self.trainings)} trainings, p {p:.3f}"
        )
        return True

    def on_end(self, job_id: str, *, error: str | None = None) -> None:
        """A job is over: finished, stopped early, or broken by `error`."""
        job = self._jobs.pop(job_id)
        records, grids = self._records.pop(job_id), self._grids.pop(job_id)
        wall_s = self._wall_s.pop(job_id, 0.0)
        if job.kind == "reference":
            if error is not None:
                raise MetaoptError(f"The reference training of {self.trainings.label(job.training)} failed: {error}")
            self._keep_reference(job.training, records[job.training], grids.get(job.training, []))
            return
        if error is not None:
            self._tell(job.number, Verdict(status="error", reason=error, wall_s=wall_s))
            return
        self._unscored.append((job.number, records, wall_s, self._lost.pop(job_id, "")))
        self._score_what_can_be()

    def _keep_reference(self, i: int, records: Sequence[Record], grids: Sequence[bytes]) -> None:
        self._reference[i] = Recorded(records=tuple(records), grids=tuple(grids))
        store(references(self.folder), self._keys[i], self._reference[i])
        self._score_what_can_be()

    def on_death(self, job_id: str, reason: str) -> None:
        """The worker of a job died: not the schedule's fault, so it is handed out once more."""
        job = self._jobs[job_id]
        self._deaths[job.number, job.training] += 1
        if self._deaths[job.number, job.training] > 1:
            self.on_end(job_id, error=reason)
            return
        for kept in (self._jobs, self._records, self._grids):
            del kept[job_id]
        self._lost.pop(job_id, None)
        self._wall_s.pop(job_id, None)
        self._again.append(job)

    @property
    def complete(self) -> bool:
        """Whether the study has all its trials, and each has ended."""
        rows = self.rows()
        return len(rows) >= self.study.spec.search.trials and all(row.verdict is not None for row in rows)

    def rows(self) -> list[TrialRow]:
        """All trials so far."""
        return self.proposals.rows()

    @property
    def n_running(self) -> int:
        """Jobs in the hands of workers."""
        return len(self._jobs)

    # Scores

    def _score_what_can_be(self) -> None:
        if len(self._reference) < len(self.trainings):
            return
        while self._unscored:
            number, records, wall_s, lost = self._unscored.pop(0)
            if not records:
                records = {i: list(recorded.records) for i, recorded in self._reference.items()}
                wall_s = sum(recorded.records[-1].wall_s for recorded in self._reference.values())
                self._log(number, records)
                for i, recorded in self._reference.items():
                    for evaluation, grid in enumerate(recorded.grids, start=1):
                        self._keep_grid(number, i, evaluation, grid)
            self._tell(number, self._verdict(records, wall_s, lost))

    def _verdict(self, records: Mapping[int, Sequence[Record]], wall_s: float, lost: str) -> Verdict:
        curves = {self.trainings.id(i): curve(part) for i, part in records.items()}
        reference = {self.trainings.id(i): curve(part.records) for i, part in self._reference.items()}
        ended = outcome(list(curves.values())) if len(curves) == len(reference) else None
        n = self.study.spec.evaluations if ended else min((len(c.fids) for c in curves.values()), default=1) - 1
        complete = len(curves) == len(reference)
        scores = [score(curves, reference, k, self.study.objective) for k in range(1, n + 1)] if complete else []
        if lost:  # what it has reached, for samplers that learn from pruned trials
            theirs = {key: reference[key] for key in curves}
            scores = [score(curves, theirs, self.study.spec.evaluations, self.study.objective)]
        reasons = [lost] if lost else []
        reasons += [f"{self.trainings.label(i)}: {said}" for i, part in records.items() if (said := _said(part))]
        return Verdict(
            status=str(ended) if ended else "pruned",
            score=scores[-1] if complete and scores else None,
            scores=scores,
            fids={self.trainings.label(i): _final_fid(curve(part)) for i, part in records.items()},
            reason="; ".join(reasons),
            wall_s=wall_s,
        )

    def _tell(self, number: int, verdict: Verdict) -> None:
        if isinstance(self.tracker.error, OSError):  # told now, it would never be trained again, and its curves missing
            raise StorageError(f"{self.folder} could not be written: {self.tracker.error.strerror}.")
        if verdict.score is not None:
            self._keep_schedule(number, verdict.score)
        self.proposals.tell(number, verdict)
        self._close_run(number, verdict, None)

    # Tracking

    def uid(self, number: int) -> str:
        """The trial's identity in MLflow."""
        return trial_uid(self.study.name, self.study.key, number)

    def _open_run(self, proposal: Proposal) -> None:
        self.tracker.start_trial(
            self.uid(proposal.number),
            name=f"{proposal.number:05d}" + (f" {proposal.name}" if proposal.name else ""),
            params={"family": self.study.family.name, **proposal.params},
            tags={"metaopt.number": str(proposal.number), "metaopt.schedule": proposal.name},
        )

    def _log(self, number: int, records: Mapping[int, Sequence[Record]]) -> None:
        now_ms = time.time_ns() // 1_000_000
        points = [
            Point(
                key=f"{self.trainings.label(i)}/{key}",
                value=value,
                step=round(record.iteration),
                timestamp_ms=now_ms,
            )
            for i, part in records.items()
            for record in part
            for key, value in _metrics(record).items()
        ]
        self.tracker.log(self.uid(number), points)

    def _keep_grid(self, number: int, i: int, evaluation: int, png: bytes) -> None:
        path = trial_folder(self.folder, number) / grid_name(self.trainings.label(i), evaluation)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)
        except OSError as error:
            raise StorageError(f"{path} could not be written: {error.strerror}.") from error
        self.tracker.log_artifact(self.uid(number), path, "samples")

    def _keep_schedule(self, number: int, value: float) -> None:
        schedule = ScheduleArtifact(
            family=self.study.family.name,
            params=self.proposals.rows()[number].params,
            ideal_d_loss=LOSSES[self.study.tasks[0].loss].ideal_d_loss,
            trained_on=tuple(task.name for task in self.study.tasks),
            score=value,
            provenance={"study": self.study.name, "trial": number, "trial_uid": self.uid(number)},
        )
        path = save_schedule(schedule, trial_folder(self.folder, number) / "schedule.json")
        self.tracker.log_artifact(self.uid(number), path)

    def _close_run(self, number: int, verdict: Verdict, time_ms: int | None) -> None:
        metrics = {} if verdict.score is None else {"score": verdict.score}
        status: Status = "FAILED" if verdict.status == "error" else "FINISHED"
        self.tracker.end_trial(
            self.uid(number),
            status=status,
            metrics=metrics | {"wall_s": verdict.wall_s},
            tags={"metaopt.status": verdict.status, "metaopt.reason": verdict.reason},
            time_ms=time_ms,
        )

    def _close_runs(self) -> None:
        for row in self.proposals.rows():
            if row.verdict is not None and row.ended is not None:
                self._close_run(row.number, row.verdict, round(row.ended.timestamp() * 1000))


def _score(row: TrialRow) -> tuple[float, int]:
    return row.verdict.score if row.verdict and row.verdict.score is not None else math.inf, row.number


def _final_fid(of: TrainingCurve) -> float:
    return of.fid_at(len(of.fids) - 1)


def _said(records: Sequence[Record]) -> str:
    """Why a training ended as it did, and the kinds of its warnings."""
    kinds = dict.fromkeys(
        warning.partition(":")[0] for record in records if record.warning for warning in record.warning.split("; ")
    )
    return ", ".join(filter(None, (records[-1].reason, *kinds)))


_NOT_LOGGED = ("iteration", "progress", "d_updates", "g_updates", "outcome", "reason", "warning", "wall_s")


def _metrics(record: Record) -> dict[str, float]:
    values: dict[str, Any] = asdict(record)
    return {key: float(value) for key, value in values.items() if key not in _NOT_LOGGED and value is not None}
