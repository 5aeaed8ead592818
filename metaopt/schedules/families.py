"""FAMILIES: name -> parameters with their ranges, and how to build the schedule. The one literal table."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeGuard

from metaopt.errors import ConfigError
from metaopt.schedules import curves
from metaopt.schedules.feedback import GapAware
from metaopt.schedules.open_loop import OpenLoop
from metaopt.schedules.types import MAX_LR, MAX_UPDATE_RATIO, MIN_UPDATE_RATIO, Controls, Schedule


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One number of a family: where it may lie, and where a search looks unless a study says otherwise."""

    name: str
    bounds: tuple[float, float]
    """Smallest and largest value allowed."""
    search: tuple[float, float]
    """Default search range, inside the bounds."""
    log: bool
    """Whether it is searched on a log scale."""
    default: float
    """Value where none is given."""
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Family:
    """A named, parametrised set of schedules."""

    name: str
    parameters: tuple[Parameter, ...]
    build: Callable[..., Schedule]
    """Keyword parameters -> schedule."""
    constants: Callable[[Controls], dict[str, float] | None]
    """Parameters at which the family is the given constant schedule exactly; None where it cannot be."""
    closed_loop: bool
    """Whether it reads signals other than progress."""
    source: str
    """Formula and where it was published."""


def _lr(name: str, player: str, default: float = 2e-4, *, highest: float = MAX_LR) -> Parameter:
    return Parameter(
        name=name,
        bounds=(1e-8, highest),
        search=(1e-5, 1e-2),
        log=True,
        default=default,
        meaning=f"learning rate of {player}",
    )


def _ratio(name: str = "update_ratio") -> Parameter:
    return Parameter(
        name=name,
        bounds=(MIN_UPDATE_RATIO, MAX_UPDATE_RATIO),
        search=(0.5, 5.0),
        log=True,
        default=1.0,
        meaning="discriminator updates per generator update",
    )


def _number(name: str, low: float, high: float, default: float, meaning: str, *, log: bool = False) -> Parameter:
    return Parameter(name=name, bounds=(low, high), search=(low, high), log=log, default=default, meaning=meaning)


RATES = (_lr("lr_g", "G"), _lr("lr_d", "D"), _ratio())


def _constant(*, lr_g: float, lr_d: float, update_ratio: float) -> Schedule:
    return OpenLoop(lr_g=curves.constant(lr_g), lr_d=curves.constant(lr_d), update_ratio=curves.constant(update_ratio))


def _power_decay(*, lr_g: float, lr_d: float, update_ratio: float, power: float) -> Schedule:
    return OpenLoop(
        lr_g=curves.power_decay(lr_g, power),
        lr_d=curves.power_decay(lr_d, power),
        update_ratio=curves.constant(update_ratio),
    )


def _cosine(*, lr_g: float, lr_d: float, update_ratio: float, final_share: float) -> Schedule:
    return OpenLoop(
        lr_g=curves.cosine(lr_g, final_share * lr_g),
        lr_d=curves.cosine(lr_d, final_share * lr_d),
        update_ratio=curves.constant(update_ratio),
    )


def _ttur(*, lr_g: float, lr_d: float) -> Schedule:
    return _constant(lr_g=lr_g, lr_d=lr_d, update_ratio=1.0)


KNOTS = 3


def _knots(**values: float) -> Schedule:
    def through(name: str) -> curves.Curve:
        return curves.knots([values[f"{name}_{i}"] for i in range(KNOTS)])

    return OpenLoop(lr_g=through("lr_g"), lr_d=through("lr_d"), update_ratio=through("update_ratio"))


def _controls(controls: Controls) -> dict[str, float]:
    return {"lr_g": controls.lr_g, "lr_d": controls.lr_d, "update_ratio": controls.update_ratio}


def _constant_ttur(controls: Controls) -> dict[str, float] | None:
    return {"lr_g": controls.lr_g, "lr_d": controls.lr_d} if controls.update_ratio == 1 else None


MAX_F = 10.0


def _constant_gap_aware(controls: Controls) -> dict[str, float] | None:
    if controls.lr_d > MAX_LR / MAX_F:  # else its largest multiplier could exceed MAX_LR
        return None
    return _controls(controls) | {"h_min": 1.0, "f_max": 1.0, "x_min": 0.1, "x_max": 0.1}


