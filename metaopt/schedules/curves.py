"""Curves: progress in [0, 1] -> value. Schedules are made of them; each is a closure over plain floats."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from metaopt.errors import ConfigError

Curve = Callable[[float], float]


def constant(value: float) -> Curve:
    """``f(t) = value``."""
    return lambda t: value


def linear(start: float, end: float) -> Curve:
    """``f(t) = start + (end - start) t``.

    >>> linear(1.0, 3.0)(0.25)
    1.5
    """
    return lambda t: _between(start + (end - start) * t, start, end)


def cosine(start: float, end: float) -> Curve:
    """``f(t) = end + (start - end) (1 + cos(pi t)) / 2``, flat at both ends (Loshchilov & Hutter 2017).

    >>> cosine(1.0, 0.0)(0.5)
    0.5
    """
    return lambda t: _between(end + (start - end) * (1 + math.cos(math.pi * t)) / 2, start, end)


def power_decay(start: float, power: float) -> Curve:
    """``f(t) = start (1 - t)^power``: constant at power 0, linear to zero at power 1; `power >= 0`.

    >>> power_decay(2.0, 2.0)(0.5)
    0.5
    """
    if not power >= 0:
        raise ConfigError(f"`power >= 0` must hold, but got power={power!r}.")
    return lambda t: start * (1 - t) ** power


def warmed(curve: Curve, until: float) -> Curve:
    """``f(t) min(1, t / until)``: rises from 0; `until` 0 leaves the curve as it is.

    >>> warmed(constant(2.0), 0.5)(0.25)
    1.0
    """
    if not 0 <= until <= 1:
        raise ConfigError(f"`0 <= until <= 1` must hold, but got until={until!r}.")
    return (lambda t: curve(t) * min(1.0, t / until)) if until else curve


def polyline(values: Sequence[float]) -> Curve:
    """Through `values` at equally spaced progress from 0 to 1, linear between them.

    >>> polyline([0.0, 2.0, 1.0])(0.75)
    1.5
    """
    if len(values) < 2:
        raise ConfigError(f"Knots must be two values or more, but got {list(values)!r}.")
    places = [i / (len(values) - 1) for i in range(len(values))]

    def curve(t: float) -> float:
        i = min(bisect_right(places, t) - 1, len(values) - 2)
        share = t * (len(values) - 1) - i
        return _between(values[i] + share * (values[i + 1] - values[i]), values[i], values[i + 1])

    return curve


def knots(values: Sequence[float]) -> Curve:
    """Through `values` at equally spaced progress from 0 to 1, linear in log space between them; all > 0.

    ``ln f(t) = ln v_i + (s - i) (ln v_{i+1} - ln v_i)`` with ``s = t (n - 1)`` and ``i = floor(s)``.

    >>> round(knots([1.0, 100.0])(0.5), 9)
    10.0
    """
    if len(values) < 2 or not all(value > 0 for value in values):
        raise ConfigError(f"Knots must be two or more values > 0, but got {list(values)!r}.")
    log_curve, low, high = polyline([math.log(value) for value in values]), min(values), max(values)
    return lambda t: _between(math.exp(log_curve(t)), low, high)


def _between(value: float, start: float, end: float) -> float:
    """`value`, less what rounding put outside its ends: a rate at its upper bound must not step over it."""
    return min(max(value, min(start, end)), max(start, end))
