"""The worker's side of a population: a member's trainings from where they were saved to the next evaluation."""

import time
from collections.abc import Sequence

from metaopt.errors import ConfigError
from metaopt.search.jobs import Job, Saved, Slice
from metaopt.search.problems import AnyRecord, Problem, begun
from metaopt.training import Record, Training, pack_training, unpack_training
from metaopt.training.cohort import Cohort


class IntervalRun:
    """The trainings of an interval job, advanced by one evaluation a step.

    Where the newest save of its start is damaged, a job begins at an older one: what it trains until the interval is
    the same training again, and is not reported.
    """

    def __init__(self, job: Job, tasks: Sequence[Problem], seeds: Sequence[int], device: str, evaluations: int) -> None:
        """Take up the trainings of `job` on each of `tasks` with its seed; ArtifactError if a saved one is damaged."""
        self._job, self._evaluations = job, evaluations
        self._at = job.since
        self._trainings: dict[int, Training] = {}
        for i, (task, seed) in enumerate(zip(tasks, seeds, strict=True)):
            training = begun(task, job.family, job.params, seed, device)
            if not isinstance(training, Training):
                raise ConfigError(f"Members of a population must be trainings of schedules, but got {task.name}.")
            if job.since:
                unpack_training(training, job.start[i])
                training.controller.switch_to(training.controller.schedule)  # which has changed since it was saved
            self._trainings[i] = training
        self._cohort: Cohort[Record] = Cohort(self._trainings)
        self._wall_s = 0.0

    def advance(self) -> Slice:
        """Train to the next evaluation; with records at the end of the interval alone."""
        self._at += 1
        started = time.perf_counter()
        new = self._cohort.advance(self._at / self._evaluations)
        self._wall_s += time.perf_counter() - started
        if not self.over:
            return Slice(records={}, wall_s=self._wall_s)
        records: dict[int, Sequence[AnyRecord]] = dict(new)
        saved = Saved()
        if self._at < self._evaluations:
            saved.update({i: pack_training(training) for i, training in self._trainings.items()})
        return Slice(records=records, grids=self._cohort.grids(), wall_s=self._wall_s, saved=saved)

    @property
    def over(self) -> bool:
        """Whether the interval has been trained."""
        return self._at == self._job.evaluation
