"""What a study may take in all: wall-clock seconds, and GPU-seconds."""

import math
from collections.abc import Callable

from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.study_spec import SearchSpec


class Budget:
    """Of one run of the driver: it begins anew where a study goes on."""

    def __init__(self, study: AnyStudy, clock: Callable[[], float]) -> None:
        """From now on, by `clock`, whose seconds only rise."""
        search = study.spec.search
        self._clock, self._seconds = clock, search.time_budget_s or math.inf
        self._until = clock() + self._seconds
        self._gpu_s, self._used_gpu_s = math.inf, 0.0
        if isinstance(search, SearchSpec) and search.gpu_budget_s is not None:
            self._gpu_s = search.gpu_budget_s
        resources = search.resources
        self.gpu = 0.0 if isinstance(resources, str) else resources.gpu
        """GPUs that a trial takes; 0 until they are measured."""

    @property
    def limited(self) -> bool:
        """Whether there is a budget at all."""
        return min(self._seconds, self._gpu_s) < math.inf

    def train(self, seconds: float) -> None:
        """Count what a trial has trained."""
        self._used_gpu_s += self.gpu * seconds

    def over(self, seconds: float = 0.0) -> str:
        """Which budget is used up, if one is, with so many more seconds of a training."""
        if self._clock() >= self._until:
            return f"the time budget of {self._seconds:g} s was over"
        if self._used_gpu_s + self.gpu * seconds >= self._gpu_s:
            return f"the budget of {self._gpu_s:g} GPU-seconds was over"
        return ""
