"""Published rules to compare with, by name: each a point of a family, with its source."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metaopt.errors import ConfigError
from metaopt.schedules.artifact import SHIPPED, load_schedule
from metaopt.schedules.families import FAMILIES, Family, build_schedule, check_params, find_family, unknown
from metaopt.schedules.types import Schedule, Signals


@dataclass(frozen=True, kw_only=True)
class NamedSchedule:
    """A family and its parameters: a schedule as data."""

    name: str
    family: str
    params: Mapping[str, float]
    source: str

    def build(self) -> Schedule:
        """The schedule itself."""
        return build_schedule(self.family, self.params)


def _baseline(name: str, family: str, source: str, **params: float) -> NamedSchedule:
    return NamedSchedule(name=name, family=family, params=params, source=source)


BASELINES: Mapping[str, NamedSchedule] = {
    "dcgan": _baseline(
        "dcgan", "constant", "Radford et al. 2016: Adam 2e-4 for both", lr_g=2e-4, lr_d=2e-4, update_ratio=1.0
    ),
    "ttur": _baseline("ttur", "ttur", "Heusel et al. 2017, DCGAN on CIFAR-10: D 1e-4, G 5e-4", lr_g=5e-4, lr_d=1e-4),
    "wgan_gp": _baseline(
        "wgan_gp",
        "constant",
        "Gulrajani et al. 2017: 1e-4, n_critic 5",
        lr_g=1e-4,
        lr_d=1e-4,
        update_ratio=5.0,
    ),
    "sngan": _baseline(
        "sngan",
        "power_decay",
        "Miyato et al. 2018: 2e-4 falling linearly to 0, n_dis 5",
        lr_g=2e-4,
        lr_d=2e-4,
        update_ratio=5.0,
        power=1.0,
    ),
    "sagan": _baseline(
        "sagan", "constant", "Zhang et al. 2019: D 4e-4, G 1e-4", lr_g=1e-4, lr_d=4e-4, update_ratio=1.0
    ),
    "gap_aware": _baseline(
        "gap_aware",
        "gap_aware",
        "Hazimeh & Ponomareva 2023, defaults of the published demo",
        lr_g=1e-3,
        lr_d=1e-3,
        update_ratio=1.0,
        h_min=0.1,
        f_max=2.0,
        x_min=0.1,
        x_max=0.1,
    ),
    "gap_aware_control": _baseline(
        "gap_aware_control",
        "constant",
        "what gap_aware comes to where D's loss stays 10 % below V*: lr_d = 0.1 lr_g throughout",
        lr_g=1e-3,
        lr_d=1e-4,
        update_ratio=1.0,
    ),
}


def named_schedule(name: str) -> NamedSchedule:
    """A schedule that ships, a baseline, or a family at its default parameters; ConfigError naming the nearest."""
    if name in SHIPPED:
        return _loaded(name)
    if name in BASELINES:
        return BASELINES[name]
    if name in FAMILIES:
        family = FAMILIES[name]
        params = {parameter.name: parameter.default for parameter in family.parameters}
        return NamedSchedule(name=name, family=name, params=params, source=family.source)
    raise ConfigError(unknown("schedule", name, {**dict.fromkeys(SHIPPED), **BASELINES, **FAMILIES}))


def as_point_of(schedule: NamedSchedule, family: Family) -> dict[str, float] | None:
    """Parameters of `family` at which it equals `schedule` exactly; None where it cannot."""
    if schedule.family == family.name:
        return check_params(family, schedule.params)
    if family.extends is not None:
        return _extended(as_point_of(schedule, FAMILIES[family.extends]), family)
    if find_family(schedule.family).name not in ("constant", "ttur"):
        return None
    built = schedule.build()
    _, controls = built.step(built.init(), Signals(progress=0.0))
    return family.constants(controls)


def _extended(simpler: dict[str, float] | None, family: Family) -> dict[str, float] | None:
    """The point of a simpler family as one of the family that extends it; None beyond its bounds."""
    if simpler is None:
        return None
    point = {p.name: simpler.get(p.name, p.neutral) for p in family.parameters}
    inside = all(
        x is not None and p.bounds[0] <= x <= p.bounds[1]
        for p, x in zip(family.parameters, point.values(), strict=True)
    )
    return check_params(family, point) if inside else None


def find_schedule(source: str) -> NamedSchedule:
    """A schedule by name, or out of a schedule.json; ConfigError if there is none."""
    return _loaded(source) if source.endswith(".json") else named_schedule(source)


def _loaded(source: str) -> NamedSchedule:
    loaded = load_schedule(source)
    return NamedSchedule(name=Path(source).stem, family=loaded.family, params=loaded.params, source=source)
