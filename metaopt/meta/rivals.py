"""What people would use instead of a learned schedule: published rules, on the rates that a search found best."""

from collections.abc import Mapping
from typing import Any

from metaopt.errors import ConfigError
from metaopt.meta.transfer import Contestant
from metaopt.schedules import BASELINES, NamedSchedule, as_point_of, find_family

PUBLISHED = ("dcgan", "ttur", "sagan", "gap_aware", "gap_aware_control")
"""Rules with the rates of their papers, for one D update per G update."""


def rivals(static: NamedSchedule) -> dict[str, Contestant]:
    """Every baseline, by name.

    Args:
        static: the best schedule without feedback that was found on the meta-training tasks, a power decay.

    Those named ``..._static`` take its rates and its update ratio, and are otherwise as published; `loss_change_static`
    sets the ratio itself.

    Raises:
        ConfigError: `static` is no power decay.
    """
    decay = as_point_of(static, find_family("power_decay"))
    if decay is None:
        raise ConfigError(
            f"The static schedule must be a point of power_decay, but {static.name!r} is {static.family}."
        )
    rates = {name: decay[name] for name in ("lr_g", "lr_d", "update_ratio")}
    two = {name: decay[name] for name in ("lr_g", "lr_d")}
    found = [
        _on("static", "power_decay", "best power decay on the meta-training tasks", decay),
        _on("constant_static", "constant", "the rates of `static` without its decay", rates),
        _on("cosine_static", "cosine", "Loshchilov & Hutter 2017", rates | {"final_share": 0.0}),
        _on("gap_aware_static", "gap_aware", "Hazimeh & Ponomareva 2023", rates | _GAP_AWARE),
        _on("sign_control_static", "sign_control", "Karras et al. 2020", rates | _SIGN_CONTROL),
        _on("loss_change_static", "loss_change", "Ouyang, Chen & Agam 2021", two | {"balance": 1.0, "most": 5.0}),
        _on("kid_halving_static", "kid_halving", "Binkowski et al. 2018", rates | _KID_HALVING),
        _on("lookahead_static", "constant", "Chavdarova et al. 2021", rates, lookahead=5),
    ]
    published = [Contestant(name=name, schedule=BASELINES[name]) for name in PUBLISHED]
    return {one.name: one for one in (*found, *published)}


_GAP_AWARE = {"h_min": 0.1, "f_max": 2.0, "x_min": 0.1, "x_max": 0.1}
_SIGN_CONTROL = {"target": 0.6, "span": 0.1, "h_min": 0.1}
_KID_HALVING = {"p_value": 0.1, "patience": 3.0, "factor": 0.5}


def _on(name: str, family: str, source: str, params: Mapping[str, float], **task_changes: Any) -> Contestant:
    schedule = NamedSchedule(name=name, family=family, params=params, source=source)
    return Contestant(name=name, schedule=schedule, task_changes=task_changes)
