"""Whose turn it is: an update ratio spent by error diffusion, honouring any float in the long run."""

from typing import Literal

Player = Literal["d", "g"]
_ROUNDING = 1e-9


def next_player(owed: float) -> Player:
    """D while it is owed (part of) an update, else G. A ratio of 1.5 gives D D G D G D D G D G ..."""
    return "d" if owed > _ROUNDING else "g"


def after_update(owed: float, player: Player, update_ratio: float) -> float:
    """D updates owed after `player` has made one: D pays one back, a G update earns D `update_ratio` of them.

    Starting from ``owed = update_ratio`` with a constant ratio, after ``n`` G updates D has made between
    ``n * update_ratio`` and ``(n + 1) * update_ratio + 1`` updates.
    """
    return owed - 1 if player == "d" else owed + update_ratio
