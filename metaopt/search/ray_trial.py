"""The worker's side: a Ray Tune trainable that trains a job slice by slice and reports plain records."""

import os
import subprocess
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import ray
import torch
from ray import tune

from metaopt.errors import ConfigError
from metaopt.meta.maml.meta_run import MetaRun
from metaopt.search.interval import IntervalRun
from metaopt.search.jobs import Job, Slice
from metaopt.search.packing import Share
from metaopt.search.problems import AnyRecord, Problem, begun
from metaopt.search.ray_room import keep_to
from metaopt.search.versions import difference, versions
from metaopt.training.cohort import Cohort
from metaopt.training.footprint import gpu_peak_mb, peak_memory_mb

JOB, SLICE, OVER, ERROR, REFUSAL = "job", "slice", "over", "error", "refusal"
"""Keys of a Tune trial's config, and of what its worker reports: `OVER` with the last slice of a job."""
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.2, 5.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is the same for every job of a study."""

    tasks: tuple[Problem, ...]
    """Task of each training of a candidate."""
    seeds: tuple[int, ...]
    """Seed of each training of a candidate."""
    evaluations: int
    """Slices of a training: one ends at each FID evaluation."""
    share: Share
    """What a trial occupies."""
    stages: tuple[tuple[int, ...], ...]
    """Trainings of a candidate that advance together, one stage after the other."""
    limit_s: float | None = None
    """Of a step; a process that takes longer ends itself."""
    versions: Mapping[str, str] = field(default_factory=versions)
    """Of the driver, which workers must have, too."""


_WATCH = 'timeout "$1" cat > /dev/null; test $? -eq 124 && kill -9 "$2"'
"""Ends a process after a time, unless its own input ends before: with the block, or with the process."""


@contextmanager
def _ended_after(limit_s: float | None) -> Iterator[None]:
    """End this process where the block takes longer: what hangs in foreign code cannot be asked to stop.

    Another process does it, as this one may be stopped altogether.
    """
    if limit_s is None:
        yield
        return
    command = ["/bin/sh", "-c", _WATCH, "sh", f"{limit_s:f}", str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True):
        yield


def this_node() -> str:
    """The node of this process, for messages."""
    return f"node {ray.util.get_node_ip_address()} ({ray.get_runtime_context().get_node_id()[:8]})"


class TrainJob(tune.Trainable):
    """A worker: trains one job after the other as the driver hands them in, and never ends by itself."""

    def setup(self, config: dict[str, Any], plan: Plan | None = None) -> None:
        """Take the first job of this process; Tune passes the plan beside the job's config."""
        if plan is None:
            raise ConfigError("`plan` must be given, with `tune.with_parameters`.")
        keep_to(plan.share)
        self._plan = plan
        self._refusal = difference(plan.versions, versions(), this_node())
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the first job of another Tune trial."""
        self.take(new_config[JOB])
        return True

    def take(self, job: Job) -> None:
        """Take the next job; it begins with the next step. The driver calls this between two steps."""
        self._job = job
        self._stages = [(self._job.training,)] if self._job.kind == "reference" else list(self._plan.stages)
        self._slice = 0
        self._wall_s = 0.0
        self._cohort: Cohort[AnyRecord] | None = None
        self._interval: IntervalRun | None = None
        self._fresh = True

    def step(self) -> dict[str, Any]:
        """Bring every training of the job to its next evaluation. An exception is reported, as what it is."""
        if self._refusal:
            return {REFUSAL: self._refusal, OVER: True}
        try:
            if self._fresh and self._plan.share.device == "cuda":
                torch.cuda.empty_cache()  # what the allocator keeps of the job before is none of this one's
                torch.cuda.reset_peak_memory_stats()
            self._fresh = False
            if self._job.kind == "wait":
                return self._waited()
            with _ended_after(self._plan.limit_s):
                return self._advance_interval() if self._job.kind == "interval" else self._advance()
        except Exception:  # the process is sound, and the driver has a use for the traceback
            return {ERROR: traceback.format_exc(), OVER: True}

    def _advance(self) -> dict[str, Any]:
        if self._cohort is None:
            self._cohort, self._slice = self._begun(self._stages.pop(0)), 0
        self._slice += 1
        started = time.perf_counter()
        records = self._cohort.advance(self._slice / self._plan.evaluations)
        self._wall_s += time.perf_counter() - started
        over = self._cohort.over
        starts = {i: run.initialisation() for i, run in self._learning.items() if over and run.healthy}
        part = Slice(records=records, grids=self._cohort.grids(), starts=starts, wall_s=self._wall_s)
        if over:
            self._cohort = None
        return {SLICE: self._measured(part), OVER: over and not self._stages}

    def _waited(self) -> dict[str, Any]:
        """After a pause that grows with the time already waited; the driver ends it."""
        pause_s = min(_SHORTEST_WAIT_S + self._wall_s / 5, _LONGEST_WAIT_S)
        time.sleep(pause_s)
        self._wall_s += pause_s
        return {SLICE: Slice(records={}, wall_s=self._wall_s)}

    def _advance_interval(self) -> dict[str, Any]:
        if self._interval is None:
            plan = self._plan
            self._interval = IntervalRun(self._job, plan.tasks, plan.seeds, plan.share.device, plan.evaluations)
        return {SLICE: self._measured(self._interval.advance()), OVER: self._interval.over}

    def _measured(self, part: Slice) -> Slice:
        """With the most memory that was in use."""
        gpu_mb = gpu_peak_mb("cuda") if self._plan.share.device == "cuda" else 0.0
        return replace(part, memory_mb=peak_memory_mb(), gpu_memory_mb=gpu_mb)

    def _begun(self, indices: Sequence[int]) -> Cohort[AnyRecord]:
        plan, job = self._plan, self._job
        runs = {i: begun(plan.tasks[i], job.family, job.params, plan.seeds[i], plan.share.device) for i in indices}
        self._learning = {i: run for i, run in runs.items() if isinstance(run, MetaRun)}
        return Cohort(runs)
