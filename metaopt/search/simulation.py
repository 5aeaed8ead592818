"""A search on a simulated clock and as many simulated workers as wanted: no Ray, no training.

After Syne Tune's simulator (Salinas et al. 2022, AutoML-Conf): the real `Session` and `Proposals` decide, and events
take the place of workers, which answer from what another search has recorded.
"""

import heapq
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from metaopt.errors import ConfigError
from metaopt.meta import TrainingCurve
from metaopt.search.jobs import Job, Slice
from metaopt.search.optuna_space import Proposals
from metaopt.search.past_study import PastStudy, n_parts
from metaopt.search.session import Session
from metaopt.search.study import Study
from metaopt.search.surrogate import Answer, Surrogate
from metaopt.tracking import NullTracker
from metaopt.training import Record

_NOTHING = Record(
    iteration=0.0,
    progress=0.0,
    d_updates=0,
    g_updates=0,
    loss_d=math.nan,
    loss_g=math.nan,
    lr_d=math.nan,
    lr_g=math.nan,
    update_ratio=math.nan,
    loss_gap=math.nan,
    d_sign=math.nan,
    d_accuracy=math.nan,
    log_grad_ratio=math.nan,
)
"""A search looks at FIDs and outcomes alone."""


@dataclass(frozen=True, kw_only=True)
class SimulatedTrial:
    """A trial of a simulated search."""

    number: int
    name: str
    """Of the published schedule that it is, if it is one."""
    began_s: float
    ended_s: float
    """When its score was known, in seconds on the simulated clock."""
    status: str
    score: float | None
    best: float | None
    """Best score by then."""
    steps: int
    """Evaluations that it has a score at, or horizons, where there are several."""
    recorded: bool
    """Whether this very schedule was tried in the past study."""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What a search would have done."""

    workers: int
    trials: Sequence[SimulatedTrial]
    """In the order in which they ended."""
    wall_s: float
    busy: float
    """Share of the workers' time in which they trained, in [0, 1]."""

    def at(self, time_s: float) -> Sequence[SimulatedTrial]:
        """Trials that had ended by then."""
        return [trial for trial in self.trials if trial.ended_s <= time_s]


@dataclass(kw_only=True)
class _Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, kw_only=True)
class _Busy:
    """A job in the hands of a simulated worker."""

    job: Job
    began_s: float
    parts: Sequence[Slice]


@dataclass(kw_only=True)
class _Log:
    """When trials began and ended, by number."""

    began: dict[int, float] = field(default_factory=dict)
    ended: dict[int, float] = field(default_factory=dict)
    recorded: set[int] = field(default_factory=set)
    references_s: float = 0.0
    """When the last reference training ended."""
    busy_s: float = 0.0

    def add(self, busy: _Busy, now: float) -> None:
        """A job has ended."""
        self.busy_s += now - busy.began_s
        if busy.job.kind == "reference":
            self.references_s = now
            return
        self.began[busy.job.number], self.ended[busy.job.number] = busy.began_s, now


def simulate(study: Study, past: PastStudy, surrogate: Surrogate, workers: int) -> Simulation:
    """Search `study` with `workers` trials at once, answered from `past`.

    The same study and workers give the same simulation. Time passes in trainings and evaluations alone: starting
    processes, proposing and writing take none.

    Raises:
        ConfigError: the study has a budget of GPU-seconds, and leaves the share of a GPU to be measured.
    """
    search = study.spec.search
    if search.gpu_budget_s is not None and search.resources == "auto":
        raise ConfigError(
            f"`search.gpu_budget_s` of {search.gpu_budget_s:g} needs `resources.gpu`: a simulation measures no share "
            "of a GPU, but got `resources: auto`."
        )
    clock, log = _Clock(), _Log()
    with tempfile.TemporaryDirectory(prefix="metaopt-") as folder:
        proposals = Proposals(Path(folder), study)
        session = Session(study, Path(folder), [""] * len(study.tasks), proposals, NullTracker(), clock=clock)
        _run(session, _Worker(session, past, surrogate), workers, clock, log)
        trials = _trials(session, log)
    return Simulation(
        workers=workers, trials=trials, wall_s=clock.now, busy=log.busy_s / (workers * clock.now) if clock.now else 0.0
    )


def with_seed(study: Study, seed: int) -> Study:
    """The study with another `search.seed`."""
    search = study.spec.search.model_copy(update={"seed": seed})
    return replace(study, spec=study.spec.model_copy(update={"search": search}))


