"""The numbers that a family is made of."""

from dataclasses import dataclass

from metaopt.schedules.types import MAX_LR, MAX_UPDATE_RATIO, MIN_UPDATE_RATIO


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
    """Value of a schedule that is asked for by the family's name alone."""
    meaning: str
    neutral: float | None = None
    """Value at which the family is the simpler one that it extends; None for what that one has itself."""
    optional: bool = False
    """Whether a file may leave it out, as those written before it was added do; it is neutral there."""


def lr(name: str, player: str, default: float = 2e-4, *, highest: float = MAX_LR) -> Parameter:
    """A learning rate."""
    return Parameter(
        name=name,
        bounds=(1e-8, highest),
        search=(1e-5, 1e-2),
        log=True,
        default=default,
        meaning=f"learning rate of {player}",
    )


def ratio(name: str = "update_ratio") -> Parameter:
    """An update ratio."""
    return Parameter(
        name=name,
        bounds=(MIN_UPDATE_RATIO, MAX_UPDATE_RATIO),
        search=(0.5, 5.0),
        log=True,
        default=1.0,
        meaning="discriminator updates per generator update",
    )


def number(
    name: str,
    low: float,
    high: float,
    default: float,
    meaning: str,
    *,
    log: bool = False,
    neutral: float | None = None,
    search: tuple[float, float] | None = None,
    optional: bool = False,
) -> Parameter:
    """Any other one, searched over all of [low, high] unless `search` says otherwise."""
    return Parameter(
        name=name,
        bounds=(low, high),
        search=search or (low, high),
        log=log,
        default=default,
        meaning=meaning,
        neutral=neutral,
        optional=optional,
    )
