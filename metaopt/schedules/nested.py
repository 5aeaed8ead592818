"""Families of which each holds the simpler one as an exact point: decay < residual < linear policy < network policy."""

from metaopt.schedules import curves
from metaopt.schedules.open_loop import OpenLoop
from metaopt.schedules.parameter import Parameter
from metaopt.schedules.policy import KINDS_OF_LOSS, Modulated, Term, knots_term, linear_term, loss_term, network_term
from metaopt.schedules.types import Schedule

LR_KNOTS, RATIO_KNOTS = 3, 2
FEATURES = ("gap", "sign", "accuracy", "grad")
UNITS = 4
_INPUTS = ("bias", "progress", *FEATURES)
_PLAYERS = {"g": "lr_g", "d": "lr_d", "r": "update_ratio"}
_OFFSETS = tuple(kind for kind in KINDS_OF_LOSS if kind != "logistic")


def _weight(name: str, meaning: str, *, bound: float, search: float, default: float = 0.0) -> Parameter:
    return Parameter(
        name=name,
        bounds=(-bound, bound),
        search=(-search, search),
        log=False,
        default=default,
        neutral=0.0,
        meaning=meaning,
    )


def _knot(player: str, i: int, n: int) -> Parameter:
    meaning = f"ln of the multiplier of {_PLAYERS[player]} at progress {i / (n - 1):g}"
    return _weight(f"{player}_{i}", meaning, bound=2.5, search=0.5)


RESIDUAL = (
    *(_knot(player, i, LR_KNOTS) for player in "gd" for i in range(LR_KNOTS)),
    *(_knot("r", i, RATIO_KNOTS) for i in range(RATIO_KNOTS)),
    *(
        _weight(f"{player}_{kind}", f"added to it for a {kind} loss", bound=2.5, search=0.7)
        for kind in _OFFSETS
        for player in "gd"
    ),
)
LINEAR = tuple(
    _weight(
        f"{player}_{feature}",
        f"gain of {feature} on ln {_PLAYERS[player]}",
        bound=3.0,
        search=0.4,
        default=0.3 if (player, feature) == ("d", "gap") else 0.0,
    )
    for player in _PLAYERS
    for feature in FEATURES
)
NETWORK = (
    *(
        _weight(f"unit{i}_{name}", f"weight of {name} in hidden unit {i}", bound=5.0, search=1.0, default=0.5)
        for i in range(UNITS)
        for name in _INPUTS
    ),
    *(
        _weight(f"{player}_unit{i}", f"weight of hidden unit {i} on ln {control}", bound=3.0, search=0.4)
        for player, control in _PLAYERS.items()
        for i in range(UNITS)
    ),
)


def power_decay(*, lr_g: float, lr_d: float, update_ratio: float, power: float, warmup: float) -> Schedule:
    """Rates ``lr min(1, t / warmup) (1 - t)^power``, constant ratio."""
    return OpenLoop(
        lr_g=curves.warmed(curves.power_decay(lr_g, power), warmup),
        lr_d=curves.warmed(curves.power_decay(lr_d, power), warmup),
        update_ratio=curves.constant(update_ratio),
    )


def residual(**values: float) -> Schedule:
    """A power decay times open-loop multipliers."""
    return Modulated(base=_decay(values), terms=_open_terms(values), closed_loop=False)


def linear_policy(**values: float) -> Schedule:
    """A residual times multipliers whose logs are linear in the signals."""
    return Modulated(base=_decay(values), terms=(*_open_terms(values), _gains(values)), closed_loop=True)


def network_policy(**values: float) -> Schedule:
    """A linear policy with a small network beside it."""
    hidden = tuple(tuple(values[f"unit{i}_{name}"] for name in _INPUTS) for i in range(UNITS))
    outputs = tuple(tuple(values[f"{player}_unit{i}"] for i in range(UNITS)) for player in _PLAYERS)
    terms = (*_open_terms(values), _gains(values), network_term(hidden, outputs))
    return Modulated(base=_decay(values), terms=terms, closed_loop=True)


def _decay(values: dict[str, float]) -> Schedule:
    return power_decay(**{name: values[name] for name in ("lr_g", "lr_d", "update_ratio", "power", "warmup")})


def _open_terms(values: dict[str, float]) -> tuple[Term, ...]:
    g, d, ratio = (
        tuple(values[f"{player}_{i}"] for i in range(n))
        for player, n in (("g", LR_KNOTS), ("d", LR_KNOTS), ("r", RATIO_KNOTS))
    )
    return knots_term(g, d, ratio), loss_term({kind: (values[f"g_{kind}"], values[f"d_{kind}"]) for kind in _OFFSETS})


def _gains(values: dict[str, float]) -> Term:
    return linear_term(tuple(tuple(values[f"{player}_{feature}"] for feature in FEATURES) for player in _PLAYERS))
