"""The score: closed forms, pairing, and what failed trainings count."""

import math
from collections.abc import Sequence
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaopt.errors import ConfigError
from metaopt.meta import Objective, TrainingCurve, TrainingId, curve, outcome, ratios, score
from metaopt.training import Outcome, Record

IDS: tuple[TrainingId, ...] = tuple(product(("digits", "mnist5k"), (0, 1)))
fids = st.floats(min_value=1e-6, max_value=1e6)


def _curve(*values: float, ended: Outcome | None = Outcome.FINISHED) -> TrainingCurve:
    return TrainingCurve(fids=values, outcome=ended)


def _record(fid: float | None = None, ended: Outcome | None = None) -> Record:
    return Record(
        **dict.fromkeys(("iteration", "progress", "loss_d", "loss_g", "lr_d", "lr_g"), 0.0),  # type: ignore[arg-type]
        d_updates=0,
        g_updates=0,
        update_ratio=1.0,
        loss_gap=0.0,
        d_sign=0.0,
        d_accuracy=0.5,
        log_grad_ratio=0.0,
        fid=fid,
        outcome=ended,
    )


REFERENCE = {key: _curve(100.0, 40.0 + i, 20.0 + i) for i, key in enumerate(IDS)}


@pytest.mark.parametrize("evaluation", [0, 1, 2])
def test_the_reference_scores_zero(evaluation: int) -> None:
    assert score(REFERENCE, dict(REFERENCE), evaluation) == 0.0


@pytest.mark.parametrize("evaluation", [1, 2])
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_a_common_factor_scores_its_log(factor: float, evaluation: int) -> None:
    curves = {key: _curve(*(factor * fid for fid in one.fids)) for key, one in REFERENCE.items()}
    assert score(curves, REFERENCE, evaluation) == pytest.approx(math.log(factor), abs=1e-12)


def test_half_the_fid_is_minus_ln_2() -> None:
    assert score({IDS[0]: _curve(9.0, 2.0)}, {IDS[0]: _curve(9.0, 4.0)}, 1) == pytest.approx(-math.log(2))


def test_mean_over_trainings_not_over_fids() -> None:
    reference = {key: _curve(1.0, 10.0) for key in IDS}
    curves = {key: _curve(1.0, 10.0 * factor) for key, factor in zip(IDS, (0.5, 2.0, 0.25, 1.0), strict=True)}
    assert score(curves, reference, 1) == pytest.approx(-math.log(4) / 4)


@given(st.lists(st.tuples(fids, fids), min_size=1, max_size=4), st.randoms())
def test_paired_by_task_and_seed_whatever_the_order(pairs: list[tuple[float, float]], random: Random) -> None:
    ours = {key: _curve(1.0, a) for key, (a, _) in zip(IDS, pairs, strict=False)}
    theirs = {key: _curve(1.0, b) for key, (_, b) in zip(IDS, pairs, strict=False)}
    by_task: dict[str, list[float]] = {}
    for (task, _), (a, b) in zip(IDS, pairs, strict=False):
        by_task.setdefault(task, []).append(math.log(a / b))
    expected = sum(sum(part) / len(part) for part in by_task.values()) / len(by_task)
    shuffled = list(ours.items())
    random.shuffle(shuffled)
    assert score(dict(shuffled), theirs, 1) == score(ours, theirs, 1)
    assert score(ours, theirs, 1) == pytest.approx(expected, abs=1e-9)
    assert score(theirs, ours, 1) == pytest.approx(-score(ours, theirs, 1), abs=1e-9)


def test_the_pairing_matters() -> None:
    reference = {IDS[0]: _curve(1.0, 10.0), IDS[2]: _curve(1.0, 1000.0)}
    ours = {IDS[0]: _curve(1.0, 10.0, 10.0), IDS[2]: _curve(1.0, 10.0, 10.0)}
    assert score(ours, reference, 1) == pytest.approx(math.log(0.01) / 2)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Objective(), 0.25),
        (Objective(name="worst"), 1.0),
        (Objective(name="mean_tail", tail=0.25), (0.25 + 1.0) / 2),
        (Objective(name="mean_tail", tail=0.5), (0.25 + 0.75) / 2),
        (Objective(name="mean_tail", tail=1.0), 0.25),
        (Objective(name="mean_tail", tail=0.375), (0.25 + (1.0 + 0.5 * 0.5) / 1.5) / 2),
    ],
)
def test_objectives_are_of_the_tasks_means(objective: Objective, expected: float) -> None:
    """Two seeds a task; the tasks' means are -0.5, 0, 0.5 and 1."""
    means = {"a": -0.5, "b": 1.0, "c": 0.5, "d": 0.0}
    keys = {(task, seed): mean + (0.3 if seed else -0.3) for task, mean in means.items() for seed in (0, 1)}
    reference = {key: _curve(1.0, 10.0) for key in keys}
    ours = {key: _curve(1.0, 10.0 * math.exp(ratio)) for key, ratio in keys.items()}
    assert ratios(ours, reference, 1) == pytest.approx(keys, abs=1e-12)
    assert score(ours, reference, 1, objective) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("evaluation", [0, 1, 2, 9])
