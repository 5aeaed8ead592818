"""The durable record of a search: an Optuna study in a journal file, driven by ask and tell."""

import hashlib
import json
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from metaopt.errors import StorageError
from metaopt.search.initialisation_study import AnyStudy, Choice
from metaopt.search.journal import DriverJournal
from metaopt.search.samplers import REDUCTION, n_horizons, pruner_of, prunes, sampler_of
from metaopt.search.study import Study
from metaopt.search.tpe import Elite

log = logging.getLogger(__name__)

JOURNAL = "optuna.journal"
_RESULT, _RAY_TRIAL, _NAME, _PRUNED = "result", "ray_trial_id", "schedule", "pruned"


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A candidate to train: parameters of the study's family, and of learning a start, where that is searched for."""

    number: int
    params: Mapping[str, Any]
    name: str = ""
    """Name of the published schedule that it is, if it is one."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a trial ended."""

    status: str
    """`finished`, `collapsed`, `diverged`, `pruned` or `error`."""
    score: float | None = None
    """Objective of the tasks' ln(FID / reference FID); a diverged training counts as its untrained generator."""
    fids: Mapping[str, float] = field(default_factory=dict)
    """Last FID, by training."""
    reason: str = ""
    """What was seen, where the status is not `finished`."""
    scores: Sequence[float] = ()
    """Score at each evaluation."""
    wall_s: float = 0.0
    """Seconds of training and evaluation on the worker."""
    memory_mb: float = 0.0
    """The most host memory of its process, in MiB, which may have had trials before."""
    gpu_memory_mb: float = 0.0
    """The most GPU memory that the trial has held, in MiB; other processes of the GPU are not in it."""
    objectives: Mapping[str, float] = field(default_factory=dict)
    """By name, where the study has several; the first is the score."""
    intervals: Sequence[Mapping[str, Any]] = ()
    """Of a member of a population: what it was trained with, and by which member; see `population.Interval`."""
    copied: Mapping[str, int] = field(default_factory=dict)
    """Likewise: evaluation -> trial that it copied there."""


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A trial as the record has it."""

    number: int
    state: str
    """Optuna's: COMPLETE, FAIL, PRUNED, RUNNING, WAITING."""
    params: Mapping[str, Any]
    name: str
    """Name of the published schedule that it is, if it is one."""
    verdict: Verdict | None
    ended: datetime | None
    """When it was told, in local time."""


_STATES = {"finished": TrialState.COMPLETE, "collapsed": TrialState.COMPLETE, "pruned": TrialState.PRUNED}


