"""Turns: the pattern of an update ratio, and that no update is lost or won in the long run."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaopt.schedules.turns import after_update, next_player

RATIOS = st.floats(1 / 8, 8)
_TOLERANCE = 1e-6  # `owed` rounds at every update


def pattern(ratio: float, n: int) -> str:
    """The first `n` turns at a constant ratio."""
    owed, turns = ratio, ""
    for _ in range(n):
        player = next_player(owed)
        turns += player.upper()
        owed = after_update(owed, player, ratio)
    return turns


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (1.0, "DGDGDGDG"),
        (1.5, "DDGDGDDGDG"),
        (0.5, "DGGDGGDGG"),
        (2.0, "DDGDDGDDG"),
        (5.0, "DDDDDGDDDDDG"),
        (8.0, "DDDDDDDDGDDDDDDDDG"),
        (1 / 8, "DGGGGGGGGDGGGGGGGG"),
        (0.75, "DGDGDGGDGDGDGG"),
        (2.5, "DDDGDDGDDDGDDG"),
    ],
)
def test_pattern(ratio: float, expected: str) -> None:
    assert pattern(ratio, len(expected)) == expected


def d_counts(ratios: list[float]) -> list[int]:
    """D updates made before each G update; the k-th ratio is in force at the k-th G update."""
    owed, made, counts = ratios[0], 0, []
    for ratio in ratios:
        while (player := next_player(owed)) == "d":
            made += 1
            owed = after_update(owed, player, ratio)
        owed = after_update(owed, player, ratio)
        counts.append(made)
    return counts


@settings(deadline=None, max_examples=100)
@given(ratio=RATIOS, n=st.integers(1, 400))
def test_a_constant_ratio_is_honoured_exactly(ratio: float, n: int) -> None:
    for g_updates, made in enumerate(d_counts([ratio] * n), start=1):
        assert g_updates * ratio - _TOLERANCE <= made < g_updates * ratio + 1 + _TOLERANCE


@settings(deadline=None, max_examples=100)
@given(ratio=RATIOS, n=st.integers(1, 1500))
def test_the_documented_bounds_hold_at_every_turn(ratio: float, n: int) -> None:
    turns = pattern(ratio, n)
    made = g_updates = 0
    for turn in turns:
        made, g_updates = made + (turn == "D"), g_updates + (turn == "G")
        assert g_updates * ratio - _TOLERANCE <= made <= (g_updates + 1) * ratio + 1 + _TOLERANCE


def test_the_long_run_ratio_is_exact_over_many_updates() -> None:
    ratio, n = 1.2345678, 200_000
    assert n * ratio - 1e-3 <= d_counts([ratio] * n)[-1] < n * ratio + 1 + 1e-3


@settings(deadline=None, max_examples=100)
@given(ratios=st.lists(RATIOS, min_size=1, max_size=300))
def test_a_ratio_that_changes_is_honoured_to_one_update(ratios: list[float]) -> None:
    """Each G update earns D the ratio then in force; D never falls behind that, nor a whole update ahead."""
    earned = ratios[0]
    for made, ratio in zip(d_counts(ratios), ratios, strict=True):
        assert earned - _TOLERANCE <= made < earned + 1 + _TOLERANCE
        earned += ratio