def test_a_diverged_training_counts_as_its_untrained_generator(evaluation: int) -> None:
    ours = _curve(80.0, 2.0, ended=Outcome.DIVERGED)  # good until it was lost
    assert ours.fid_at(evaluation) == 80.0
    found = score({IDS[0]: ours}, {IDS[0]: _curve(80.0, 40.0, 20.0)}, min(evaluation, 2))
    assert found == pytest.approx(math.log(80 / (80.0, 40.0, 20.0, 20.0)[min(evaluation, 2)]))


def test_a_diverged_reference_counts_as_its_untrained_generator() -> None:
    reference = {IDS[0]: _curve(80.0, ended=Outcome.DIVERGED)}
    assert score({IDS[0]: _curve(80.0, 20.0)}, reference, 1) == pytest.approx(-math.log(4))


def test_a_collapsed_training_counts_with_its_last_fid() -> None:
    ours = _curve(80.0, 60.0, ended=Outcome.COLLAPSED)
    assert [ours.fid_at(n) for n in range(4)] == [80.0, 60.0, 60.0, 60.0]
    assert score({IDS[0]: ours}, {IDS[0]: _curve(80.0, 40.0, 30.0)}, 2) == pytest.approx(math.log(2))


def test_a_running_training_counts_with_what_it_has() -> None:
    ours = _curve(80.0, 60.0, ended=None)
    assert [ours.fid_at(n) for n in range(2)] == [80.0, 60.0]


def test_a_fid_of_zero_is_a_finite_score() -> None:
    assert score({IDS[0]: _curve(1.0, 0.0)}, {IDS[0]: _curve(1.0, 0.0)}, 1) == 0.0
    assert score({IDS[0]: _curve(1.0, 0.0)}, {IDS[0]: _curve(1.0, 1.0)}, 1) == pytest.approx(math.log(1e-12))


@pytest.mark.parametrize("keys", [IDS[:3], (*IDS[:3], ("digits", 2)), (*IDS, ("digits", 2)), ()])
def test_other_trainings_than_the_reference_s_are_refused(keys: Sequence[TrainingId]) -> None:
    with pytest.raises(ConfigError, match=r"Trainings must be those of the reference \[\('digits', 0\), .*but got \["):
        score({key: _curve(1.0) for key in keys}, REFERENCE, 1)


@pytest.mark.parametrize("values", [(), (1.0, math.nan), (math.inf,), (-1e-9, 1.0)], ids=repr)
def test_fids_that_are_no_distances_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="FIDs must be one or more finite numbers >= 0, but got"):
        TrainingCurve(fids=values)


def test_curve_gathers_the_fids_and_the_end() -> None:
    records = [_record(9.0), _record(), _record(5.0), _record(), _record(4.0, Outcome.FINISHED)]
    assert curve(records) == _curve(9.0, 5.0, 4.0)
    assert curve(records[:3]) == _curve(9.0, 5.0, ended=None)
    assert curve([*records[:4], _record(None, Outcome.DIVERGED)]) == _curve(9.0, 5.0, ended=Outcome.DIVERGED)
    assert curve(iter(records)).untrained == 9.0


def test_curve_of_no_fid_is_refused() -> None:
    with pytest.raises(ConfigError, match="FIDs must be one or more"):
        curve([_record()])


D, C, F = Outcome.DIVERGED, Outcome.COLLAPSED, Outcome.FINISHED


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ([F, F], F),
        ([F, C], C),
        ([C, D, F], D),
        ([F, D], D),
        ([C], C),
        ([D, None], None),
        ([None], None),
    ],
)
def test_outcome_is_the_worst_and_none_while_any_is_running(
    ended: list[Outcome | None], expected: Outcome | None
) -> None:
    for order in (ended, ended[::-1]):
        assert outcome([_curve(1.0, ended=one) for one in order]) is expected
