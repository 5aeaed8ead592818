"""Controls and signals: what they refuse."""

import math
from dataclasses import FrozenInstanceError

import pytest

from metaopt.errors import ConfigError
from metaopt.schedules import Controls, Signals
from metaopt.schedules.types import loss_scale


@pytest.mark.parametrize("player", ["lr_g", "lr_d"])
@pytest.mark.parametrize("value", [-1e-9, 10.000001, math.inf, math.nan])
def test_a_learning_rate_has_bounds(player: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"`0 <= {player} <= 10` must hold, but got {player}={value!r}"):
        Controls(**{"lr_g": 1e-3, "lr_d": 1e-3, player: value})


@pytest.mark.parametrize("value", [0.0, 0.1249, 8.001, -1.0, math.inf, math.nan])
def test_an_update_ratio_has_bounds(value: float) -> None:
    with pytest.raises(ConfigError, match=rf"`1/8 <= update_ratio <= 8` must hold, but got update_ratio={value!r}"):
        Controls(lr_g=1e-3, lr_d=1e-3, update_ratio=value)


def test_the_bounds_themselves_are_allowed() -> None:
    assert Controls(lr_g=0.0, lr_d=10.0, update_ratio=1 / 8).update_ratio == 0.125
    assert Controls(lr_g=10.0, lr_d=0.0, update_ratio=8.0).update_ratio == 8.0


@pytest.mark.parametrize("value", [-1e-9, 1.0000001, math.inf, math.nan])
def test_progress_has_bounds(value: float) -> None:
    with pytest.raises(ConfigError, match=rf"`0 <= progress <= 1` must hold, but got progress={value!r}"):
        Signals(progress=value)


@pytest.mark.parametrize("name", ["loss_gap", "d_sign", "d_accuracy", "g_loss", "log_grad_ratio", "kid_tests", "kid_p"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_signal_that_is_not_finite_is_seen(name: str, value: float) -> None:
    assert Signals(progress=1.0).finite
    assert not Signals(progress=0.5, **{name: value}).finite


def test_they_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError, match="lr_g"):
        Controls(lr_g=1e-3, lr_d=1e-3).lr_g = 1.0
    with pytest.raises(FrozenInstanceError, match="progress"):
        Signals(progress=0.0).progress = 1.0


@pytest.mark.parametrize(("ideal", "unit"), [(math.log(4), math.log(4)), (0.25, 0.25), (2.0, 2.0), (0.0, 1.0)])
def test_the_unit_of_losses_is_v_star_and_1_where_that_is_0(ideal: float, unit: float) -> None:
    assert loss_scale(ideal) == unit
