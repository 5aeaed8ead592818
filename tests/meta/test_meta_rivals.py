"""Baselines on the rates of a static schedule: names, and controls computed by hand."""

from typing import Any

import pytest

from metaopt.errors import ConfigError
from metaopt.gan import Task
from metaopt.meta.rivals import PUBLISHED, rivals
from metaopt.meta.transfer import Cell
from metaopt.schedules import BASELINES, NamedSchedule, Signals, find_family, named_schedule

STATIC = NamedSchedule(
    name="best",
    family="power_decay",
    params={"lr_g": 2e-3, "lr_d": 1e-3, "update_ratio": 2.0, "power": 2.0, "warmup": 0.1},
    source="",
)
KNOWN = rivals(STATIC)
HALF = 10**-0.5
"""Half way, in logs, to the smallest multiplier, 0.1."""
CONSTANT = {0.0: (2e-3, 1e-3, 2.0), 1.0: (2e-3, 1e-3, 2.0)}
OPEN: dict[str, dict[float, tuple[float, float, float]]] = {
    "static": {
        0.05: (2e-3 * 0.5 * 0.95**2, 1e-3 * 0.5 * 0.95**2, 2.0),
        0.5: (5e-4, 2.5e-4, 2.0),
        1.0: (0.0, 0.0, 2.0),
    },
    "constant_static": CONSTANT,
    "lookahead_static": CONSTANT,
    "cosine_static": {0.0: (2e-3, 1e-3, 2.0), 0.5: (1e-3, 5e-4, 2.0), 1.0: (0.0, 0.0, 2.0)},
    "dcgan": {0.7: (2e-4, 2e-4, 1.0)},
    "ttur": {0.7: (5e-4, 1e-4, 1.0)},
    "sagan": {0.7: (1e-4, 4e-4, 1.0)},
    "gap_aware_control": {0.7: (1e-3, 1e-4, 1.0)},
}
CLOSED: dict[str, list[tuple[dict[str, float], tuple[float, float, float]]]] = {
    "gap_aware_static": [
        ({"loss_gap": 0.0}, (2e-3, 1e-3, 2.0)),
        ({"loss_gap": -0.05}, (2e-3, 1e-3 * HALF, 2.0)),
        ({"loss_gap": -0.5}, (2e-3, 1e-4, 2.0)),
        ({"loss_gap": 0.5}, (2e-3, 2e-3, 2.0)),
    ],
    "gap_aware": [({"loss_gap": -0.05}, (1e-3, 1e-3 * HALF, 1.0)), ({"loss_gap": 0.5}, (1e-3, 2e-3, 1.0))],
    "sign_control_static": [
        ({"progress": 0.05, "d_sign": 0.7}, (2e-3, 1e-3 * HALF, 2.0)),
        ({"progress": 0.15, "d_sign": 0.61}, (2e-3, 1e-4, 2.0)),
        ({"progress": 0.2, "d_sign": 0.59}, (2e-3, 1e-3 * HALF, 2.0)),
    ],
    "loss_change_static": [
        ({"loss_gap": 0.0, "g_loss": 0.5}, (2e-3, 1e-3, 1.0)),
        ({"loss_gap": 0.2, "g_loss": 0.55}, (2e-3, 1e-3, 5.0)),
        ({"loss_gap": 0.2, "g_loss": 0.65}, (2e-3, 1e-3, 0.2)),
    ],
    "kid_halving_static": [
        *(({"kid_tests": i, "kid_p": 0.11}, (2e-3, 1e-3, 2.0)) for i in (1.0, 2.0)),
        ({"kid_tests": 3.0, "kid_p": 0.11}, (1e-3, 5e-4, 2.0)),
        ({"kid_tests": 4.0, "kid_p": 0.1}, (1e-3, 5e-4, 2.0)),
    ],
}


def test_every_baseline_is_here_under_its_own_name() -> None:
    assert set(KNOWN) == set(OPEN) | set(CLOSED)
    assert set(PUBLISHED) == {name for name in KNOWN if not name.endswith("static")}
    for name, one in KNOWN.items():
        assert one.name == one.schedule.name == name
        assert one.schedule.source
        assert find_family(one.schedule.family).closed_loop == (name in CLOSED)


@pytest.mark.parametrize(("name", "over_progress"), OPEN.items(), ids=OPEN)
def test_controls_of_those_that_read_progress_alone(name: str, over_progress: dict[float, Any]) -> None:
    schedule = KNOWN[name].schedule.build()
    for progress, expected in over_progress.items():
        _, controls = schedule.step(schedule.init(), Signals(progress=progress))
        assert (controls.lr_g, controls.lr_d, controls.update_ratio) == pytest.approx(expected, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize(("name", "course"), CLOSED.items(), ids=CLOSED)
def test_controls_of_those_that_read_signals(name: str, course: list[Any]) -> None:
    schedule = KNOWN[name].schedule.build()
    state = schedule.init()
    for signals, expected in course:
        state, controls = schedule.step(state, Signals(**{"progress": 0.5} | signals))
        assert (controls.lr_g, controls.lr_d, controls.update_ratio) == pytest.approx(expected, rel=1e-12)


def test_lookahead_alone_changes_the_task() -> None:
    task = Task(name="a", data="digits", budget=100)
    trained = {name: Cell(contestant=one, task=task, seed=0).trained_task for name, one in KNOWN.items()}
    changed = {name: found for name, found in trained.items() if found != task}
    assert changed == {"lookahead_static": Task(name="a", data="digits", budget=100, lookahead=5)}


def test_a_constant_is_a_power_decay_too() -> None:
    found = rivals(BASELINES["sagan"])
    for name in ("static", "constant_static", "kid_halving_static", "lookahead_static"):
        schedule = found[name].schedule.build()
        _, controls = schedule.step(schedule.init(), Signals(progress=0.9))
        assert (controls.lr_g, controls.lr_d, controls.update_ratio) == (1e-4, 4e-4, 1.0)


@pytest.mark.parametrize("name", ["cosine", "gap_aware", "residual", "kid_halving"])
def test_a_static_schedule_that_is_no_power_decay_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"must be a point of power_decay, but '{name}' is {name}"):
        rivals(named_schedule(name))
