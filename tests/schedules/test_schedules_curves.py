"""Curves: closed forms, ends, and no step over a bound by rounding."""

import doctest
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule_strategies import thorough

from metaopt.errors import ConfigError
from metaopt.schedules import curves

PROGRESS = (0.0, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.9, 1.0)
POSITIVE = st.floats(1e-8, 10.0)


def test_the_examples_of_the_docstrings_hold() -> None:
    result = doctest.testmod(curves)
    assert result.attempted >= 4
    assert result.failed == 0


@thorough
@given(value=st.floats(-1e6, 1e6), t=st.floats(0, 1))
def test_constant_is_exact(value: float, t: float) -> None:
    assert curves.constant(value)(t) == value


@pytest.mark.parametrize(("t", "expected"), [(0.0, 1.0), (0.25, 1.5), (0.5, 2.0), (1.0, 3.0)])
def test_linear(t: float, expected: float) -> None:
    assert curves.linear(1.0, 3.0)(t) == expected
    assert curves.linear(3.0, 1.0)(t) == 4.0 - expected


@pytest.mark.parametrize(
    ("t", "share"), [(0.0, 1.0), (1 / 3, 0.75), (0.25, (2 + math.sqrt(2)) / 4), (0.5, 0.5), (2 / 3, 0.25), (1.0, 0.0)]
)
def test_cosine(t: float, share: float) -> None:
    assert curves.cosine(4.0, 1.0)(t) == pytest.approx(1.0 + 3.0 * share, rel=1e-15)
    assert curves.cosine(1.0, 4.0)(t) == pytest.approx(4.0 - 3.0 * share, rel=1e-15)


def test_cosine_is_flat_at_both_ends_and_steepest_in_the_middle() -> None:
    f, h = curves.cosine(1.0, 0.0), 1e-4
    slopes = [(f(t + h) - f(t)) / h for t in (0.0, 0.5 - h / 2, 1.0 - h)]
    assert slopes == pytest.approx([0.0, -math.pi / 2, 0.0], abs=1e-3)


@pytest.mark.parametrize(
    ("power", "values"),
    [
        (0.0, [2.0, 2.0, 2.0, 2.0]),
        (0.5, [2.0, math.sqrt(3), math.sqrt(2), 0.0]),
        (1.0, [2.0, 1.5, 1.0, 0.0]),
        (2.0, [2.0, 1.125, 0.5, 0.0]),
        (4.0, [2.0, 0.6328125, 0.125, 0.0]),
    ],
)
def test_power_decay(power: float, values: list[float]) -> None:
    f = curves.power_decay(2.0, power)
    assert [f(t) for t in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(values, rel=1e-15)


@pytest.mark.parametrize("power", [-0.1, -math.inf, math.nan])
def test_power_decay_refuses_what_would_explode_at_the_end(power: float) -> None:
    with pytest.raises(ConfigError, match=r"`power >= 0` must hold, but got power=(-0.1|-inf|nan)"):
        curves.power_decay(1.0, power)


def test_knots_are_linear_in_log_space() -> None:
    f = curves.knots([1e-4, 1e-2, 1e-3])
    for t, exponent in ((0.0, -4), (0.125, -3.5), (0.25, -3), (0.5, -2), (0.75, -2.5), (0.9, -2.8), (1.0, -3)):
        assert f(t) == pytest.approx(10.0**exponent, rel=1e-12)


@thorough
@given(values=st.lists(POSITIVE, min_size=2, max_size=6))
def test_knots_go_through_their_values(values: list[float]) -> None:
    f, n = curves.knots(values), len(values) - 1
    assert [f(i / n) for i in range(n + 1)] == pytest.approx(values, rel=1e-12)


@thorough
@given(values=st.lists(POSITIVE, min_size=2, max_size=6), t=st.floats(0, 1))
def test_knots_interpolate_as_a_plain_search_over_the_pieces_does(values: list[float], t: float) -> None:
    assert math.log(curves.knots(values)(t)) == pytest.approx(_by_pieces(values, t), abs=1e-9)


def _by_pieces(values: Sequence[float], t: float) -> float:
    n = len(values) - 1
    for i in range(n):
        if i / n <= t <= (i + 1) / n:
            share = t * n - i
            return (1 - share) * math.log(values[i]) + share * math.log(values[i + 1])
    raise AssertionError(t)


@thorough
@given(value=POSITIVE, n=st.integers(2, 6), t=st.floats(0, 1))
def test_equal_knots_are_the_constant_exactly(value: float, n: int, t: float) -> None:
    assert curves.knots([value] * n)(t) == value


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 0.0], [1.0, -1.0, 2.0], [1.0, math.nan]])
def test_knots_refuse_too_few_and_what_has_no_logarithm(values: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"Knots must be two or more values > 0, but got \["):
        curves.knots(values)


@thorough
@given(start=POSITIVE, end=POSITIVE, power=st.floats(0, 4), t=st.one_of(st.sampled_from(PROGRESS), st.floats(0, 1)))
def test_rounding_never_leaves_the_ends(start: float, end: float, power: float, t: float) -> None:
    low, high = min(start, end), max(start, end)
    for curve in (curves.linear(start, end), curves.cosine(start, end), curves.knots([start, end, start])):
        assert low <= curve(t) <= high
    assert 0 <= curves.power_decay(start, power)(t) <= start


@pytest.mark.parametrize("bound", [10.0, 8.0, 1 / 8])
def test_a_knot_at_a_bound_stays_on_it(bound: float) -> None:
    """``exp(log(10)) > 10`` and ``exp(log(1/8)) > 1/8`` in floating point."""
    other = 1.0
    values = [curves.knots(knots)(t) for knots in ([bound, other], [other, bound]) for t in PROGRESS]
    assert min(bound, other) <= min(values)
    assert max(values) <= max(bound, other)
