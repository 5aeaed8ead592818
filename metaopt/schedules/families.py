"""FAMILIES: name -> parameters with their ranges, and how to build the schedule. The one literal table."""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeGuard

from metaopt.errors import ConfigError
from metaopt.schedules import curves, nested
from metaopt.schedules.controllers import LossChange, SignControlled
from metaopt.schedules.feedback import GapAware
from metaopt.schedules.kid_halving import KidHalving
from metaopt.schedules.open_loop import OpenLoop
from metaopt.schedules.parameter import Parameter, lr, number, ratio
from metaopt.schedules.policy import LOG_LR_BOUNDS
from metaopt.schedules.steps import LATER_PIECES, PIECES, steps
from metaopt.schedules.types import MAX_LR, Controls, Schedule


@dataclass(frozen=True, kw_only=True)
class Family:
    """A named, parametrised set of schedules."""

    name: str
    parameters: tuple[Parameter, ...]
    build: Callable[..., Schedule]
    """Keyword parameters -> schedule."""
    extends: str | None = None
    """Simpler family that it is exactly where the parameters that it adds are neutral."""
    constants: Callable[[Controls], dict[str, float] | None] = lambda controls: None
    """Parameters at which the family is the given constant schedule exactly, where no simpler family says so."""
    closed_loop: bool
    """Whether it reads signals other than progress."""
    source: str
    """Formula and where it was published."""


RATES = (lr("lr_g", "G"), lr("lr_d", "D"), ratio())


