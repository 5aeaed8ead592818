"""Piecewise constant controls: which piece is in force where, computed by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule_strategies import params_of, thorough

from metaopt.errors import ConfigError
from metaopt.schedules import FAMILIES, Controls, NamedSchedule, Signals, as_point_of, build_schedule
from metaopt.schedules.steps import PIECES, as_steps

FIRST = {"lr_g": 1e-3, "lr_d": 2e-3, "update_ratio": 1.5}
SECOND = {"lr_g": 3e-3, "lr_d": 1e-4, "update_ratio": 4.0}
THIRD = {"lr_g": 1e-3, "lr_d": 1e-4, "update_ratio": 0.5}


def at(params: dict[str, float], progress: float) -> Controls:
    schedule = build_schedule("steps", params)
    return schedule.step(schedule.init(), Signals(progress=progress))[1]


def test_each_piece_holds_from_where_it_begins() -> None:
    params = as_steps([(0.0, FIRST), (1 / 3, SECOND), (2 / 3, THIRD)])
    before = [0.0, 0.2, 1 / 3 - 1e-6]
    between = [1 / 3 - 1e-10, 1 / 3, 0.5, 2 / 3 - 1e-6]
    after = [2 / 3, 0.9, 1.0]
    for pieces, controls in ((before, FIRST), (between, SECOND), (after, THIRD)):
        assert {at(params, t) for t in pieces} == {Controls(**controls)}


def test_a_piece_begins_where_a_training_takes_its_evaluation() -> None:
    """Both in floats: the k-th of n evaluations is the record 10 k of 10 n, and a piece begins at k / n."""
    for n in range(2, PIECES + 1):
        for k in range(1, n):
            params = as_steps([(0.0, FIRST), (k / n, SECOND)])
            reached = 10 * k / (10 * n) - 1e-9  # `progress < reached` trains on
            assert at(params, reached) == Controls(**SECOND)
            assert at(params, reached - 1e-12) == Controls(**FIRST)


def test_pieces_that_do_not_differ_are_one() -> None:
    params = as_steps([(0.0, FIRST), (0.25, FIRST), (0.5, SECOND), (0.75, SECOND)])
    assert params == FIRST | {f"{name}_1": value for name, value in SECOND.items()} | {"from_1": 0.5}
    assert as_steps([(0.0, FIRST), (0.5, dict(FIRST))]) == FIRST


def test_ten_pieces_fit() -> None:
    pieces = [(i / PIECES, FIRST | {"lr_g": 1e-4 * (i + 1)}) for i in range(PIECES)]
    params = as_steps(pieces)
    for begins, controls in pieces:
        assert at(params, begins) == Controls(**controls)
    with pytest.raises(ConfigError, match="no parameter of family 'steps' called 'lr_g_10'"):
        build_schedule("steps", as_steps([*pieces, (0.95, SECOND)]))


def test_a_piece_from_1_on_is_never_in_force_not_even_at_the_end() -> None:
    params = as_steps([(0.0, FIRST), (1.0, SECOND)])
    assert at(params, 1.0) == Controls(**FIRST)


def test_of_pieces_that_have_begun_the_last_one_counts_wherever_it_began() -> None:
    params = as_steps([(0.0, FIRST), (0.5, SECOND), (0.25, THIRD)])
    assert at(params, 0.3) == at(params, 0.9) == Controls(**THIRD)


def test_more_than_one_piece_is_no_constant() -> None:
    stepped = NamedSchedule(name="", family="steps", params=as_steps([(0.0, FIRST), (0.5, SECOND)]), source="")
    assert as_point_of(stepped, FAMILIES["constant"]) is None


@thorough
@given(params=params_of(FAMILIES["steps"]), progress=st.floats(0, 1))
def test_controls_are_always_those_of_one_piece(params: dict[str, float], progress: float) -> None:
    pieces = [
        Controls(**{name: params[f"{name}_{i}" if i else name] for name in FIRST})
        for i in range(PIECES)
        if i == 0 or params[f"from_{i}"] < 1
    ]
    assert at(params, progress) in pieces
