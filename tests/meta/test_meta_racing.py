"""When a candidate is out of the race."""

import itertools

import numpy as np
import pytest

from metaopt.meta.racing import LEVEL, worse_by_chance


def exact(differences: list[float]) -> float:
    """The signed-rank test by counting all signs of the ranks."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    seen = sum(rank for rank, x in zip(ranks, differences, strict=True) if x > 0)
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return float(np.mean([total >= seen for total in sums]))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_the_p_value_is_that_of_all_signs_counted(n: int) -> None:
    random = np.random.default_rng(n)
    for shift in (-1.0, 0.0, 0.5, 2.0):
        differences = list(random.normal(shift, 1.0, n))
        assert worse_by_chance(differences) == pytest.approx(exact(differences), abs=1e-12)


def test_three_trainings_are_too_few_to_be_out() -> None:
    assert worse_by_chance([3.0, 4.0, 5.0]) == pytest.approx(1 / 8)
    assert worse_by_chance([3.0, 4.0, 5.0, 6.0]) == pytest.approx(1 / 16)
    assert 1 / 16 < LEVEL < 1 / 8


def test_nothing_but_ties_is_no_evidence() -> None:
    assert worse_by_chance([0.0, 0.0, 0.0, 0.0]) == 1.0
    assert worse_by_chance([-1.0, -2.0, -3.0, -4.0]) == 1.0


def test_an_equal_candidate_is_seldom_out_although_each_training_is_looked_at() -> None:
    random = np.random.default_rng(0)
    races = random.normal(0.0, 1.0, (400, 8))
    once = np.mean([worse_by_chance(list(race)) < LEVEL for race in races])
    ever = np.mean([any(worse_by_chance(list(race[:n])) < LEVEL for n in range(4, 9)) for race in races])
    assert once < LEVEL + 0.04
    assert 1 / 7 - 0.05 < ever < 1 / 7 + 0.05