class Proposals:
    """Ask for candidates, tell what became of them. One driver at a time; survives being killed at any moment."""

    def __init__(self, folder: Path, study: AnyStudy) -> None:
        """Open or create the record in `folder`; trials that a dead driver left running are proposed again."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._study_spec, self.prunes, self._horizons = study, prunes(study), n_horizons(study)
        self._study = optuna.create_study(
            storage=_open(folder / JOURNAL),
            study_name=study.name,
            directions=["minimize"] * len(study.objectives),
            load_if_exists=True,
            pruner=pruner_of(study),
        )
        for first in study.first:
            self._study.enqueue_trial(dict(first.params), user_attrs={_NAME: first.schedule.name}, skip_if_exists=True)
        for params in study.members if isinstance(study, Study) else ():
            self._study.enqueue_trial(dict(params), skip_if_exists=True)
        running = self._trials(TrialState.RUNNING)
        self._orphans = [trial for trial in running if _RESULT not in trial.user_attrs]
        self._n_asked = sum(trial.state is not TrialState.WAITING for trial in self._study.get_trials(deepcopy=False))
        """Trials handed out so far, by this driver and earlier ones."""
        self._elite = Elite()
        self._ended: dict[int, TrialRow] = {}
        """Rows that change no more."""
        for trial in running:
            if _RESULT in trial.user_attrs:  # a dead driver had begun to tell it
                self.tell(trial.number, Verdict(**json.loads(trial.user_attrs[_RESULT])))

    def ask(self, ray_trial_id: str) -> Proposal | None:
        """The next candidate; None once the study has all its trials."""
        if self._orphans:
            trial = Trial(self._study, self._orphans.pop(0)._trial_id)
        elif self._n_asked < self._study_spec.spec.search.trials:
            trial = self._study.ask()
            self._n_asked += 1
        else:
            return None
        self._draw(trial)
        trial.set_user_attr(_RAY_TRIAL, ray_trial_id)
        return Proposal(number=trial.number, params=trial.params, name=trial.user_attrs.get(_NAME, ""))

    def tell(self, number: int, verdict: Verdict) -> None:
        """Record how a trial ended: a score or another objective that is missing or not finite, or a divergence, as
        FAIL."""
        values = self._values(verdict)
        trial = Trial(self._study, self._found(number)._trial_id)
        trial.set_user_attr(_RESULT, json.dumps(asdict(verdict)))
        for step, value in enumerate(verdict.scores if len(self._study_spec.objectives) == 1 else (), start=1):
            if self.prunes:
                self.pruned(number, step, value)  # those that it was not asked about count in its comparisons too
            else:
                trial.report(value, step)
        state = _STATES.get(verdict.status, TrialState.FAIL)
        if state is TrialState.COMPLETE and values is None:
            state = TrialState.FAIL
        self._study.tell(trial, values if state is TrialState.COMPLETE else None, state)

    def _values(self, verdict: Verdict) -> list[float] | None:
        """All that is minimised, in order; None where a number is missing or not finite."""
        names = self._study_spec.objectives
        found = [verdict.score] if len(names) == 1 else [verdict.objectives.get(name) for name in names]
        values = [value for value in found if value is not None and math.isfinite(value)]
        return values if len(values) == len(names) else None

    def pruned(self, number: int, step: int, score: float) -> bool:
        """Whether a trial should stop at its `step`-th evaluation or horizon, where it has that score.

        Always the same answer: what it is compared with is in the record, so that a resumed search stops what an
        uninterrupted one would.
        """
        known = self._found(number)
        trial, said = Trial(self._study, known._trial_id), f"{_PRUNED}_{step}"
        if said not in known.user_attrs:
            at = REDUCTION ** (step - 1) if self._horizons > 1 else step  # each horizon is a rung
            if at not in known.intermediate_values:
                trial.report(score, at)
            trial.set_user_attr(said, bool(trial.should_prune()))
        return bool(self._found(number).user_attrs[said])

    def rows(self) -> list[TrialRow]:
        """Every trial, in order."""
        return [self._row(trial) for trial in self._study.get_trials(deepcopy=False)]

    def row(self, number: int) -> TrialRow:
        """One trial."""
        return self._row(self._found(number))

    def _row(self, trial: FrozenTrial) -> TrialRow:
        row = self._ended.get(trial.number)
        if row is None:
            row = _row(trial)
            if trial.state.is_finished():
                self._ended[trial.number] = row
        return row

    def _found(self, number: int) -> FrozenTrial:
        """Not by a list of all trials, which a long study would make for every result."""
        storage = self._study._storage
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))

    def _trials(self, state: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(state,))

    def _draw(self, trial: Trial) -> None:
        """Give the trial its parameters; what a dead driver has already given it stays, the rest comes out the same.

        Each draw has a sampler of its own, whose randomness depends on seed, trial and parameter alone.
        """
        self._study.sampler = self._sampler(f"{trial.number}")
        _ = trial.relative_params  # drawn now, together, by samplers that draw all parameters at once
        for name, space in self._study_spec.space.items():
            self._study.sampler = self._sampler(f"{trial.number}/{name}")
            if isinstance(space, Choice):
                trial.suggest_categorical(name, space.names)
            elif space.whole:
                trial.suggest_int(name, int(space.low), int(space.high))
            else:
                trial.suggest_float(name, space.low, space.high, log=space.log)

    def _sampler(self, purpose: str) -> BaseSampler:
        digest = hashlib.sha256(f"{self._study_spec.spec.search.seed}/{purpose}".encode()).digest()
        return sampler_of(self._study_spec, int.from_bytes(digest[:4], "big"), self._elite)


def read_rows(folder: Path, name: str) -> list[TrialRow]:
    """The trials of the study `name` recorded in `folder`, without changing anything; StorageError if unreadable."""
    study = read_study(folder, name)
    return [] if study is None else [_row(trial) for trial in study.get_trials(deepcopy=False)]


def read_study(folder: Path, name: str) -> optuna.Study | None:
    """Optuna's study, for reading only; None where `folder` holds no record, StorageError if unreadable."""
    path = folder / JOURNAL
    if not path.exists():
        return None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        if not storage.get_all_studies():  # its driver is about to begin
            return None
        return optuna.load_study(study_name=name, storage=storage)
    except (KeyError, ValueError) as error:
        raise StorageError(f"{path} cannot be read as the record of study {name!r}: {error}.") from error


def _open(path: Path) -> JournalStorage:
    """The caller holds the study's lock, so a torn last line is a dead driver's."""
    if path.exists():
        _repair(path)
    return JournalStorage(DriverJournal(path))


def _repair(path: Path) -> None:
    """Cut a last line that was not written to its end: Optuna would lose every later write to it.

    StorageError where a line before the last is damaged: what came after it would be lost with it.
    """
    with path.open("rb+") as file:
        lines = file.read().splitlines(keepends=True)
        bad = next((i for i, line in enumerate(lines) if not _whole(line)), len(lines))
        if bad < len(lines) - 1:
            raise StorageError(
                f"{path} must be whole up to its last line, but line {bad + 1} of {len(lines)} is damaged: take it "
                "from a copy, or begin again with another --out."
            )
        if bad < len(lines):
            log.warning("cut %d bytes of an unfinished last line off %s", len(lines[bad]), path)
            file.truncate(sum(map(len, lines[:bad])))


def _whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _row(trial: FrozenTrial) -> TrialRow:
    result = trial.user_attrs.get(_RESULT)
    return TrialRow(
        number=trial.number,
        state=trial.state.name,
        params=dict(trial.params),
        name=trial.user_attrs.get(_NAME, ""),
        verdict=None if result is None else Verdict(**json.loads(result)),
        ended=trial.datetime_complete,
    )
