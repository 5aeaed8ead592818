"""Optuna's TPE with a bounded memory, so that the thousandth proposal costs no more than the ten-thousandth."""

import heapq
from collections.abc import Container
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


class BoundedTPESampler(TPESampler):
    """TPE over the latest 1,000 trials and the 25 best of all; the same as Optuna's up to there.

    An instance is for one draw, as it keeps what it has seen. Studies with several objectives are seen whole.
    """

    _part: Any = None

    def _seen(self, study: Study) -> Any:
        if self._part is None:
            self._part = bounded(study)
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


def bounded(study: Study) -> Any:
    """The study with its latest and its best trials, or the study itself where it has no more than the latest."""
    trials = study._get_trials(deepcopy=False)  # of all brackets, as Optuna's TPE sees them
    if len(trials) <= LATEST or len(study.directions) > 1:
        return study
    older = (trial for trial in trials[:-LATEST] if trial.state is TrialState.COMPLETE)
    best = heapq.nsmallest(BEST, older, key=lambda trial: (trial.values[0], trial.number))
    return _Part(study, [*sorted(best, key=lambda trial: trial.number), *trials[-LATEST:]])
