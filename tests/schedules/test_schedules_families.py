"""Families: constants inside each, ranges, what their parameters refuse, and the baselines made of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule_strategies import any_controls, any_signals, families_with_params, thorough

from metaopt.errors import ConfigError
from metaopt.schedules import (
    BASELINES,
    FAMILIES,
    Controls,
    Family,
    NamedSchedule,
    Schedule,
    Signals,
    as_point_of,
    build_schedule,
    check_params,
    find_family,
    named_schedule,
)

BY_NAME = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
EMBEDDING = ["constant", "power_decay", "cosine", "knots", "steps"]
"""Any constant is a point of these."""


def controls_of(schedule: Schedule, signals: Signals) -> Controls:
    """What a schedule without history sets at `signals`."""
    return schedule.step(schedule.init(), signals)[1]


def constant(controls: Controls) -> NamedSchedule:
    """The constant schedule of those controls."""
    params = {"lr_g": controls.lr_g, "lr_d": controls.lr_d, "update_ratio": controls.update_ratio}
    return NamedSchedule(name="constant", family="constant", params=params, source="")


def defaults(family: Family) -> dict[str, float]:
    return {parameter.name: parameter.default for parameter in family.parameters}


@BY_NAME
def test_defaults_and_search_ranges_lie_inside_the_bounds(family: Family) -> None:
    for p in family.parameters:
        assert p.bounds[0] <= p.search[0] < p.search[1] <= p.bounds[1]
        assert p.bounds[0] <= p.default <= p.bounds[1]
        assert p.search[0] > 0 or not p.log
        assert all(map(math.isfinite, (*p.bounds, *p.search, p.default)))


@BY_NAME
def test_names_are_keys_and_parameters_are_named_once(family: Family) -> None:
    assert FAMILIES[family.name] is family
    names = [p.name for p in family.parameters]
    assert len(set(names)) == len(names)
    assert family.source
    assert all(p.meaning for p in family.parameters)


@thorough
@given(controls=any_controls(), signals=any_signals(), name=st.sampled_from(EMBEDDING))
def test_every_constant_schedule_is_a_point_of_the_open_loop_families(
    controls: Controls, signals: Signals, name: str
) -> None:
    params = as_point_of(constant(controls), FAMILIES[name])
    assert params is not None
    assert controls_of(build_schedule(name, params), signals) == controls


@thorough
@given(controls=any_controls(max_lr_d=1.0), signals=any_signals())
def test_gap_aware_without_its_gap_is_constant(controls: Controls, signals: Signals) -> None:
    params = as_point_of(constant(controls), FAMILIES["gap_aware"])
    assert params is not None
    assert controls_of(build_schedule("gap_aware", params), signals) == controls


def test_gap_aware_holds_no_constant_above_the_bound_of_its_base_rate() -> None:
    family = FAMILIES["gap_aware"]
    assert as_point_of(constant(Controls(lr_g=10.0, lr_d=1.0)), family) is not None
    assert as_point_of(constant(Controls(lr_g=1e-3, lr_d=1.0001)), family) is None


@thorough
@given(controls=any_controls(), signals=any_signals())
def test_ttur_holds_the_constants_of_ratio_one(controls: Controls, signals: Signals) -> None:
    params = as_point_of(constant(controls), FAMILIES["ttur"])
    assert (params is not None) == (controls.update_ratio == 1.0)
    if params is not None:
        assert controls_of(build_schedule("ttur", params), signals) == controls


@pytest.mark.parametrize(
    ("family", "params", "expected"),
    [
        (
            "power_decay",
            {"lr_g": 1e-3, "lr_d": 4e-3, "update_ratio": 2.0, "power": 2.0, "warmup": 0.0},
            {0.0: (1e-3, 4e-3, 2.0), 0.5: (2.5e-4, 1e-3, 2.0), 1.0: (0.0, 0.0, 2.0)},
        ),
        (
            "cosine",
            {"lr_g": 1e-3, "lr_d": 4e-3, "update_ratio": 0.5, "final_share": 0.2},
            {0.0: (1e-3, 4e-3, 0.5), 0.5: (6e-4, 2.4e-3, 0.5), 1.0: (2e-4, 8e-4, 0.5)},
        ),
        ("ttur", {"lr_g": 5e-4, "lr_d": 1e-4}, {0.0: (5e-4, 1e-4, 1.0), 1.0: (5e-4, 1e-4, 1.0)}),
        (
            "knots",
            {
                **{"lr_g_0": 1e-4, "lr_g_1": 1e-2, "lr_g_2": 1e-3},
                **{"lr_d_0": 1e-2, "lr_d_1": 1e-2, "lr_d_2": 1e-4},
                **{"update_ratio_0": 0.25, "update_ratio_1": 4.0, "update_ratio_2": 1.0},
            },
            {
                0.0: (1e-4, 1e-2, 0.25),
                0.25: (1e-3, 1e-2, 1.0),
                0.5: (1e-2, 1e-2, 4.0),
                0.75: (10**-2.5, 1e-3, 2.0),
                1.0: (1e-3, 1e-4, 1.0),
            },
        ),
    ],
)
def test_values_over_progress(
    family: str, params: dict[str, float], expected: dict[float, tuple[float, float, float]]
) -> None:
    schedule = build_schedule(family, params)
    for progress, values in expected.items():
        controls = controls_of(schedule, Signals(progress=progress))
        assert (controls.lr_g, controls.lr_d, controls.update_ratio) == pytest.approx(values, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize("value", [True, False, "1e-4", None, [1e-4], math.nan, math.inf, -math.inf, 10**400])
@BY_NAME
def test_a_parameter_must_be_a_finite_number(family: Family, value: object) -> None:
    name = family.parameters[-1].name
    with pytest.raises(ConfigError, match=rf"^`params.{name}` must be a finite number, but got "):
        check_params(family, defaults(family) | {name: value})


@BY_NAME
def test_a_parameter_must_lie_inside_its_bounds(family: Family) -> None:
    for p in family.parameters:
        low, high = p.bounds
        for outside in (math.nextafter(low, -math.inf), math.nextafter(high, math.inf), -1e300, 1e300):
            with pytest.raises(ConfigError) as caught:
                check_params(family, defaults(family) | {p.name: outside})
            rule = f"`{low:g} <= params.{p.name} <= {high:g}` must hold"
            assert str(caught.value) == f"{rule}, but got {p.name}={outside!r}."
        for inside in p.bounds:
            assert check_params(family, defaults(family) | {p.name: inside})[p.name] == inside


@BY_NAME
def test_a_parameter_must_not_be_missing(family: Family) -> None:
    for p in [p for p in family.parameters if not p.optional]:
        rest = {name: value for name, value in defaults(family).items() if name != p.name}
        with pytest.raises(ConfigError, match=rf"^Family '{family.name}' needs `params.{p.name}`, but it is missing"):
            check_params(family, rest)


@BY_NAME
def test_a_parameter_must_be_known_and_the_nearest_is_named(family: Family) -> None:
    nearest = family.parameters[0].name
    misspelt = nearest.replace("_", "")
    message = (
        rf"^There is no parameter of family '{family.name}' called '{misspelt}'; did you mean '{nearest}'\? Known: "
    )
    with pytest.raises(ConfigError, match=message):
        check_params(family, defaults(family) | {misspelt: 1.0})
    with pytest.raises(ConfigError, match=r"called '__class__'\. Known: "):
        check_params(family, defaults(family) | {"__class__": 1.0})


@thorough
@given(pair=families_with_params())
def test_checked_parameters_are_the_same_numbers_in_the_family_s_order(pair: tuple[Family, dict[str, float]]) -> None:
    family, params = pair
    backwards = dict(reversed(params.items()))
    checked = check_params(family, backwards)
    assert checked == params
    assert list(checked) == [p.name for p in family.parameters]


def test_whole_numbers_become_floats() -> None:
    checked = check_params(FAMILIES["ttur"], {"lr_g": 1, "lr_d": 1})
    assert {type(value) for value in checked.values()} == {float}


@pytest.mark.parametrize(("name", "hint"), [("cosin", "cosine"), ("gapaware", "gap_aware"), ("knot", "knots")])
def test_an_unknown_family_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=rf"^There is no family '{name}'; did you mean '{hint}'\? Known: constant, "):
        find_family(name)
    with pytest.raises(ConfigError, match=rf"There is no family '{name}'"):
        build_schedule(name, {})


def test_an_unknown_family_unlike_any_lists_them_all() -> None:
    with pytest.raises(ConfigError) as caught:
        find_family("zzz")
    assert str(caught.value) == f"There is no family 'zzz'. Known: {', '.join(sorted(FAMILIES))}."


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_a_baseline_builds_and_is_a_point_of_its_family(baseline: NamedSchedule) -> None:
    assert BASELINES[baseline.name] is baseline
    assert baseline.source
    family = find_family(baseline.family)
    point = as_point_of(baseline, family)
    assert point == {"warmup": 0.0} | dict(baseline.params) if family.name == "power_decay" else baseline.params
    signals = Signals(progress=0.3, loss_gap=-0.02)
    assert controls_of(baseline.build(), signals) == controls_of(build_schedule(family.name, baseline.params), signals)


@pytest.mark.parametrize(
    ("name", "progress", "lr_g", "lr_d", "ratio"),
    [
        ("dcgan", 0.7, 2e-4, 2e-4, 1.0),
        ("ttur", 0.7, 5e-4, 1e-4, 1.0),
        ("wgan_gp", 0.7, 1e-4, 1e-4, 5.0),
        ("sngan", 0.0, 2e-4, 2e-4, 5.0),
        ("sngan", 0.5, 1e-4, 1e-4, 5.0),
        ("sngan", 1.0, 0.0, 0.0, 5.0),
        ("sagan", 0.7, 1e-4, 4e-4, 1.0),
        ("gap_aware", 0.7, 1e-3, 1e-3, 1.0),
    ],
)
def test_baselines_are_as_published(name: str, progress: float, lr_g: float, lr_d: float, ratio: float) -> None:
    controls = controls_of(BASELINES[name].build(), Signals(progress=progress))
    assert controls == Controls(lr_g=lr_g, lr_d=lr_d, update_ratio=ratio)


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
@BY_NAME
def test_a_baseline_as_a_point_of_another_family_is_the_same_schedule(baseline: NamedSchedule, family: Family) -> None:
    point = as_point_of(baseline, family)
    fits = {
        "constant": baseline.family in ("constant", "ttur"),
        "ttur": baseline.family in ("constant", "ttur") and baseline.params.get("update_ratio", 1.0) == 1.0,
        "knots": baseline.family in ("constant", "ttur"),
    }
    for name in ("power_decay", "cosine", "steps", "gap_aware", "kid_halving"):
        fits[name] = fits["constant"] or baseline.family == name
    for name in ("residual", "linear_policy", "network_policy"):
        fits[name] = fits["power_decay"]
    assert (point is not None) == fits.get(family.name, False)
    if point is None:
        return
    there = build_schedule(family.name, point)
    for signals in (Signals(progress=0.0), Signals(progress=0.4, loss_gap=-0.5), Signals(progress=1.0, loss_gap=0.5)):
        assert controls_of(there, signals) == controls_of(baseline.build(), signals)


def test_a_schedule_by_name_is_a_baseline_or_a_family_at_its_defaults() -> None:
    assert named_schedule("sagan") is BASELINES["sagan"]
    assert named_schedule("gap_aware") is BASELINES["gap_aware"]
    cosine = named_schedule("cosine")
    assert (cosine.family, cosine.params) == ("cosine", defaults(FAMILIES["cosine"]))
    with pytest.raises(ConfigError, match=r"^There is no schedule 'wgangp'; did you mean 'wgan_gp'\? Known: "):
        named_schedule("wgangp")
