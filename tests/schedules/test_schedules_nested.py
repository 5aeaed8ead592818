"""Nested families: each holds the simpler one exactly, and what its own numbers do, computed by hand."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule_strategies import any_signals, params_of, thorough

from metaopt.errors import ConfigError
from metaopt.schedules import FAMILIES, Controls, NamedSchedule, Signals, as_point_of, build_schedule
from metaopt.schedules.nested import NETWORK
from metaopt.schedules.policy import features, loss_kind

NESTED = [family.name for family in FAMILIES.values() if family.extends]
CHAIN = ("constant", "power_decay", "residual", "linear_policy", "network_policy")
BASE = {"lr_g": 1e-3, "lr_d": 2e-3, "update_ratio": 2.0, "power": 0.0, "warmup": 0.0}


def controls_of(family: str, params: dict[str, float], signals: Signals) -> Controls:
    schedule = build_schedule(family, params)
    return schedule.step(schedule.init(), signals)[1]


def policy(family: str = "linear_policy", **params: float) -> dict[str, float]:
    """A policy that does nothing, but for `params`."""
    neutral = {p.name: p.neutral for p in FAMILIES[family].parameters if p.neutral is not None}
    return neutral | BASE | params


@pytest.mark.parametrize("name", NESTED)
@thorough
@given(data=st.data(), signals=any_signals())
def test_with_what_it_adds_neutral_a_family_is_the_simpler_one_exactly(
    name: str, data: st.DataObject, signals: Signals
) -> None:
    family = FAMILIES[name]
    assert family.extends is not None
    simpler = FAMILIES[family.extends]
    params = data.draw(params_of(simpler))
    point = as_point_of(NamedSchedule(name="", family=simpler.name, params=params, source=""), family)
    bounds = {p.name: p.bounds for p in family.parameters}
    fits = all(bounds[key][0] <= value <= bounds[key][1] for key, value in params.items())
    assert (point is not None) == fits
    if point is not None:
        assert controls_of(name, point, signals) == controls_of(simpler.name, params, signals)


def test_the_chain_goes_from_a_constant_to_a_network() -> None:
    for simpler, richer in pairwise(CHAIN):
        assert FAMILIES[richer].extends == simpler
    assert len(NETWORK) <= 50
    constant = NamedSchedule(
        name="", family="constant", params={"lr_g": 1.0, "lr_d": 2.0, "update_ratio": 3.0}, source=""
    )
    point = as_point_of(constant, FAMILIES["network_policy"])
    assert point is not None
    signals = Signals(progress=0.3, loss_gap=-0.4, d_sign=0.9, log_grad_ratio=2.0)
    assert controls_of("network_policy", point, signals) == Controls(lr_g=1.0, lr_d=2.0, update_ratio=3.0)


def test_a_richer_schedule_is_no_point_of_a_simpler_family() -> None:
    cosine = NamedSchedule(name="", family="cosine", params={}, source="")
    assert as_point_of(cosine, FAMILIES["residual"]) is None
    richer = NamedSchedule(name="", family="residual", params=policy("residual"), source="")
    assert as_point_of(richer, FAMILIES["power_decay"]) is None


def test_a_file_may_leave_out_the_warmup_that_older_ones_do_not_know() -> None:
    old = {"lr_g": 1e-3, "lr_d": 1e-3, "update_ratio": 1.0, "power": 1.0}
    assert controls_of("power_decay", old, Signals(progress=0.01)).lr_g == 1e-3 * 0.99
    with pytest.raises(ConfigError, match=r"needs `params.power`, but it is missing"):
        build_schedule("power_decay", {k: v for k, v in old.items() if k != "power"})


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.05, 0.25), (0.1, 0.5), (0.2, 1.0), (0.6, 1.0)])
def test_warmup_rises_linearly(progress: float, share: float) -> None:
    controls = controls_of("power_decay", BASE | {"warmup": 0.2}, Signals(progress=progress))
    assert controls.lr_g == pytest.approx(1e-3 * share, rel=1e-12)
    assert controls.lr_d == pytest.approx(2e-3 * share, rel=1e-12)
    assert controls.update_ratio == 2.0


@pytest.mark.parametrize(
    ("progress", "log_g", "log_d", "log_ratio"),
    [
        (0.0, 0.2, 0.0, 0.1),
        (0.25, -0.1, 0.15, -0.025),
        (0.5, -0.4, 0.3, -0.15),
        (0.75, 0.1, 0.45, -0.275),
        (1.0, 0.6, 0.6, -0.4),
    ],
)
def test_residual_through_its_knots(progress: float, log_g: float, log_d: float, log_ratio: float) -> None:
    params = policy("residual", g_0=0.2, g_1=-0.4, g_2=0.6, d_0=0.0, d_1=0.3, d_2=0.6, r_0=0.1, r_1=-0.4)
    controls = controls_of("residual", params, Signals(progress=progress))
    assert math.log(controls.lr_g / 1e-3) == pytest.approx(log_g, abs=1e-12)
    assert math.log(controls.lr_d / 2e-3) == pytest.approx(log_d, abs=1e-12)
    assert math.log(controls.update_ratio / 2.0) == pytest.approx(log_ratio, abs=1e-12)


@pytest.mark.parametrize(
    ("ideal_d_loss", "kind"),
    [(math.log(4), "logistic"), (1.3, "logistic"), (0.25, "least_squares"), (2.0, "hinge"), (0.0, "wasserstein")],
)
def test_offsets_are_of_one_kind_of_loss(ideal_d_loss: float, kind: str) -> None:
    assert loss_kind(ideal_d_loss) == kind
    params = policy(
        g_hinge=0.1, d_hinge=-0.2, g_wasserstein=0.3, d_wasserstein=-0.4, g_least_squares=0.5, d_least_squares=-0.6
    )
    controls = controls_of("linear_policy", params, Signals(progress=0.5, ideal_d_loss=ideal_d_loss))
    expected = {"logistic": (0, 0), "hinge": (0.1, -0.2), "wasserstein": (0.3, -0.4), "least_squares": (0.5, -0.6)}[
        kind
    ]
    assert math.log(controls.lr_g / 1e-3) == pytest.approx(expected[0], abs=1e-12)
    assert math.log(controls.lr_d / 2e-3) == pytest.approx(expected[1], abs=1e-12)


SEEN = Signals(progress=0.5, loss_gap=-0.1, d_sign=0.4, d_accuracy=0.7, log_grad_ratio=1.0)
FEATURES = {"gap": math.tanh(-0.4), "sign": 0.4, "accuracy": 0.4, "grad": math.tanh(0.5)}


def test_features_are_bounded_and_zero_in_a_balanced_game() -> None:
    assert features(SEEN) == pytest.approx(tuple(FEATURES.values()), rel=1e-12)
    assert features(Signals(progress=0.3)) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize(("player", "control"), [("g", "lr_g"), ("d", "lr_d"), ("r", "update_ratio")])
def test_a_gain_moves_its_control_by_its_feature_alone(player: str, control: str, feature: str) -> None:
    controls = controls_of("linear_policy", policy(**{f"{player}_{feature}": 0.5}), SEEN)
    for name in ("lr_g", "lr_d", "update_ratio"):
        expected = 0.5 * FEATURES[feature] if name == control else 0.0
        assert math.log(getattr(controls, name) / BASE[name]) == pytest.approx(expected, abs=1e-12)


def test_network_by_hand() -> None:
    params = policy("network_policy", unit0_bias=0.3, unit0_progress=0.7, unit0_gap=-1.0, unit2_grad=2.0)
    params |= {"g_unit0": 0.5, "d_unit0": -0.25, "d_unit2": 0.3, "r_unit2": -0.4}
    unit0 = math.tanh(0.3 + 0.7 * (2 * 0.75 - 1) - FEATURES["gap"])
    unit2 = math.tanh(2.0 * FEATURES["grad"])
    controls = controls_of("network_policy", params, Signals(progress=0.75, loss_gap=-0.1, log_grad_ratio=1.0))
    assert math.log(controls.lr_g / 1e-3) == pytest.approx(0.5 * unit0, abs=1e-12)
    assert math.log(controls.lr_d / 2e-3) == pytest.approx(-0.25 * unit0 + 0.3 * unit2, abs=1e-12)
    assert math.log(controls.update_ratio / 2.0) == pytest.approx(-0.4 * unit2, abs=1e-12)


@pytest.mark.parametrize("family", ["residual", "linear_policy", "network_policy"])
@thorough
@given(data=st.data(), signals=any_signals())
def test_no_policy_leaves_its_region(family: str, data: st.DataObject, signals: Signals) -> None:
    params = data.draw(params_of(FAMILIES[family])) | BASE
    controls = controls_of(family, params, signals)
    assert controls.lr_g / 1e-3 * (1 + 1e-12) >= 0.1
    assert controls.lr_g / 1e-3 <= 2 * (1 + 1e-12)
    assert controls.lr_d / 2e-3 * (1 + 1e-12) >= 0.1
    assert controls.lr_d / 2e-3 <= 2 * (1 + 1e-12)
    assert 1 - 1e-12 <= controls.update_ratio <= 4 + 1e-12
