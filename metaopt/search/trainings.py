"""Which trainings judge a candidate."""

from collections.abc import Sequence
from dataclasses import dataclass

from metaopt.meta import TrainingId
from metaopt.search.problems import Problem


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """The trainings of every candidate, in order: each task with each seed."""

    tasks: Sequence[Problem]
    seeds: Sequence[int]

    def __len__(self) -> int:
        return len(self.tasks) * len(self.seeds)

    def id(self, index: int) -> TrainingId:
        """Name of the task, and seed."""
        return self.task(index).name, self.seeds[index % len(self.seeds)]

    def task(self, index: int) -> Problem:
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