def _constant(*, lr_g: float, lr_d: float, update_ratio: float) -> Schedule:
    return OpenLoop(lr_g=curves.constant(lr_g), lr_d=curves.constant(lr_d), update_ratio=curves.constant(update_ratio))


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
MAX_MULTIPLIER = math.exp(LOG_LR_BOUNDS[1])
"""Of a residual: its base rates stay below MAX_LR by as much."""
DECAY = (
    number("power", 0.0, 4.0, 1.0, "exponent of the decay; 0 is constant", neutral=0.0),
    number(
        "warmup",
        0.0,
        0.5,
        0.0,
        "share of the budget over which the rates rise from 0",
        neutral=0.0,
        search=(0.0, 0.2),
        optional=True,
    ),
)
MODULATED_RATES = (
    lr("lr_g", "G", highest=MAX_LR / MAX_MULTIPLIER),
    lr("lr_d", "D", highest=MAX_LR / MAX_MULTIPLIER),
    ratio(),
)

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
        parameters=(*RATES, *DECAY),
        build=nested.power_decay,
        extends="constant",
        closed_loop=False,
        source="lr(t) = lr min(1, t / warmup) (1 - t)^power for both players, constant ratio",
    ),
    "residual": Family(
        name="residual",
        parameters=(*MODULATED_RATES, *DECAY, *nested.RESIDUAL),
        build=nested.residual,
        extends="power_decay",
        closed_loop=False,
        source="power_decay times e^clip(u), u(t) through 3 knots a rate and 2 for the ratio, plus offsets by loss",
    ),
    "linear_policy": Family(
        name="linear_policy",
        parameters=(*MODULATED_RATES, *DECAY, *nested.RESIDUAL, *nested.LINEAR),
        build=nested.linear_policy,
        extends="residual",
        closed_loop=True,
        source="residual with gains on the loss gap, the sign and accuracy of D, and the ratio of gradient norms in u",
    ),
    "network_policy": Family(
        name="network_policy",
        parameters=(*MODULATED_RATES, *DECAY, *nested.RESIDUAL, *nested.LINEAR, *nested.NETWORK),
        build=nested.network_policy,
        extends="linear_policy",
        closed_loop=True,
        source=f"linear_policy with a network of {nested.UNITS} tanh units, {len(nested.NETWORK)} weights, in u",
    ),
    "cosine": Family(
        name="cosine",
        parameters=(*RATES, number("final_share", 0.0, 1.0, 0.0, "last rate as a share of the first", neutral=1.0)),
        build=_cosine,
        extends="constant",
        closed_loop=False,
        source="lr(t) = lr (f + (1 - f) (1 + cos(pi t)) / 2) (Loshchilov & Hutter 2017), constant ratio",
    ),
    "ttur": Family(
        name="ttur",
        parameters=(lr("lr_g", "G", 5e-4), lr("lr_d", "D", 1e-4)),
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
            for parameter in (lr(f"lr_g_{i}", "G"), lr(f"lr_d_{i}", "D"), ratio(f"update_ratio_{i}"))
        ),
        build=_knots,
        constants=lambda c: {f"{name}_{i}": x for i in range(KNOTS) for name, x in _controls(c).items()},
        closed_loop=False,
        source="each control through 3 knots at progress 0, 1/2 and 1, linear in log space between them",
    ),
    "steps": Family(
        name="steps",
        parameters=(*RATES, *LATER_PIECES),
        build=steps,
        extends="constant",
        closed_loop=False,
        source=f"each control piecewise constant, up to {PIECES} pieces (what a population's winner was trained with)",
    ),
    "gap_aware": Family(
        name="gap_aware",
        parameters=(
            lr("lr_g", "G", 1e-3),
            lr("lr_d", "D", 1e-3, highest=MAX_LR / MAX_F),  # else its largest multiplier could exceed MAX_LR
            ratio(),
            number("h_min", 0.01, 1.0, 0.1, "smallest multiplier of lr_d", log=True, neutral=1.0),
            number("f_max", 1.0, MAX_F, 2.0, "largest multiplier of lr_d", log=True, neutral=1.0),
            number("x_min", 0.01, 1.0, 0.1, "gap below V* that gives h_min, in V*", log=True, neutral=0.1),
            number("x_max", 0.01, 1.0, 0.1, "gap above V* that gives f_max, in V*", log=True, neutral=0.1),
        ),
        build=GapAware,
        extends="constant",
        closed_loop=True,
        source="lr_d scaled by the gap of D's loss to its ideal (Hazimeh & Ponomareva, AISTATS 2023)",
    ),
    "sign_control": Family(
        name="sign_control",
        parameters=(
            lr("lr_g", "G", 1e-3),
            lr("lr_d", "D", 1e-3),
            ratio(),
            number("target", -1.0, 1.0, 0.6, "average sign of D on real images that is aimed at", search=(0.2, 0.9)),
            number("span", 0.01, 1.0, 0.1, "share of the budget in which lr_d crosses its range", log=True),
            number("h_min", 0.01, 1.0, 0.1, "smallest multiplier of lr_d", log=True),
        ),
        build=SignControlled,
        closed_loop=True,
        source="lr_d by the integral controller of adaptive augmentation (Karras et al. 2020) on the sign of D",
    ),
    "loss_change": Family(
        name="loss_change",
        parameters=(
            lr("lr_g", "G", 1e-3),
            lr("lr_d", "D", 1e-3),
            number("balance", 0.1, 10.0, 1.0, "lambda: D is updated while r_d > lambda r_g", log=True),
            number("most", 1.0, 8.0, 5.0, "largest update ratio; its inverse is the smallest", log=True),
        ),
        build=LossChange,
        closed_loop=True,
        source="whose turn it is by the relative change of the losses (Ouyang, Chen & Agam, WACV 2021)",
    ),
    "kid_halving": Family(
        name="kid_halving",
        parameters=(
            lr("lr_g", "G", 1e-3),
            lr("lr_d", "D", 1e-3),
            ratio(),
            number(
                "p_value", 0.0, 1.0, 0.1, "p above which a test has failed", log=True, neutral=0.1, search=(0.01, 0.5)
            ),
            number(
                "patience", 1.0, 20.0, 3.0, "failures in a row that halve the rates", neutral=3.0, search=(1.0, 6.0)
            ),
            number("factor", 0.1, 1.0, 0.5, "what the rates are multiplied by then", log=True, neutral=1.0),
        ),
        build=KidHalving,
        extends="constant",
        closed_loop=True,
        source="rates halved where a three-sample KID test sees no better generator (Binkowski et al., ICLR 2018)",
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
    return {parameter.name: _checked(family, parameter, params) for parameter in family.parameters}


def _checked(family: Family, parameter: Parameter, params: Mapping[str, object]) -> float:
    name, (low, high) = parameter.name, parameter.bounds
    if name not in params:
        if parameter.optional and parameter.neutral is not None:
            return parameter.neutral
        raise ConfigError(f"Family {family.name!r} needs `params.{name}`, but it is missing.")
    value = params[name]
    if not is_finite_number(value):
        raise ConfigError(f"`params.{name}` must be a finite number, but got {value!r}.")
    if not low <= value <= high:
        raise ConfigError(f"`{low:g} <= params.{name} <= {high:g}` must hold, but got {name}={value!r}.")
    return float(value)


def is_finite_number(value: object) -> TypeGuard[int | float]:
    """Whether `value` is an int or a float (bool is neither here) that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def build_schedule(family: str, params: Mapping[str, object]) -> Schedule:
    """The schedule of that family at those parameters, checked."""
    found = find_family(family)
    return found.build(**check_params(found, params))
