"""Which parameters of a search decide its score."""

import random
import warnings
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from metaopt.search.optuna_space import read_study

MOST = 1_000
"""Trials that speak for all."""
_FEWEST = 8


def importances(folder: Path, name: str) -> dict[str, float]:
    """Share of the score's variance that each varied parameter explains alone, the greatest first (fANOVA, seed 0).

    Empty where fewer than eight trials have a score, as the forest that is behind it would only fit their noise, and
    where all scores are alike. Where more than a thousand have one, a thousand drawn at random speak for them.
    """
    study = read_study(folder, name)
    done = [] if study is None else study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sampled = len(done) > MOST  # the forest's cost grows faster than their number
    if sampled:
        done = random.Random(0).sample(done, MOST)
    names = [key for key in (done[0].params if done else {}) if len({trial.params[key] for trial in done}) > 1]
    if study is None or len(done) < _FEWEST or not names or len({one.values[0] for one in done}) == 1:
        return {}
    if sampled:
        study = optuna.create_study(directions=study.directions)
        study.add_trials(done)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # loads scikit-learn

    return get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(seed=0), params=names, normalize=False, target=_score
    )


def _score(trial: FrozenTrial) -> float:
    """The first objective."""
    return float(trial.values[0])
