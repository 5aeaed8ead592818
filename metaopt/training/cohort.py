"""A cohort: the trainings of one schedule on every task and seed, advanced together slice by slice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from metaopt.gan import Task
from metaopt.schedules import Schedule
from metaopt.training.records import Record
from metaopt.training.training import Training


@dataclass(frozen=True, kw_only=True)
class CohortRecord:
    """A record and which training it is from."""

    task: str
    """Name of the task."""
    seed: int
    record: Record


class Cohort:
    """Trainings of `schedule` on `tasks` x `seeds`, in that order."""

    def __init__(self, tasks: Sequence[Task], seeds: Sequence[int], schedule: Schedule, *, device: str = "cpu") -> None:
        self.trainings = [Training(task, schedule, seed, device=device) for task in tasks for seed in seeds]

    def advance(self, until: float) -> Iterator[CohortRecord]:
        """Bring every training to `until` (share of its budget, in [0, 1]); yields their records."""
        for training in self.trainings:
            for record in training.run(until):
                yield CohortRecord(task=training.task.name, seed=training.seed, record=record)
