"""Which trainings judge a candidate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from metaopt.gan import Task
from metaopt.meta import TrainingId
from metaopt.search.problems import Problem


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """The trainings of every candidate, in order: each task with each seed, at one horizon after the other."""

    tasks: Sequence[Problem]
    seeds: Sequence[int]
    horizons: Sequence[float] = (1.0,)
    """Shares of the tasks' budgets, ascending to 1: shorter ones are complete trainings of their own."""

    def __len__(self) -> int:
        return self._a_horizon * len(self.horizons)

    @property
    def _a_horizon(self) -> int:
        """Trainings at one horizon."""
        return len(self.tasks) * len(self.seeds)

    def id(self, index: int) -> TrainingId:
        """Name of the task, and seed."""
        return self.task(index).name, self.seeds[index % len(self.seeds)]

    def place(self, index: int) -> int:
        """Number of the task of a training."""
        return index % self._a_horizon // len(self.seeds)

    def task(self, index: int) -> Problem:
        """The task of a training, at its horizon."""
        task, horizon = self.tasks[self.place(index)], self.horizons[index // self._a_horizon]
        if horizon == 1 or not isinstance(task, Task):
            return task
        budget = max(task.evaluations, round(horizon * task.budget))
        return replace(task, name=f"{task.name}-at-{horizon:g}", budget=budget)

    def at(self, horizon: int) -> range:
        """The trainings at the n-th horizon, from 0; -1: at the full one."""
        n = self._a_horizon
        start = horizon % len(self.horizons) * n
        return range(start, start + n)

    def stages(self, *, racing: bool) -> tuple[tuple[int, ...], ...]:
        """All trainings of a horizon at once; in a race one after the other, all tasks with the first seed first."""
        if not racing:
            return tuple(tuple(self.at(horizon)) for horizon in range(len(self.horizons)))
        n = len(self.seeds)
        return tuple((task * n + seed,) for seed in range(n) for task in range(len(self.tasks)))

    def label(self, index: int) -> str:
        """Prefix of metric names: the task, and the seed where there are several."""
        name, seed = self.id(index)
        return name if len(self.seeds) == 1 else f"{name}/seed{seed}"
