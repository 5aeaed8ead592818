"""Rules with a state, against values computed by hand."""

import math

import pytest

from metaopt.errors import ConfigError
from metaopt.schedules import Controls, Schedule, Signals
from metaopt.schedules.controllers import LossChange, SignControlled

LOG_4 = math.log(4)


def followed(schedule: Schedule, signals: list[Signals]) -> list[Controls]:
    """What a schedule sets at each of `signals`, in turn."""
    state, seen = schedule.init(), []
    for now in signals:
        state, controls = schedule.step(state, now)
        seen.append(controls)
    return seen


def test_the_sign_controller_crosses_its_range_in_its_span_and_comes_back() -> None:
    schedule = SignControlled(lr_g=1e-4, lr_d=1e-3, update_ratio=2.0, span=0.1, h_min=0.1)
    signs = [(0.0, 0.0), (0.05, 0.9), (0.1, 0.9), (0.2, 0.9), (0.25, 0.6), (0.275, 0.1), (0.5, -1.0)]
    seen = followed(schedule, [Signals(progress=t, d_sign=sign) for t, sign in signs])
    shares = [1.0, 10**-0.5, 0.1, 0.1, 0.1, 10**-0.75, 1.0]
    assert [c.lr_d for c in seen] == pytest.approx([1e-3 * share for share in shares], rel=1e-12)
    assert {(c.lr_g, c.update_ratio) for c in seen} == {(1e-4, 2.0)}


def test_the_sign_controller_reads_the_target() -> None:
    low = SignControlled(lr_g=1e-4, lr_d=1e-3, target=0.2)
    assert followed(low, [Signals(progress=0.05, d_sign=0.4)])[0].lr_d < 1e-3
    assert followed(SignControlled(lr_g=1e-4, lr_d=1e-3), [Signals(progress=0.05, d_sign=0.4)])[0].lr_d == 1e-3


def test_loss_change_gives_the_turn_to_the_player_whose_loss_moved_more() -> None:
    schedule = LossChange(lr_g=1e-4, lr_d=1e-3, balance=2.0, most=4.0)
    losses = [(1.0, 0.5), (1.0, 0.5), (0.9, 0.48), (0.9, 0.48), (0.8, 0.4), (0.4, 0.3)]
    signals = [
        Signals(progress=i / 10, loss_gap=loss_d - 1, g_loss=loss_g, ideal_d_loss=LOG_4)
        for i, (loss_d, loss_g) in enumerate(losses)
    ]
    # r_d / r_g: -, -, 0.1 / 0.04, -, 0.111 / 0.167, 0.5 / 0.25: equal to the balance is not above it
    assert [c.update_ratio for c in followed(schedule, signals)] == [1.0, 1.0, 4.0, 4.0, 0.25, 0.25]
    assert {(c.lr_g, c.lr_d) for c in followed(schedule, signals)} == {(1e-4, 1e-3)}


def test_loss_change_of_a_wasserstein_loss_is_relative_to_the_loss_itself() -> None:
    schedule = LossChange(lr_g=1e-4, lr_d=1e-3)
    signals = [
        Signals(progress=i / 10, loss_gap=loss_d, g_loss=loss_g, ideal_d_loss=0.0)
        for i, (loss_d, loss_g) in enumerate([(-0.5, 0.5), (-0.6, 0.55), (-0.6, 0.66)])
    ]
    assert [c.update_ratio for c in followed(schedule, signals)] == [1.0, 5.0, 0.2]


def test_a_loss_of_zero_is_no_division_by_zero() -> None:
    schedule = LossChange(lr_g=1e-4, lr_d=1e-3)
    signals = [Signals(progress=0.0, loss_gap=-1.0, g_loss=0.0), Signals(progress=0.1, loss_gap=-0.5, g_loss=0.0)]
    assert followed(schedule, signals)[1].update_ratio == 5.0


@pytest.mark.parametrize(
    ("rule", "build", "field", "value"),
    [
        ("-1 <= target <= 1", SignControlled, "target", 1.5),
        ("span > 0", SignControlled, "span", 0.0),
        ("0 < h_min <= 1", SignControlled, "h_min", 0.0),
        ("balance > 0", LossChange, "balance", math.nan),
        ("1 <= most <= 8", LossChange, "most", 0.5),
    ],
)
def test_settings_are_checked_at_birth(rule: str, build: type, field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"`{rule}` must hold, but got {field}={value}"):
        build(lr_g=1e-3, lr_d=1e-3, **{field: value})
