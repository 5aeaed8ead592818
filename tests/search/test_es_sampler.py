"""Antithetic evolution strategies: the formula by hand, and what a search does to a sampler."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from metaopt.search.es_sampler import DRAWN, AntitheticESSampler, signed_ranks

optuna.logging.set_verbosity(optuna.logging.ERROR)
SQUARE = {"a": FloatDistribution(0.0, 1.0), "b": FloatDistribution(0.0, 1.0)}
MIXED = {"lr": FloatDistribution(1e-5, 1e-1, log=True), "p": FloatDistribution(-2.0, 6.0)}


def es(space: Mapping[str, FloatDistribution] = SQUARE, **options: Any) -> AntitheticESSampler:
    return AntitheticESSampler(**({"seed": 3, "space": space, "n_pairs": 2} | options))


def ask(
    study: optuna.Study,
    space: Mapping[str, FloatDistribution] = SQUARE,
    sampler: BaseSampler | None = None,
    **options: Any,
) -> optuna.Trial:
    """A trial drawn by a sampler of its own."""
    study.sampler = sampler or es(space, **options)
    return study.ask(dict(space))


def drawn(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.system_attrs[DRAWN] for trial in study.trials if DRAWN in trial.system_attrs]


def point(trial: optuna.Trial | FrozenTrial) -> np.ndarray:
    return np.array([trial.params["a"], trial.params["b"]])


def next_mean(study: optuna.Study, **options: Any) -> np.ndarray:
    """The mean that the next trial is drawn around."""
    ask(study, **options)
    return np.array(list(drawn(study)[-1]["mean"].values()))


@pytest.mark.parametrize(
    ("differences", "shaped"),
    [
        ([3.0], [0.5]),
        ([-1.0, 2.0], [-0.25, 0.5]),
        ([0.1, -5.0, 0.0, 2.0], [0.25, -0.5, 0.0, 0.375]),
        ([2.0, -2.0], [0.375, -0.375]),
        ([math.inf, 1.0, -math.inf, 7.0], [0.4375, 0.125, -0.4375, 0.25]),
    ],
)
def test_signed_ranks(differences: list[float], shaped: list[float]) -> None:
    assert signed_ranks(np.array(differences)).tolist() == shaped


def test_one_generation_moves_the_mean_as_computed_by_hand() -> None:
    study = optuna.create_study()
    trials = [ask(study, x0={"a": 0.4, "b": 0.6}, sigma0=0.05, learning_rate=4.0) for _ in range(4)]
    for trial, value in zip(trials, (1.0, 0.0, 5.0, 8.0), strict=True):  # D = (1, -3), s = (1/4, -2/4)
        study.tell(trial, value)
    moved = [(point(a) - point(b)) / 2 for a, b in (trials[:2], trials[2:])]
    expected = np.array([0.4, 0.6]) - 4.0 * (0.25 * moved[0] - 0.5 * moved[1]) / 2
    assert next_mean(study, x0={"a": 0.4, "b": 0.6}, learning_rate=4.0) == pytest.approx(expected, abs=1e-15)


def test_maximising_moves_the_other_way() -> None:
    means = {}
    for direction in ("minimize", "maximize"):
        study = optuna.create_study(direction=direction)
        trials = [ask(study, sigma0=0.05) for _ in range(4)]
        for trial, value in zip(trials, (1.0, 0.0, 5.0, 8.0), strict=True):
            study.tell(trial, value)
        means[direction] = next_mean(study)
    assert means["minimize"] - 0.5 == pytest.approx(0.5 - means["maximize"])


def test_pairs_mirror_at_their_mean_in_the_scale_of_each_parameter() -> None:
    study = optuna.create_study()
    trials = [ask(study, MIXED, sigma0=0.05, n_pairs=3) for _ in range(12)]
    for a, b in zip(trials[::2], trials[1::2], strict=True):
        assert math.log10(a.params["lr"]) + math.log10(b.params["lr"]) == pytest.approx(-6.0)
        assert a.params["p"] + b.params["p"] == pytest.approx(4.0)
    places = [(d["generation"], d["pair"], d["sign"]) for d in drawn(study)]
    assert places == [(g, p, s) for g in range(2) for p in range(3) for s in (1, -1)]
    assert len({a.params["p"] for a in trials}) == 12


def test_perturbations_are_normal_with_the_share_of_the_range() -> None:
    study = optuna.create_study()
    parts = [point(ask(study, sigma0=0.1)) for _ in range(600)][::2]  # one of each pair
    assert np.std(parts, axis=0) == pytest.approx([0.1, 0.1], rel=0.15)
    assert np.mean(parts, axis=0) == pytest.approx([0.5, 0.5], abs=0.025)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(8)), values=st.lists(st.floats(-5, 5), min_size=8, max_size=8))
def test_the_order_of_ends_within_a_generation_does_not_matter(order: list[int], values: list[float]) -> None:
    means = []
    for told in (range(8), order):
        study = optuna.create_study()
        trials = [ask(study) for _ in range(8)]
        for i in told:
            study.tell(trials[i], values[i])
        means.append(next_mean(study))
    assert means[0].tolist() == means[1].tolist()


def test_a_straggler_holds_up_its_own_generation_alone() -> None:
    study = optuna.create_study()
    trials = [ask(study) for _ in range(8)]  # generations 0 and 1, around the start
    for i in (0, 1, 2, 4, 5, 6, 7):
        study.tell(trials[i], float(i))
    second = [(point(a) - point(b)) / 2 for a, b in (trials[4:6], trials[6:])]
    only_second = 0.5 - 2.0 * (-0.375 * second[0] - 0.375 * second[1]) / 2
    assert next_mean(study) == pytest.approx(np.clip(only_second, 0, 1))
    study.tell(trials[3], 0.0)
    mirrored = ask(study)  # the second of a pair is drawn around the mean of the first
    assert drawn(study)[-1]["mean"] == drawn(study)[-2]["mean"]
    assert point(mirrored) == pytest.approx(np.clip(2 * only_second - point(study.trials[8]), 0, 1))
    assert next_mean(study) != pytest.approx(only_second)  # that of the next pair knows of generation 0


def end(study: optuna.Study, trial: optuna.Trial, how: float | str) -> None:
    if isinstance(how, float):
        study.tell(trial, how)
        return
    state, _, last = how.partition(" ")
    if last:
        trial.report(-99.0, 1)
        trial.report(float(last), 2)
    study.tell(trial, state=TrialState[state])


@pytest.mark.parametrize(
    ("ends", "shaped"),
    [
        ((1.0, 2.0, 9.0, "FAIL"), (-0.25, -0.5)),
        (("FAIL", -9.0, 9.0, 1.0), (0.5, 0.25)),
        (("FAIL", "FAIL", 9.0, 1.0), (0.0, 0.5)),
        (("FAIL", 1.0, 9.0, "FAIL"), (0.375, -0.375)),
        ((1.0, "PRUNED 4", 9.0, 1.0), (-0.25, 0.5)),
        ((1.0, "PRUNED", 9.0, 1.0), (-0.5, 0.25)),
        ((1.0, "PRUNED nan", 9.0, 1.0), (-0.5, 0.25)),
        (("FAIL", "FAIL", "FAIL", "PRUNED"), (0.0, 0.0)),
    ],
)
def test_members_that_failed_or_were_pruned(ends: tuple[float | str, ...], shaped: tuple[float, float]) -> None:
    study = optuna.create_study()
    trials = [ask(study, sigma0=0.05) for _ in range(4)]
    for trial, how in zip(trials, ends, strict=True):
        end(study, trial, how)
    moved = [(point(a) - point(b)) / 2 for a, b in (trials[:2], trials[2:])]
    expected = 0.5 - 2.0 * (shaped[0] * moved[0] + shaped[1] * moved[1]) / 2
    assert next_mean(study) == pytest.approx(expected, abs=1e-15)


def test_what_was_clipped_counts_as_it_was_evaluated() -> None:
    study, corner = optuna.create_study(), {"a": 0.0, "b": 1.0}
    trials = [ask(study, x0=corner, n_pairs=1) for _ in range(2)]
    values = [float(np.sum((point(trial) - 0.5) ** 2)) for trial in trials]
    for trial, value in zip(trials, values, strict=True):
        study.tell(trial, value)
    moved = (point(trials[0]) - point(trials[1])) / 2
    expected = np.clip(np.array([0.0, 1.0]) - 2.0 * np.sign(values[0] - values[1]) * 0.5 * moved, 0, 1)
    assert next_mean(study, x0=corner, n_pairs=1) == pytest.approx(expected, abs=1e-15)


@settings(max_examples=40, deadline=None)
@given(
    low=st.floats(1e-9, 1e3),
    factor=st.floats(1.001, 1e9),
    log=st.booleans(),
    where=st.floats(0, 1),
    sigma0=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**64),
    values=st.lists(st.floats(allow_nan=False), min_size=6, max_size=6),
)
def test_bounds_hold(
    *, low: float, factor: float, log: bool, where: float, sigma0: float, seed: int, values: list[float]
) -> None:
    space = {"x": FloatDistribution(low, low * factor, log=log), "y": FloatDistribution(-low, low)}
    x0 = {"x": min(low + where * (low * factor - low), low * factor), "y": low}
    study = optuna.create_study()
    for value in values:
        sampler = AntitheticESSampler(seed, x0, sigma0=sigma0, n_pairs=1, learning_rate=50.0, space=space)
        trial = ask(study, space, sampler)
        for name, found in space.items():
            assert found.low <= trial.params[name] <= found.high
        assert all(0 <= part <= 1 for part in drawn(study)[-1]["mean"].values())
        study.tell(trial, value)


def test_enqueued_trials_are_no_members_and_a_single_point_is_not_searched() -> None:
    space = SQUARE | {"held": FloatDistribution(0.25, 0.25)}
    plain, mixed = optuna.create_study(), optuna.create_study()
    expected = [ask(plain, space).params for _ in range(6)]
    found = []
    for i in range(6):
        if i in (0, 3):
            mixed.enqueue_trial({"a": 0.9, "b": 0.1, "held": 0.25} if i else {"a": 0.9})
            assert ask(mixed, space).params["a"] == 0.9
        found.append(ask(mixed, space).params)
    assert found == expected
    assert {params["held"] for params in found} == {0.25}
    assert [set(d["mean"]) for d in drawn(mixed)] == [{"a", "b"}] * 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, r"`seed >= 0` must hold, but got seed=-1"),
        ({"seed": 0, "sigma0": 0.0}, r"`0 < sigma0 <= 1` must hold, but got sigma0=0\."),
        ({"seed": 0, "n_pairs": 0}, r"`n_pairs >= 1` must hold, but got n_pairs=0"),
        ({"seed": 0, "learning_rate": math.inf}, r"`0 < learning_rate < inf` must hold, but got learning_rate=inf"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AntitheticESSampler(**arguments)


def test_a_start_out_of_range_and_other_kinds_of_parameters() -> None:
    with pytest.raises(ValueError, match=r"`0 <= x0\['b'\] <= 1` must hold, but got None\."):
        ask(optuna.create_study(), x0={"a": 0.5})
    with pytest.raises(ValueError, match=r"`0 <= x0\['a'\] <= 1` must hold, but got 1\.5\."):
        ask(optuna.create_study(), x0={"a": 1.5, "b": 0.5})
    study = optuna.create_study(sampler=AntitheticESSampler(0))
    with pytest.raises(ValueError, match="parameters must be floats without a step, but `n` is IntDistribution"):
        study.ask().suggest_int("n", 1, 3)
    with pytest.raises(ValueError, match="multi-objective"):
        ask(optuna.create_study(directions=["minimize", "minimize"]))
