"""GapAware against the published rule, written down anew on raw losses."""

import math
from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule_strategies import thorough

from metaopt.errors import ConfigError
from metaopt.schedules import Signals
from metaopt.schedules.feedback import GapAware

IDEAL = math.log(4)


def published(
    losses: Iterable[float],
    *,
    ideal: float,
    h_min: float = 0.1,
    f_max: float = 2.0,
    x_min: float | None = None,
    x_max: float | None = None,
) -> list[float]:
    """Multipliers of D's rate after each loss (Hazimeh & Ponomareva 2023, algorithm 1, with its 0.95 average)."""
    x_min = 0.1 * ideal if x_min is None else x_min
    x_max = 0.1 * ideal if x_max is None else x_max
    average, multipliers = ideal, []
    for loss in losses:
        average = 0.95 * average + 0.05 * loss
        x = abs(average - ideal)
        if average > ideal:
            multipliers.append(min(max(f_max ** (x / x_max), 1.0), f_max))
        else:
            multipliers.append(min(max(h_min ** (x / x_min), h_min), 1.0))
    return multipliers


def followed(schedule: GapAware, losses: Iterable[float], ideal: float) -> list[float]:
    """The same from `GapAware`, given the average as the signal that it reads."""
    average, rates, state = ideal, [], schedule.init()
    for loss in losses:
        average += 0.05 * (loss - average)
        state, controls = schedule.step(state, Signals(progress=0.5, loss_gap=average / ideal - 1))
        assert (controls.lr_g, controls.update_ratio) == (schedule.lr_g, schedule.update_ratio)
        rates.append(controls.lr_d)
    return rates


@thorough
@given(losses=st.lists(st.floats(0, 20), min_size=1, max_size=60), ideal=st.sampled_from([IDEAL, 1.0, 2.0]))
def test_it_is_the_published_rule(losses: list[float], ideal: float) -> None:
    schedule = GapAware(lr_g=3e-4, lr_d=1e-3)
    expected = [1e-3 * s for s in published(losses, ideal=ideal)]
    assert followed(schedule, losses, ideal) == pytest.approx(expected, rel=1e-9)


@thorough
@given(
    losses=st.lists(st.floats(0, 4), min_size=1, max_size=40),  # beyond, the power overflows before the clip
    h_min=st.floats(0.01, 1),
    f_max=st.floats(1, 10),
    x_min=st.floats(0.01, 1),
    x_max=st.floats(0.01, 1),
)
def test_its_gaps_are_shares_of_the_ideal_loss(
    losses: list[float], h_min: float, f_max: float, x_min: float, x_max: float
) -> None:
    schedule = GapAware(lr_g=1e-3, lr_d=1.0, h_min=h_min, f_max=f_max, x_min=x_min, x_max=x_max)
    raw = {"h_min": h_min, "f_max": f_max, "x_min": x_min * IDEAL, "x_max": x_max * IDEAL}
    expected = published(losses, ideal=IDEAL, **raw)
    assert followed(schedule, losses, IDEAL) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("loss_gap", "multiplier"),
    [
        (-1.0, 0.1),
        (-0.1, 0.1),
        (-0.05, math.sqrt(0.1)),
        (-0.01, 0.1**0.1),
        (0.0, 1.0),
        (0.01, 2**0.1),
        (0.05, math.sqrt(2)),
        (0.1, 2.0),
        (5.0, 2.0),
        (1e300, 2.0),
    ],
)
def test_multiplier_at_known_gaps(loss_gap: float, multiplier: float) -> None:
    assert GapAware(lr_g=1.0, lr_d=1.0).multiplier(loss_gap) == pytest.approx(multiplier, rel=1e-14)


@thorough
@given(
    gaps=st.lists(st.floats(-1, 1e6), min_size=2, max_size=20),
    h_min=st.floats(0.01, 1),
    f_max=st.floats(1, 10),
    x_min=st.floats(0.01, 1),
)
def test_a_weaker_discriminator_never_gets_a_lower_rate(
    gaps: list[float], h_min: float, f_max: float, x_min: float
) -> None:
    schedule = GapAware(lr_g=1.0, lr_d=1.0, h_min=h_min, f_max=f_max, x_min=x_min)
    multipliers = [schedule.multiplier(gap) for gap in sorted(gaps)]
    assert multipliers == sorted(multipliers)
    assert all(h_min <= s <= f_max for s in multipliers)


def test_it_reads_the_gap_alone() -> None:
    schedule = GapAware(lr_g=1e-4, lr_d=1e-3, update_ratio=2.0)
    expected = schedule.step((), Signals(progress=0.0, loss_gap=0.03))
    for progress, sign, ratio in product((0.0, 1.0), (-1.0, 1.0), (-50.0, 50.0)):
        signals = Signals(progress=progress, loss_gap=0.03, d_sign=sign, g_loss=9.0, log_grad_ratio=ratio)
        assert schedule.step((), signals) == expected


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("h_min", 0.0, "0 < h_min <= 1"),
        ("h_min", 1.1, "0 < h_min <= 1"),
        ("h_min", math.nan, "0 < h_min <= 1"),
        ("f_max", 0.9, "f_max >= 1"),
        ("f_max", math.nan, "f_max >= 1"),
        ("x_min", 0.0, "x_min > 0"),
        ("x_max", -0.1, "x_max > 0"),
        ("x_max", math.nan, "x_max > 0"),
    ],
)
def test_settings_are_checked_at_birth(field: str, value: float, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"`{rule}` must hold, but got {field}={value}"):
        GapAware(lr_g=1e-3, lr_d=1e-3, **{field: value})
