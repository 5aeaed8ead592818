"""Rates halved by tests of the generator, against values counted by hand."""

import math

import pytest

from metaopt.errors import ConfigError
from metaopt.schedules import BASELINES, FAMILIES, Controls, ScheduleArtifact, Signals, as_point_of, build_schedule
from metaopt.schedules.kid_halving import KidHalving

RATES = {"lr_g": 1e-3, "lr_d": 4e-3, "update_ratio": 2.0}


def halvings(schedule: KidHalving, tests: list[float]) -> list[float]:
    """``log2`` of how far both rates have fallen after each test; each is seen at three steps."""
    state, seen = schedule.init(), []
    for i, p in enumerate(tests):
        for progress in (0.2, 0.3, 0.4):
            state, controls = schedule.step(state, Signals(progress=progress, kid_tests=i + 1.0, kid_p=p))
        assert controls.lr_g / schedule.lr_g == controls.lr_d / schedule.lr_d
        assert controls.update_ratio == schedule.update_ratio
        seen.append(math.log2(schedule.lr_g / controls.lr_g))
    return seen


@pytest.mark.parametrize(
    ("settings", "tests", "expected"),
    [
        ({}, [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0, 0, 1, 1, 1, 2, 2]),
        ({}, [0.5, 0.5, 0.0, 0.5, 0.5, 0.5, 0.0], [0, 0, 0, 0, 0, 1, 1]),
        ({}, [0.1, 0.1, 0.1, 0.1001, 1.0, 0.11], [0, 0, 0, 0, 0, 1]),  # above 0.1, not at it
        ({"p_value": 0.5}, [0.4, 0.5, 0.4, 0.6, 0.6, 0.6], [0, 0, 0, 0, 0, 1]),
        ({"patience": 1.0}, [0.5, 0.0, 0.5], [1, 1, 2]),
        ({"patience": 1.5}, [0.5, 0.5, 0.5, 0.5], [0, 1, 1, 2]),
        ({"factor": 0.25}, [0.5, 0.5, 0.5], [0, 0, 2]),
        ({"factor": 1.0}, [0.5, 0.5, 0.5], [0, 0, 0]),
    ],
)
def test_both_rates_fall_after_enough_failures_in_a_row(
    settings: dict[str, float], tests: list[float], expected: list[float]
) -> None:
    assert halvings(KidHalving(**RATES, **settings), tests) == pytest.approx(expected, abs=1e-12)


def test_the_state_holds_tests_failures_and_halvings() -> None:
    schedule = KidHalving(**RATES)
    state = schedule.init()
    for i, p in enumerate([0.5] * 3 + [0.0] + [0.5] * 2):
        state, _ = schedule.step(state, Signals(progress=0.5, kid_tests=i + 1.0, kid_p=p))
    assert state == (6.0, 2.0, 1.0)


def test_without_a_test_nothing_happens() -> None:
    schedule = KidHalving(**RATES)
    assert schedule.step(schedule.init(), Signals(progress=0.9, kid_p=1.0)) == (schedule.init(), Controls(**RATES))


def test_the_published_settings_are_the_defaults_of_the_family() -> None:
    defaults = {p.name: p.default for p in FAMILIES["kid_halving"].parameters}
    schedule = build_schedule("kid_halving", defaults)
    assert schedule == KidHalving(lr_g=1e-3, lr_d=1e-3)
    assert (defaults["p_value"], defaults["patience"], defaults["factor"]) == (0.1, 3.0, 0.5)


def test_a_constant_is_a_point_of_the_family() -> None:
    point = as_point_of(BASELINES["sagan"], FAMILIES["kid_halving"])
    assert point is not None and (point["factor"], point["lr_g"], point["lr_d"]) == (1.0, 1e-4, 4e-4)


def test_those_that_need_tests_say_so_from_a_file_too() -> None:
    for name, family in FAMILIES.items():
        params = {p.name: p.default for p in family.parameters}
        built, artifact = build_schedule(name, params), ScheduleArtifact(family=name, params=params)
        assert getattr(built, "reads_kid", False) == artifact.reads_kid == (name == "kid_halving")


@pytest.mark.parametrize(
    ("rule", "field", "value"),
    [
        ("0 <= p_value <= 1", "p_value", 1.5),
        ("0 <= p_value <= 1", "p_value", math.nan),
        ("patience >= 1", "patience", 0.5),
        ("0 < factor <= 1", "factor", 0.0),
        ("0 < factor <= 1", "factor", 2.0),
    ],
)
def test_settings_are_checked_at_birth(rule: str, field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"`{rule}` must hold, but got {field}={value}"):
        KidHalving(**RATES, **{field: value})
