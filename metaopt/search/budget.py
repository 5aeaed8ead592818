"""What a study may take in all: wall-clock seconds, and GPU-seconds."""

import math
from collections.abc import Callable

from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.packing import larger_gpu
from metaopt.search.study_spec import SearchSpec


class Budget:
    """Of one run of the driver: both begin anew where a study goes on."""

    def __init__(self, study: AnyStudy, clock: Callable[[], float]) -> None:
        """From now on, by `clock`, whose seconds only rise."""
        search = study.spec.search
        self._clock, self._seconds = clock, search.time_budget_s or math.inf
        self._until = clock() + self._seconds
        gpu_s = search.gpu_budget_s if isinstance(search, SearchSpec) else None
        self._gpu_s, self._used_gpu_s = math.inf if gpu_s is None else gpu_s, 0.0
        resources = search.resources
        self.gpu = 0.0 if isinstance(resources, str) else resources.gpu
        """GPUs that a trial takes; 0 until they are measured."""

    @property
    def counts_gpus(self) -> bool:
        """Whether it is one of GPU-seconds, too."""
        return self._gpu_s < math.inf

    @property
    def limited(self) -> bool:
        """Whether there is a budget at all."""
        return self._seconds < math.inf or self.counts_gpus

    def train(self, seconds: float, *, larger: bool = False) -> None:
        """Count so many seconds of a trial, which has the larger share if it is run again for want of memory."""
        self._used_gpu_s += self._gpus(larger) * seconds

    def _gpus(self, larger: bool) -> float:
        return larger_gpu(self.gpu) if larger else self.gpu

    def over(self, seconds: float = 0.0, *, larger: bool = False) -> str:
        """Which budget is used up, if one is, with so many more seconds of a trial."""
        if self._clock() >= self._until:
            return f"the time budget of {self._seconds:g} s was over"
        if self._used_gpu_s + self._gpus(larger) * seconds >= self._gpu_s:
            return f"the budget of {self._gpu_s:g} GPU-seconds was over"
        return ""