def _run(session: Session, worker: "_Worker", workers: int, clock: _Clock, log: _Log) -> None:
    events: list[tuple[float, int, int]] = []
    """When which job will have done which part; the jobs that began first come first."""
    busy: dict[int, _Busy] = {}
    n_jobs = 0
    while True:
        while len(busy) < workers and (job := session.next_job(str(n_jobs))) is not None:
            answer = worker.answer(job)
            busy[n_jobs] = _Busy(job=job, began_s=clock.now, parts=worker.parts(job, answer))
            if answer.recorded:
                log.recorded.add(job.number)
            heapq.heappush(events, (clock.now + busy[n_jobs].parts[0].wall_s, n_jobs, 0))
            n_jobs += 1
        if not events:
            return
        clock.now, n, k = heapq.heappop(events)
        part, over = busy[n].parts[k], k + 1 == len(busy[n].parts)
        # as Tune does, which does not ask about a result that is the last one anyway
        stop = session.stops_early and not over and session.to_be_stopped(str(n), part)
        session.on_slice(str(n), part)
        if over or stop:
            session.on_end(str(n))
            log.add(busy.pop(n), clock.now)
        else:
            heapq.heappush(events, (busy[n].began_s + busy[n].parts[k + 1].wall_s, n, k + 1))


class _Worker:
    """What a worker would report."""

    def __init__(self, session: Session, past: PastStudy, surrogate: Surrogate) -> None:
        self._session, self._past, self._surrogate = session, past, surrogate
        theirs = {past.trainings.id(i): i for i in range(len(past.trainings))}
        self._past_index = [theirs[session.trainings.id(i)] for i in range(len(session.trainings))]

    def answer(self, job: Job) -> Answer:
        """Of the past study: a reference training is one of its first trial, of which each training is known alone."""
        if job.kind == "reference":
            return Answer(curves=self._past.trials[0].curves, pace=1.0, recorded=True)
        return self._surrogate(job.params)

    def parts(self, job: Job, answer: Answer) -> list[Slice]:
        """From evaluation to evaluation; all trainings of a stage together, one stage after the other."""
        stages = [(job.training,)] if job.kind == "reference" else self._session.stages
        parts, wall_s = [], 0.0
        for stage in stages:
            curves = {i: answer.curves[self._past_index[i]] for i in stage}
            for k in range(max(n_parts(curve) for curve in curves.values())):
                running = {i: curve for i, curve in curves.items() if k < n_parts(curve)}
                wall_s += answer.pace * sum(self._past.seconds[self._past_index[i]][k] for i in running)
                records = {i: self._records(i, curve, k) for i, curve in running.items()}
                parts.append(Slice(records=records, wall_s=wall_s))
        return parts

    def _records(self, i: int, curve: TrainingCurve, k: int) -> list[Record]:
        """Of the k-th part, from 0: the first begins with the untrained generator."""
        task = self._session.trainings.task(i)
        shares = [0.0, 1 / task.evaluations] if k == 0 else [(k + 1) / task.evaluations]
        fids = [*curve.fids[:1], *curve.fids[1:2]] if k == 0 else [*curve.fids[k + 1 : k + 2]]
        last = k + 1 == n_parts(curve)
        return [
            replace(
                _NOTHING,
                iteration=share * task.budget,
                progress=share,
                fid=fids[n] if n < len(fids) else None,
                outcome=curve.outcome if last and n + 1 == len(shares) else None,
            )
            for n, share in enumerate(shares)
        ]


def _trials(session: Session, log: _Log) -> list[SimulatedTrial]:
    """In the order in which they ended, with the best score by then."""
    scored = {row.number: max(log.ended.get(row.number, 0.0), log.references_s) for row in session.rows()}
    best, trials = math.inf, []
    for row in sorted(session.rows(), key=lambda row: (scored[row.number], row.number)):
        if row.verdict is None:
            continue
        if row.state == "COMPLETE" and row.verdict.score is not None:
            best = min(best, row.verdict.score)
        trials.append(
            SimulatedTrial(
                number=row.number,
                name=row.name,
                began_s=log.began.get(row.number, 0.0),
                ended_s=scored[row.number],
                status=row.verdict.status,
                score=row.verdict.score,
                best=best if best < math.inf else None,
                steps=len(row.verdict.scores),
                recorded=row.number in log.recorded or row.number == 0,
            )
        )
    return trials
