"""Piecewise constant controls: what a population's winner has been trained with, and what can be written by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from metaopt.schedules.open_loop import OpenLoop
from metaopt.schedules.parameter import Parameter, lr, number, ratio
from metaopt.schedules.types import Schedule

PIECES = 10
_CONTROLS = ("lr_g", "lr_d", "update_ratio")
_ROUNDING = 1e-9
"""A training has reached an evaluation when it is this close to it; the piece that begins there holds from then on."""


def _piece(i: int) -> tuple[Parameter, ...]:
    """Where the i-th piece begins, and its controls; left out, it is never in force."""
    begins = number(f"from_{i}", 0.0, 1.0, 1.0, f"progress at which piece {i} begins; 1: never", neutral=1.0)
    own = [
        replace(parameter, neutral=parameter.default, meaning=f"{parameter.meaning}, in piece {i}")
        for parameter in (lr(f"lr_g_{i}", "G"), lr(f"lr_d_{i}", "D"), ratio(f"update_ratio_{i}"))
    ]
    return tuple(replace(parameter, optional=True) for parameter in (*own, begins))


LATER_PIECES = tuple(parameter for i in range(1, PIECES) for parameter in _piece(i))


def steps(**values: float) -> Schedule:
    """``c(t) = c_j`` with j the last i of 0 to 9 such that ``from_i <= t`` and ``from_i < 1``, for each control c.

    Piece 0, which begins at 0, has the names of a constant schedule. A piece begins as soon as t is within 1e-9 of it,
    as a training's evaluations do.
    """
    begins = [0.0, *(values[f"from_{i}"] for i in range(1, PIECES))]
    order = [i for i in reversed(range(PIECES)) if begins[i] < 1]

    def piece(t: float) -> int:
        return next(i for i in order if t >= begins[i] - _ROUNDING)

    def curve_of(name: str) -> tuple[float, ...]:
        return (values[name], *(values[f"{name}_{i}"] for i in range(1, PIECES)))

    lr_g, lr_d, update_ratio = map(curve_of, _CONTROLS)
    return OpenLoop(
        lr_g=lambda t: lr_g[piece(t)], lr_d=lambda t: lr_d[piece(t)], update_ratio=lambda t: update_ratio[piece(t)]
    )


def as_steps(pieces: Sequence[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """Parameters of the family from (progress at which it begins, controls) of each piece, the first from 0 on.

    A piece with the controls of the one before it is part of that one. At most 10 pieces that differ.
    """
    distinct = [piece for i, piece in enumerate(pieces) if i == 0 or dict(piece[1]) != dict(pieces[i - 1][1])]
    params = {name: distinct[0][1][name] for name in _CONTROLS}
    for i, (begins, controls) in enumerate(distinct[1:], start=1):
        params |= {f"{name}_{i}": controls[name] for name in _CONTROLS} | {f"from_{i}": begins}
    return params
