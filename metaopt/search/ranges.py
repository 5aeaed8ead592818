"""Where each parameter of a family is searched."""

import math
from dataclasses import dataclass
from difflib import get_close_matches

from metaopt.errors import ConfigError
from metaopt.schedules import Family
from metaopt.search.study_spec import RangeSpec


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where a parameter is searched; ``low == high`` holds it there."""

    low: float
    high: float
    log: bool
    whole: bool = False
    """Whether only whole numbers are tried."""

    def at(self, u: float) -> float:
        """The value at `u` in [0, 1], on the range's scale; the ends exactly at 0 and 1."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        x = low + u * (high - low)
        return min(max(math.exp(x) if self.log else x, self.low), self.high)

    def place(self, value: float) -> float:
        """The inverse of `at`, for ``low < high``."""
        low, high, x = (math.log(y) if self.log else y for y in (self.low, self.high, value))
        return (x - low) / (high - low)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


def searched(family: Family, key: str, value: float | RangeSpec) -> Range:
    parameters = {parameter.name: parameter for parameter in family.parameters}
    if key not in parameters:
        near = get_close_matches(key, parameters, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else "."
        raise ConfigError(f"family {family.name!r} has no parameter `{key}`{hint} Known: {', '.join(parameters)}.")
    low, high = parameters[key].bounds
    spec = value if isinstance(value, RangeSpec) else RangeSpec(low=float(value), high=float(value))
    log = parameters[key].log if spec.log is None else spec.log
    if isinstance(value, RangeSpec) and not spec.low < spec.high:
        raise ConfigError(f"`low < high` must hold for `{key}`, but got low={spec.low:g}, high={spec.high:g}.")
    if log and isinstance(value, RangeSpec) and spec.low <= 0:
        raise ConfigError(
            f"`low > 0` must hold for `{key}`, which is searched on a log scale, but got low={spec.low:g}."
        )
    if not low <= spec.low <= spec.high <= high:
        raise ConfigError(f"`{key}` must lie in [{low:g}, {high:g}], but got low={spec.low:g}, high={spec.high:g}.")
    return Range(low=spec.low, high=spec.high, log=log and spec.low > 0)
