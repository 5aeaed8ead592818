"""What a trial leaves: its run in the tracker, and sample grids and its schedule in its folder."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from metaopt.gan import LOSSES
from metaopt.meta.maml import Initialisation, save_initialisation
from metaopt.meta.maml.meta_task import MetaTask
from metaopt.schedules import ScheduleArtifact, save_schedule
from metaopt.search.folder import START, grid_name, trial_folder, trial_uid
from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.optuna_space import Proposal, Verdict
from metaopt.search.population import followed
from metaopt.search.problems import AnyRecord
from metaopt.search.study import Study
from metaopt.search.trainings import Trainings
from metaopt.tracking import Point, Status, Tracker
from metaopt.whole_file import write_whole


class TrialRuns:
    """The traces of all trials of a study. Every method may raise StorageError when the disk is full."""

    def __init__(self, study: AnyStudy, folder: Path, trainings: Trainings, tracker: Tracker) -> None:
        """`folder` is the study's; nothing is written yet."""
        self._study, self._folder, self._trainings, self._tracker = study, folder, trainings, tracker
        self._key = study.key  # a hash over the whole study

    def _uid(self, number: int) -> str:
        """The trial's identity in MLflow."""
        return trial_uid(self._study.name, self._key, number)

    def open(self, proposal: Proposal) -> None:
        """Start the trial's run, or find it again."""
        self._tracker.start_trial(
            self._uid(proposal.number),
            name=f"{proposal.number:05d}" + (f" {proposal.name}" if proposal.name else ""),
            params={"family": self._study.family.name, **proposal.params},
            tags={"metaopt.number": str(proposal.number), "metaopt.schedule": proposal.name},
        )

    def log(self, number: int, records: Mapping[int, Sequence[AnyRecord]]) -> None:
        """Add the curves of new records, by number of the training."""
        now_ms = time.time_ns() // 1_000_000
        points = [
            Point(
                key=f"{self._trainings.label(i)}/{key}",
                value=value,
                step=round(record.iteration),
                timestamp_ms=now_ms,
            )
            for i, part in records.items()
            for record in part
            for key, value in _metrics(record).items()
        ]
        self._tracker.log(self._uid(number), points)

    def keep_grid(self, number: int, i: int, evaluation: int, png: bytes) -> None:
        """Keep the sample grid of training `i` at its `evaluation`-th look."""
        path = trial_folder(self._folder, number) / grid_name(self._trainings.label(i), evaluation)
        write_whole(path, png)
        self._tracker.log_artifact(self._uid(number), path, "samples")

    def keep_start(self, number: int, start: Initialisation, verdict: Verdict) -> None:
        """Keep the start that a trial has learned, with its score and what that was measured by."""
        task = self._trainings.task(0)
        origin: dict[str, str | int | float | None] = {
            "study": self._study.name,
            "trial": number,
            "trial_uid": self._uid(number),
            "score_is": "ln(FID / FID of the reference), after adaptation to the groups of `validation`",
            "fid": next(iter(verdict.fids.values())),
            "reference": " ".join(f"{name}={value}" for name, value in self._study.reference.params.items()),
        }
        if isinstance(task, MetaTask):
            origin |= {"shots": task.shots, "adapt_steps": task.adapt_steps}
        scored = replace(start, score=verdict.score, provenance={**start.provenance, **origin})
        path = save_initialisation(scored, trial_folder(self._folder, number) / START)
        self._tracker.log_artifact(self._uid(number), path)

    def keep_schedule(self, study: Study, number: int, params: Mapping[str, float], verdict: Verdict) -> None:
        """Keep the trial's schedule, with its score; `params` are those that it began with."""
        family, params = followed(study.family.name, params, verdict.intervals)
        schedule = ScheduleArtifact(
            family=family,
            params=params,
            ideal_d_loss=LOSSES[study.tasks[0].loss].ideal_d_loss,
            trained_on=tuple(task.name for task in study.tasks),
            score=verdict.score,
            provenance={"study": study.name, "trial": number, "trial_uid": self._uid(number)},
        )
        path = save_schedule(schedule, trial_folder(self._folder, number) / "schedule.json")
        self._tracker.log_artifact(self._uid(number), path)

    def close(
        self, number: int, verdict: Verdict, time_ms: int | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        """End the trial's run, at `time_ms` (Unix time) where that is not now; again does no harm."""
        metrics = {} if verdict.score is None else {"score": verdict.score}
        metrics |= {key: value for key in ("memory_mb", "gpu_memory_mb") if (value := getattr(verdict, key))}
        status: Status = "FAILED" if verdict.status == "error" else "FINISHED"
        self._tracker.end_trial(
            self._uid(number),
            status=status,
            metrics={**metrics, **verdict.objectives, "wall_s": verdict.wall_s},
            tags={
                "metaopt.status": verdict.status,
                "metaopt.reason": verdict.reason,
                **_ancestry(verdict),
                **(tags or {}),
            },
            time_ms=time_ms,
        )


def _ancestry(verdict: Verdict) -> dict[str, str]:
    """Of a member of a population: what it copied at which evaluation, and who trained what it is."""
    if not verdict.intervals:
        return {}
    copies = [f"trial {source} at evaluation {evaluation}" for evaluation, source in verdict.copied.items()]
    line = [f"trial {one['trial']} to evaluation {one['evaluation']}" for one in verdict.intervals]
    return {"metaopt.copied": ", ".join(copies) or "none", "metaopt.lineage": ", ".join(line)}


_NOT_LOGGED = ("iteration", "progress", "d_updates", "g_updates", "outcome", "reason", "warning", "wall_s")


def _metrics(record: AnyRecord) -> dict[str, float]:
    values = {field.name: getattr(record, field.name) for field in fields(record)}  # all plain: `asdict` would copy
    return {key: float(value) for key, value in values.items() if key not in _NOT_LOGGED and value is not None}
