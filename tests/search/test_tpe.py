"""TPE with a bounded memory is Optuna's TPE up to its bound, and looks at no more trials from there on."""

import math

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial

from metaopt.search import tpe
from metaopt.search.tpe import BoundedTPESampler, Elite, bounded


def filled(n: int, best_at: tuple[int, ...] = ()) -> optuna.Study:
    """A study of n trials on (x - 0.3)^2 + (y - 0.7)^2; those of `best_at` are right at the optimum."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for number in range(n):
        if number in best_at:
            study.enqueue_trial({"x": 0.3, "y": 0.7})
        trial = study.ask()
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        study.tell(trial, (x - 0.3) ** 2 + (y - 0.7) ** 2)
    return study


def drawn(study: optuna.Study, sampler: optuna.samplers.BaseSampler) -> dict[str, float]:
    study.sampler = sampler
    trial = study.ask()
    found = {"x": trial.suggest_float("x", 0, 1), "y": trial.suggest_float("y", 0, 1)}
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return found


@pytest.mark.parametrize("n", [3, 60])
def test_up_to_the_bound_it_proposes_what_optuna_does(n: int) -> None:
    for seed in range(3):
        ours, theirs = (
            drawn(filled(n), BoundedTPESampler(seed=seed, elite=Elite())),
            drawn(filled(n), TPESampler(seed=seed)),
        )
        assert ours == theirs


def numbers(study: object) -> list[int]:
    found: list[FrozenTrial] = study._get_trials(deepcopy=False)  # type: ignore[attr-defined]
    return [trial.number for trial in found]


def test_beyond_the_bound_it_sees_the_latest_and_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpe, "LATEST", 50)
    monkeypatch.setattr(tpe, "BEST", 2)
    study = filled(200, best_at=(7, 31))
    assert numbers(bounded(study, Elite())) == [7, 31, *range(150, 200)]
    assert numbers(bounded(filled(50), Elite())) == list(range(50))


def test_the_number_of_trials_that_it_reads_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpe, "LATEST", 50)
    read = []
    whole = TPESampler._get_internal_repr

    def counting(self: TPESampler, trials: list[FrozenTrial], *rest: object) -> object:
        read.append(len(trials))
        return whole(self, trials, *rest)

    monkeypatch.setattr(TPESampler, "_get_internal_repr", counting)
    for n in (100, 300):
        read.clear()
        drawn(filled(n), BoundedTPESampler(seed=0, elite=Elite()))
        assert 50 <= sum(read) <= 50 + tpe.BEST


def test_it_still_finds_the_optimum_that_it_saw_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpe, "LATEST", 50)
    study = filled(300, best_at=tuple(range(5, 30)))
    found = [drawn(study, BoundedTPESampler(seed=seed, elite=Elite())) for seed in range(20)]
    distances = [math.hypot(one["x"] - 0.3, one["y"] - 0.7) for one in found]
    assert sum(distances) / len(distances) < 0.1  # 0.4 at random


def test_a_study_of_two_objectives_is_seen_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpe, "LATEST", 5)
    study = optuna.create_study(directions=["minimize", "minimize"])
    assert bounded(study, Elite()) is study


def test_the_best_are_the_same_however_often_they_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpe, "LATEST", 20)
    monkeypatch.setattr(tpe, "BEST", 5)
    study, kept = optuna.create_study(), Elite()
    random, late = optuna.samplers.RandomSampler(seed=3), []
    for number in range(150):
        study.sampler = random
        trial = study.ask()
        value = trial.suggest_float("x", 0, 1)
        if number % 17 == 3:
            late.append((trial, value))  # ends long after those that began after it
        else:
            study.tell(trial, value)
        if number % 40 == 39:
            for trial, value in late:
                study.tell(trial, value / 10)
            late.clear()
        assert numbers(bounded(study, kept)) == numbers(bounded(study, Elite()))
