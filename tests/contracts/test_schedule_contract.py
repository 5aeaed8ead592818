"""What every schedule must do, whichever it is: families, baselines, and schedules from a file."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_strategies import any_signals, families_with_params, thorough

from metaopt.schedules import BASELINES, FAMILIES, Schedule, ScheduleArtifact, Signals, State, build_schedule
from metaopt.schedules.types import MAX_LR, MAX_UPDATE_RATIO, MIN_UPDATE_RATIO

EXTREMES = [
    Signals(
        progress=progress,
        loss_gap=gap,
        d_sign=sign,
        d_accuracy=accuracy,
        g_loss=loss,
        log_grad_ratio=ratio,
        kid_tests=10 * progress + tests,
        kid_p=p,
    )
    for progress in (0.0, 0.5, 1.0)
    for gap, sign, accuracy, loss, ratio, tests, p in (
        (0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0),
        (-1.0, 1.0, 1.0, 1e6, 50.0, 1.0, 1.0),
        (1e6, -1.0, 0.0, 0.0, -50.0, 2.0, 1.0),
        (1e-12, 1.0, 1.0, 1e-12, 1e-12, 3.0, 1.0),
        (-1e-12, -1.0, 0.0, 1e-12, -1e-12, 4.0, 0.0),
    )
]


def artifact_of(family: str, params: dict[str, float]) -> ScheduleArtifact:
    """As if it came from a file."""
    return ScheduleArtifact(family=family, params=params, score=-0.1, trained_on=("digits",), budget=1000.0)


def _named() -> dict[str, tuple[Callable[[], Schedule], bool]]:
    named: dict[str, tuple[Callable[[], Schedule], bool]] = {}
    for family in FAMILIES.values():
        params = {p.name: p.default for p in family.parameters}
        named[f"family {family.name}"] = (lambda f=family, p=params: build_schedule(f.name, p)), family.closed_loop
        named[f"artifact {family.name}"] = (lambda f=family, p=params: artifact_of(f.name, p)), family.closed_loop
    for name, baseline in BASELINES.items():
        named[f"baseline {name}"] = baseline.build, FAMILIES[baseline.family].closed_loop
    return named


NAMED = _named()
EVERY = pytest.mark.parametrize(("build", "closed_loop"), NAMED.values(), ids=NAMED)


@st.composite
def any_schedule(draw: st.DrawFn) -> tuple[Schedule, bool]:
    """A schedule of any family at any parameters, built or from a file, and whether it reads signals."""
    family, params = draw(families_with_params())
    build = draw(st.sampled_from([build_schedule, artifact_of]))
    return build(family.name, params), family.closed_loop


def check_step(schedule: Schedule, state: State, signals: Signals) -> State:
    """The contract of one step: pure, within bounds, state of plain numbers that JSON keeps; returns the next state."""
    first, second = schedule.step(state, signals), schedule.step(state, signals)
    assert first == second
    after, controls = first
    assert isinstance(after, tuple)
    assert all(type(number) is float for number in after)
    kept = tuple(json.loads(json.dumps(after, allow_nan=False)))
    assert kept == after
    assert schedule.step(kept, signals) == schedule.step(after, signals)
    assert 0 <= controls.lr_g <= MAX_LR
    assert 0 <= controls.lr_d <= MAX_LR
    assert MIN_UPDATE_RATIO <= controls.update_ratio <= MAX_UPDATE_RATIO
    assert {type(v) for v in (controls.lr_g, controls.lr_d, controls.update_ratio)} == {float}
    return after


def check_blind(schedule: Schedule, state: State, signals: Signals) -> None:
    """An open-loop schedule sets what it sets at that progress with that loss, whatever else it is told."""
    known = Signals(progress=signals.progress, ideal_d_loss=signals.ideal_d_loss)
    assert schedule.step(state, signals) == schedule.step(state, known)


@EVERY
def test_extreme_signals(build: Callable[[], Schedule], closed_loop: bool) -> None:
    schedule = build()
    state = schedule.init()
    assert state == schedule.init()
    for signals in EXTREMES:
        if not closed_loop:
            check_blind(schedule, state, signals)
        state = check_step(schedule, state, signals)


@EVERY
def test_two_built_alike_act_alike(build: Callable[[], Schedule], closed_loop: bool) -> None:
    one, other = build(), build()
    state = one.init()
    assert state == other.init()
    for signals in EXTREMES:
        assert one.step(state, signals) == other.step(state, signals)
        state, _ = one.step(state, signals)


@EVERY
def test_a_step_does_not_change_what_earlier_steps_gave(build: Callable[[], Schedule], closed_loop: bool) -> None:
    """Nothing is hidden in the schedule: going back to a state gives what it gave."""
    schedule = build()
    state, trail = schedule.init(), []
    for signals in EXTREMES:
        trail.append((state, signals, schedule.step(state, signals)))
        state, _ = trail[-1][2]
    for before, signals, result in reversed(trail):
        assert schedule.step(before, signals) == result


@EVERY
def test_closed_loop_means_that_some_signal_matters(build: Callable[[], Schedule], closed_loop: bool) -> None:
    schedule = build()
    state = schedule.init()
    balanced = Signals(progress=0.5)
    changes: list[dict[str, Any]] = [
        {name: value}
        for name, values in {
            "loss_gap": (-0.5, 0.5),
            "d_sign": (-1.0, 1.0),
            "d_accuracy": (0.0, 1.0),
            "g_loss": (0.0, 5.0),
            "log_grad_ratio": (-5.0, 5.0),
            "kid_tests": (1.0, 9.0),
            "kid_p": (0.5, 1.0),
        }.items()
        for value in values
    ]
    seen = [schedule.step(state, replace(balanced, **change)) != schedule.step(state, balanced) for change in changes]
    assert any(seen) == closed_loop
    assert bool(getattr(schedule, "closed_loop", False)) == closed_loop


@thorough
@given(pair=any_schedule(), signals=any_signals())
def test_any_parameters_and_signals(pair: tuple[Schedule, bool], signals: Signals) -> None:
    schedule, closed_loop = pair
    check_step(schedule, schedule.init(), signals)
    if not closed_loop:
        check_blind(schedule, schedule.init(), signals)


@settings(deadline=None, max_examples=50)
@given(pair=any_schedule(), trail=st.lists(any_signals(), min_size=1, max_size=20))
def test_any_course_of_a_training(pair: tuple[Schedule, bool], trail: list[Signals]) -> None:
    schedule, _ = pair
    state = schedule.init()
    for signals in trail:
        state = check_step(schedule, state, signals)


@thorough
@given(pair=any_schedule())
def test_the_bounds_hold_at_the_very_ends(pair: tuple[Schedule, bool]) -> None:
    schedule, _ = pair
    for signals in EXTREMES:
        check_step(schedule, schedule.init(), signals)
