"""The driver's side of a population: which interval is next, and what an evaluation decides."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from metaopt.meta import curve, score
from metaopt.search.generations import Decision, Done, Generations
from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.jobs import Job, Saved, Slice
from metaopt.search.judging import Records
from metaopt.search.optuna_space import TrialRow
from metaopt.search.population import Interval, Params, Standing, decided, lineage, schedule_of
from metaopt.search.problems import AnyRecord
from metaopt.search.study import Study
from metaopt.search.study_spec import PopulationSpec
from metaopt.search.trainings import Trainings
from metaopt.training import Record

_REACHED = 1e-9
"""How close to an evaluation a training has reached it, as in `metaopt.training`."""


class PopulationRun:
    """A population as far as the study's folder holds it. Every method may raise StorageError when the disk is full.

    All members train to an evaluation before anything is decided there, and what was decided is kept before anything
    follows from it. Only saved trainings of the latest two evaluations are kept; where one is damaged or gone, the
    interval that begins there is trained from the latest one of its lineage that is whole, or from scratch.
    """

    def __init__(self, study: Study, rules: PopulationSpec, folder: Path, trainings: Trainings) -> None:
        """Take it up where `folder`, that of the study, holds it."""
        self._study, self._rules, self._trainings = study, rules, trainings
        self._n = study.spec.evaluations
        self._kept = Generations(folder)
        self._first: Mapping[int, Params] = {}
        self._alive: Sequence[int] = ()
        self._done: dict[tuple[int, int], Done] = {}
        self._working: dict[tuple[int, int], str] = {}
        self._past: list[Decision] = []
        while len(self._past) < self._n - 1 and (found := self._kept.decision(len(self._past) + 1)):
            self._past.append(found)
        self.news: list[str] = []
        """What was decided by this driver, for people."""

    def join(self, rows: Sequence[TrialRow]) -> None:
        """Say which trials there are: all but the published schedules are members, those that have ended were."""
        self._first = {row.number: row.params for row in rows if not row.name}
        self._alive = [row.number for row in rows if not row.name and row.verdict is None]

    def next_job(self) -> Job | None:
        """An interval that nobody has trained or is training; None while all that is known is under way, or over."""
        for number, k in self._missing():
            if (number, k) not in self._working:
                since, start, note = self._start(number, k)
                self._working[number, k] = note
                if note:
                    self.news.append(f"trial {number}: {note}")
                params = schedule_of(self._lineage(number, k), self._n)
                return Job(
                    kind="interval",
                    family="steps",
                    params=params,
                    number=number,
                    evaluation=k,
                    since=since,
                    start=start,
                )
        return None

    @property
    def has_work(self) -> bool:
        """Whether an interval waits for a worker."""
        return any(at not in self._working for at in self._missing())

    @property
    def goes_on(self) -> bool:
        """Whether there will be intervals that are not known yet."""
        return bool(self._alive) and len(self._past) + 1 < self._n

    def keep(self, job: Job, part: Slice) -> None:
        """Keep what an interval has brought."""
        at = job.number, job.evaluation
        self._done[at] = self._kept.keep(*at, part, self._working.get(at, ""))
        part.saved.clear()

    def leave(self, job: Job) -> None:
        """A job is in nobody's hands any more, whatever has become of it."""
        self._working.pop((job.number, job.evaluation), None)
        job.start.clear()

    def needing(self, job: Job) -> list[int]:
        """Members that are still trained and come from an interval."""
        n = len(self._past) + 1
        at = job.number, job.evaluation
        return [m for m in self._alive if at in [(one.trial, one.evaluation) for one in self._lineage(m, n)]]

    def settle(self, reference: Records) -> list[int]:
        """Decide all that can be decided; the members that are at their end, once all are there.

        Args:
            reference: records of all trainings with the reference schedule.
        """
        while self._alive and not list(self._missing()):
            evaluation = len(self._past) + 1
            if evaluation == self._n:
                self._kept.forget(self._n)
                return list(self._alive)
            self._decide(evaluation, reference)
        return []

    def records(self, number: int) -> dict[int, list[AnyRecord]]:
        """All records of the training that a member has in the end, by index of the training: those of its lineage.

        The rates in a record are those of the next update: where an interval ends, those of the interval to come.
        """
        return self._records(self._lineage(number, self._n))

    def history(self, number: int) -> dict[str, Any]:
        """What a verdict tells of a member: `intervals` and `copied`; time and memory of what it has trained itself."""
        own = [done for k in range(1, self._n + 1) if (done := self._find(number, k))]
        copies = {
            str(k): step.source
            for k, decision in enumerate(self._past, start=1)
            if (step := decision.steps.get(number)) and step.source != number
        }
        return {
            "intervals": [asdict(one) for one in self._lineage(number, self._n)],
            "copied": copies,
            "wall_s": sum(done.wall_s for done in own),
            "memory_mb": max((done.memory_mb for done in own), default=0.0),
            "gpu_memory_mb": max((done.gpu_memory_mb for done in own), default=0.0),
        }

    def notes(self, number: int) -> str:
        """What went wrong on the way of a member."""
        found = [done.note for k in range(1, self._n + 1) if (done := self._find(number, k)) and done.note]
        return "; ".join(found)

    # What is there

    def _missing(self) -> Iterator[tuple[int, int]]:
        """Intervals that are known and were not trained: those of members, and of members that these come from."""
        seen: set[tuple[int, int]] = set()
        for number in self._alive:
            for one in self._lineage(number, len(self._past) + 1):
                at = one.trial, one.evaluation
                if at not in seen and self._find(*at) is None:
                    yield at
                seen.add(at)

    def _find(self, number: int, evaluation: int) -> Done | None:
        if (number, evaluation) not in self._done:
            found = self._kept.find(number, evaluation)
            if found is None:
                return None
            self._done[number, evaluation] = found
        return self._done[number, evaluation]

    def _lineage(self, number: int, evaluation: int) -> list[Interval]:
        return lineage(number, self._first, [decision.steps for decision in self._past], evaluation)

    def _start(self, number: int, evaluation: int) -> tuple[int, Saved, str]:
        """Where an interval can be begun: the evaluation, what was saved there, and what is wrong with a newer one."""
        for one in reversed(self._lineage(number, evaluation)[:-1]):
            saved = self._kept.saved(one.trial, one.evaluation, self._find(one.trial, one.evaluation))
            if saved is not None:
                return one.evaluation, saved, self._note(evaluation, one.evaluation)
        return 0, Saved(), self._note(evaluation, 0)

    @staticmethod
    def _note(evaluation: int, since: int) -> str:
        if since == evaluation - 1:
            return ""
        again = f"evaluation {since}" if since else "the beginning"
        return (
            f"the trainings saved at evaluation {evaluation - 1} were damaged or gone, and trained again from {again}"
        )

    # What follows

    def _decide(self, evaluation: int, reference: Records) -> None:
        standings = [self._standing(number, evaluation, reference) for number in self._alive]
        past = [*(decision.standings for decision in self._past), standings]
        steps = decided(self._rules, self._study.space, self._study.spec.search.seed, past)
        decision = Decision(standings=standings, steps=steps)
        self._kept.decide(evaluation, decision)
        self._past.append(decision)
        self._kept.forget(evaluation - 2)
        self.news.append(_said(evaluation, self._n, decision))

    def _standing(self, number: int, evaluation: int, reference: Records) -> Standing:
        intervals = self._lineage(number, evaluation)
        ours, theirs = ({self._trainings.id(i): curve(part) for i, part in records.items()} for records in (
            self._records(intervals), reference
        ))  # fmt: skip
        before = 0.0
        if evaluation > 1:
            source = self._past[-1].steps[number].source
            before = next(one.score for one in self._past[-1].standings if one.number == source)
        return Standing(
            number=number,
            params=intervals[-1].params,
            score=score(ours, theirs, evaluation, self._study.objective),
            before=before,
        )

    def _records(self, intervals: Sequence[Interval]) -> dict[int, list[AnyRecord]]:
        found: dict[int, list[AnyRecord]] = {i: [] for i in range(len(self._trainings))}
        for one, after in zip(intervals, [*intervals[1:], None], strict=True):
            done = self._find(one.trial, one.evaluation)
            for i, records in done.records.items() if done else ():
                found[i].extend(records)
                if after and records and records[-1].progress >= one.evaluation / self._n - _REACHED:
                    found[i][-1] = _with_rates(records[-1], after.params)
        return found


def population_of(study: AnyStudy, folder: Path, trainings: Trainings) -> PopulationRun | None:
    """The population of a study in its `folder`, where it has one."""
    if not isinstance(study, Study) or study.spec.search.population is None:
        return None
    return PopulationRun(study, study.spec.search.population, folder, trainings)


def _with_rates(record: AnyRecord, params: Params) -> AnyRecord:
    if not isinstance(record, Record):
        return record
    return replace(record, lr_g=params["lr_g"], lr_d=params["lr_d"], update_ratio=params["update_ratio"])


def _said(evaluation: int, n: int, decision: Decision) -> str:
    best = min(decision.standings, key=lambda one: (one.score, one.number))
    copies = [f"{number} copies {step.source}" for number, step in decision.steps.items() if step.source != number]
    what = ", ".join(copies) or "no copy"
    return f"evaluation {evaluation} of {n}: best {best.score:+.3f} (trial {best.number}); {what}"