FAMILIES: Mapping[str, Family] = {
    "constant": Family(
        name="constant",
        parameters=RATES,
        build=_constant,
        constants=_controls,
        closed_loop=False,
        source="all three controls constant",
    ),
    "power_decay": Family(
        name="power_decay",
        parameters=(*RATES, _number("power", 0.0, 4.0, 1.0, "exponent of the decay; 0 is constant")),
        build=_power_decay,
        constants=lambda c: _controls(c) | {"power": 0.0},
        closed_loop=False,
        source="lr(t) = lr (1 - t)^power for both players, constant ratio",
    ),
    "cosine": Family(
        name="cosine",
        parameters=(*RATES, _number("final_share", 0.0, 1.0, 0.0, "last rate as a share of the first")),
        build=_cosine,
        constants=lambda c: _controls(c) | {"final_share": 1.0},
        closed_loop=False,
        source="lr(t) = lr (f + (1 - f) (1 + cos(pi t)) / 2) (Loshchilov & Hutter 2017), constant ratio",
    ),
    "ttur": Family(
        name="ttur",
        parameters=(_lr("lr_g", "G", 5e-4), _lr("lr_d", "D", 1e-4)),
        build=_ttur,
        constants=_constant_ttur,
        closed_loop=False,
        source="two time-scale update rule: constant rates, one D update per G update (Heusel et al. 2017)",
    ),
    "knots": Family(
        name="knots",
        parameters=tuple(
            parameter
            for i in range(KNOTS)
            for parameter in (_lr(f"lr_g_{i}", "G"), _lr(f"lr_d_{i}", "D"), _ratio(f"update_ratio_{i}"))
        ),
        build=_knots,
        constants=lambda c: {f"{name}_{i}": x for i in range(KNOTS) for name, x in _controls(c).items()},
        closed_loop=False,
        source="each control through 3 knots at progress 0, 1/2 and 1, linear in log space between them",
    ),
    "gap_aware": Family(
        name="gap_aware",
        parameters=(
            _lr("lr_g", "G", 1e-3),
            _lr("lr_d", "D", 1e-3, highest=MAX_LR / MAX_F),
            _ratio(),
            _number("h_min", 0.01, 1.0, 0.1, "smallest multiplier of lr_d", log=True),
            _number("f_max", 1.0, MAX_F, 2.0, "largest multiplier of lr_d", log=True),
            _number("x_min", 0.01, 1.0, 0.1, "gap below V* that gives h_min, in V*", log=True),
            _number("x_max", 0.01, 1.0, 0.1, "gap above V* that gives f_max, in V*", log=True),
        ),
        build=GapAware,
        constants=_constant_gap_aware,
        closed_loop=True,
        source="lr_d scaled by the gap of D's loss to its ideal (Hazimeh & Ponomareva, AISTATS 2023)",
    ),
}


def unknown(kind: str, name: str, known: Mapping[str, object]) -> str:
    """Message for a name that is not in a table: the nearest, and all there are."""
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"There is no {kind} {name!r}{hint} Known: {', '.join(sorted(known))}."


def find_family(name: str) -> Family:
    """The family of that name; ConfigError naming the nearest one if there is none."""
    if name not in FAMILIES:
        raise ConfigError(unknown("family", name, FAMILIES))
    return FAMILIES[name]


def check_params(family: Family, params: Mapping[str, object]) -> dict[str, float]:
    """`params` as floats if they are exactly the family's, finite and in bounds; ConfigError if not."""
    names = [parameter.name for parameter in family.parameters]
    for name in params:
        if name not in names:
            raise ConfigError(unknown(f"parameter of family {family.name!r} called", name, dict.fromkeys(names)))
    missing = [name for name in names if name not in params]
    if missing:
        raise ConfigError(f"Family {family.name!r} needs `params.{missing[0]}`, but it is missing.")
    for parameter in family.parameters:
        value, (low, high) = params[parameter.name], parameter.bounds
        if not is_finite_number(value):
            raise ConfigError(f"`params.{parameter.name}` must be a finite number, but got {value!r}.")
        if not low <= value <= high:
            rule = f"{low:g} <= params.{parameter.name} <= {high:g}"
            raise ConfigError(f"`{rule}` must hold, but got {parameter.name}={value!r}.")
    return {name: float(params[name]) for name in names}  # type: ignore[arg-type]


def is_finite_number(value: object) -> TypeGuard[int | float]:
    """Whether `value` is an int or a float (bool is neither here) that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def build_schedule(family: str, params: Mapping[str, object]) -> Schedule:
    """The schedule of that family at those parameters, checked."""
    found = find_family(family)
    return found.build(**check_params(found, params))
