"""Optuna's TPE with a bounded memory, so that the thousandth proposal costs no more than the ten-thousandth."""

import heapq
from collections.abc import Container, Iterable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

LATEST, BEST = 1_000, 25
"""Trials that are looked at. TPE models the best 25 of a long study, and the others with weights that fall with age."""


class _Part:
    """A study of which a sampler sees some trials only."""

    def __init__(self, study: Study, trials: list[FrozenTrial]) -> None:
        self._whole, self._some = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._some if states is None or trial.state in states]


class Elite:
    """The best of a study's older trials, found once and kept up as the study grows."""

    def __init__(self) -> None:
        self._best: list[FrozenTrial] = []
        self._n_done = 0

    def among(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The `BEST` by value, then number, in order of their numbers; `trials` begin with those of the last call."""
        still_open = (n for n in range(self._n_done, len(trials)) if not trials[n].state.is_finished())
        n_done = next(still_open, len(trials))
        self._best = _best([*self._best, *trials[self._n_done : n_done]])
        self._n_done = n_done
        return sorted(_best([*self._best, *trials[n_done:]]), key=lambda trial: trial.number)


def _best(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    complete = ((trial.values[0], trial.number, trial) for trial in trials if trial.state is TrialState.COMPLETE)
    return [trial for _, _, trial in heapq.nsmallest(BEST, complete)]


class BoundedTPESampler(TPESampler):
    """TPE over the latest 1,000 trials and the 25 best of all; the same as Optuna's up to there.

    An instance is for one draw, as it keeps what it has seen. Studies with several objectives are seen whole.
    """

    def __init__(self, *, seed: int, elite: Elite) -> None:
        """`elite` is that of all samplers of the study."""
        super().__init__(seed=seed)
        self._elite = elite
        self._part: Any = None

    def _seen(self, study: Study) -> Any:
        if self._part is None:
            self._part = bounded(study, self._elite)
        return self._part

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See `BaseSampler`."""
        return super().infer_relative_search_space(self._seen(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `BaseSampler`."""
        return super().sample_relative(self._seen(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See `BaseSampler`."""
        return super().sample_independent(self._seen(study), trial, param_name, param_distribution)


def bounded(study: Study, elite: Elite) -> Any:
    """The study with its latest and its best trials, or the study itself where it has no more than the latest."""
    trials = study._get_trials(deepcopy=False)  # of all brackets, as Optuna's TPE sees them
    if len(trials) <= LATEST or len(study.directions) > 1:
        return study
    return _Part(study, [*elite.among(trials[:-LATEST]), *trials[-LATEST:]])
