"""What a training would have given, had it been done: as the nearest of those that were."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaopt.meta import TrainingCurve, score
from metaopt.meta.objective import log_fid
from metaopt.search.past_study import PastStudy, PastTrial
from metaopt.training import Outcome

NEIGHBOURS = 3


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The curves of a schedule, recorded or guessed."""

    curves: Mapping[int, TrainingCurve]
    """Of all trainings, each with its outcome."""
    pace: float
    """Seconds as a multiple of the reference's."""
    recorded: bool
    """Whether this very schedule was tried."""


class Surrogate:
    """The k nearest recorded schedules, weighted by the inverse of their distance.

    Distance is Euclidean in the searched parameters, each as u = (x - low) / (high - low) of the past study's range, of
    the logarithms where it was searched so. With weights w_n of the neighbours n,

        ln FID(k) = sum_n w_n ln FID_n(k) / sum_n w_n      at each evaluation k, over those that did not diverge,

    and a training diverges where the neighbours that did hold more than half of the weight, when the nearest of them
    did. A trial that was stopped early counts from there on as being as much worse than the reference as it was:
    ``ln FID_n(k) = ln FID_ref(k) + r_n``, r_n its last ``ln(FID / FID_ref)`` in that training or, in one that it never
    began, the mean over those that it did. A schedule that was tried is its own and only neighbour.

    No answer is better than the best that was recorded, and averages are smoother than trainings are.
    """

    def __init__(self, past: PastStudy, n_neighbours: int = NEIGHBOURS) -> None:
        """Of the trials of `past`, `n_neighbours` >= 1 at a time."""
        self._past, self._k = past, n_neighbours
        self._space = {name: range_ for name, range_ in past.study.space.items() if range_.low < range_.high}
        self._reference = past.trials[0].curves
        self._points = np.array([self._unit(trial.params) for trial in past.trials])

    def __call__(self, params: Mapping[str, Any]) -> Answer:
        """The schedule with these parameters."""
        return self._answer(self._unit(params), list(range(len(self._past.trials))))

    def left_out(self) -> tuple[list[float], list[float]]:
        """Scores of the trials that ran to their ends, the reference apart: as recorded, and as guessed from others."""
        true, guessed = [], []
        for n, trial in enumerate(self._past.trials[1:], start=1):
            if all(i in trial.curves and trial.curves[i].outcome for i in self._past.trainings.at(-1)):
                others = [m for m in range(len(self._past.trials)) if m != n]
                true.append(self._score(trial.curves))
                guessed.append(self._score(self._answer(self._points[n], others).curves))
        return true, guessed

    def _unit(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        return np.array([range_.place(params[name]) for name, range_ in self._space.items()])

    def _answer(self, point: NDArray[np.float64], among: Sequence[int]) -> Answer:
        distance = np.linalg.norm(self._points[among] - point, axis=1)
        nearest = np.argsort(distance, kind="stable")[: self._k]
        trials = [self._past.trials[among[n]] for n in nearest]
        recorded = bool(distance[nearest[0]] == 0)
        weights = [1.0] if recorded else [1 / float(distance[n]) for n in nearest]
        trials = trials[: len(weights)]
        pace = math.exp(_mean([math.log(trial.pace) for trial in trials], weights))
        curves = {i: self._curve(i, trials, weights) for i in range(len(self._past.trainings))}
        return Answer(curves=curves, pace=pace, recorded=recorded)

    def _curve(self, i: int, trials: Sequence[PastTrial], weights: Sequence[float]) -> TrainingCurve:
        known = [trial.curves.get(i) for trial in trials]
        lost = [of is not None and of.outcome is Outcome.DIVERGED for of in known]
        if sum(w for w, yes in zip(weights, lost, strict=True) if yes) > sum(weights) / 2:
            return next(of for of, yes in zip(known, lost, strict=True) if yes and of is not None)
        alone = known[0] if len(trials) == 1 else None
        if alone is not None and alone.outcome is not None:
            return alone
        whole = [(t, w) for t, w, yes in zip(trials, weights, lost, strict=True) if not yes]
        fids = [
            math.exp(_mean([self._log_fid(t, i, k) for t, _ in whole], [w for _, w in whole]))
            for k in range(1, self._past.study.spec.evaluations + 1)
        ]
        return TrainingCurve(fids=(self._reference[i].untrained, *fids), outcome=Outcome.FINISHED)

    def _log_fid(self, trial: PastTrial, i: int, k: int) -> float:
        """ln FID at the k-th evaluation of a training, as recorded or as far as was recorded."""
        own = trial.curves.get(i)
        if own is not None and (own.outcome is not None or k < len(own.fids)):
            return log_fid(own.fid_at(k))
        begun = own is not None and len(own.fids) > 1
        ratios = [self._last_ratio(trial, j) for j in ([i] if begun else trial.curves)]
        return log_fid(self._reference[i].fid_at(k)) + math.fsum(ratios) / len(ratios)

    def _last_ratio(self, trial: PastTrial, i: int) -> float:
        last = len(trial.curves[i].fids) - 1
        return log_fid(trial.curves[i].fid_at(last)) - log_fid(self._reference[i].fid_at(last))

    def _score(self, curves: Mapping[int, TrainingCurve]) -> float:
        trainings, evaluations = self._past.trainings, self._past.study.spec.evaluations
        ours, theirs = ({trainings.id(i): of[i] for i in trainings.at(-1)} for of in (curves, self._reference))
        return score(ours, theirs, evaluations, self._past.study.objective)


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / math.fsum(weights)
