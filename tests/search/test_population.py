"""What a population decides: who is copied, with which controls, and which training a member has come from."""

import math
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from metaopt.search.population import (
    Interval,
    Standing,
    Step,
    copied,
    decided,
    followed,
    lineage,
    perturbed,
    schedule_of,
)
from metaopt.search.ranges import Range
from metaopt.search.study_spec import PopulationSpec

SPACE = {
    "lr_g": Range(low=1e-4, high=1e-2, log=True),
    "lr_d": Range(low=1e-4, high=1e-2, log=True),
    "update_ratio": Range(low=1.0, high=1.0, log=False),
}
MIDDLE = {"lr_g": 1e-3, "lr_d": 1e-3, "update_ratio": 1.0}


def standings(*scores: float, first: int = 1) -> list[Standing]:
    """Members 1, 2, ... with those scores, and controls that tell them apart."""
    return [
        Standing(number=n, params=MIDDLE | {"lr_g": 1e-3 * (1 + n / 100)}, score=score, before=0.0)
        for n, score in enumerate(scores, start=first)
    ]


def rules(**changes: Any) -> PopulationSpec:
    return PopulationSpec.model_validate({"method": "pbt"} | changes)


@pytest.mark.parametrize(
    ("n", "share", "n_copied"),
    [(8, 0.25, 2), (9, 0.25, 3), (4, 0.5, 2), (5, 0.5, 2), (2, 0.1, 1), (3, 0.5, 1), (1, 0.5, 0)],
)
def test_the_worst_copy_as_many_best(n: int, share: float, n_copied: int) -> None:
    """The number is rounded up, and at most half: nobody is among the best and the worst."""
    now = standings(*(float(k) for k in range(n)))
    found = copied(now, share, Random(0))
    assert list(found) == list(range(n - n_copied + 1, n + 1))
    assert set(found.values()) <= set(range(1, n_copied + 1))


def test_each_of_the_best_is_copied_as_often() -> None:
    now = standings(*(float(k) for k in range(8)))
    times = Counter(source for k in range(500) for source in copied(now, 0.25, Random(k)).values())
    assert sum(times.values()) == 1000
    assert all(430 < times[source] < 570 for source in (1, 2))  # 500 expected, deviation 16


def test_nobody_copies_one_that_is_no_better() -> None:
    assert copied(standings(0.5, 0.5, 0.5, 0.5), 0.5, Random(0)) == {}
    assert copied(standings(0.1, 0.5, 0.5, 0.5), 0.25, Random(0)) == {4: 1}


def test_pbt_multiplies_by_a_factor_or_draws_anew() -> None:
    draws = [perturbed(MIDDLE, SPACE, rules(factors=[0.5, 2.0], resample=0.4), Random(k))["lr_g"] for k in range(2000)]
    times = Counter(round(value / 1e-3, 9) for value in draws)
    multiplied = times[0.5], times[2.0]
    assert all(0.26 < n / 2000 < 0.34 for n in multiplied)  # 0.3 each, deviation 0.01
    anew = [math.log10(value) for value in draws if round(value / 1e-3, 9) not in (0.5, 2.0)]
    assert len(anew) == 2000 - sum(multiplied)
    assert min(anew) >= -4 and max(anew) <= -2
    assert sum(anew) / len(anew) == pytest.approx(-3, abs=0.07)  # uniform in the logarithm, deviation 0.02
    assert sum(x < -3.5 for x in anew) / len(anew) == pytest.approx(0.25, abs=0.06)


def test_params_are_cut_to_their_ranges_and_held_ones_stay() -> None:
    at_the_end = {"lr_g": 1e-2, "lr_d": 1e-4, "update_ratio": 1.0}
    for k in range(50):
        found = perturbed(at_the_end, SPACE, rules(factors=[0.1, 10.0], resample=0.5), Random(k))
        assert all(value in SPACE[name] for name, value in found.items())
        assert found["update_ratio"] == 1.0
        assert list(found) == list(SPACE)


@pytest.mark.parametrize("where", [Range(low=1e-4, high=1e-2, log=True), Range(low=-1.0, high=3.0, log=False)])
def test_places_in_a_range(where: Range) -> None:
    assert (where.at(0.0), where.at(1.0)) == pytest.approx((where.low, where.high), rel=1e-14)
    assert where.at(0.0) in where and where.at(1.0) in where
    for u in (0.0, 0.1, 0.5, 1.0):
        assert where.place(where.at(u)) == pytest.approx(u, abs=1e-12)
    assert where.at(0.5) == pytest.approx(1e-3 if where.log else 1.0, rel=1e-12)


@pytest.mark.parametrize("method", ["pbt", "pb2"])
def test_a_decision_follows_from_seed_and_past_alone(method: str) -> None:
    past = [standings(0.1, 0.3, -0.2, 0.4, 0.0, 0.5), standings(0.0, -0.3, -0.4, 0.2, 0.1, 0.3)]
    one = decided(rules(method=method, share=0.5), SPACE, 7, past)
    assert one == decided(rules(method=method, share=0.5), SPACE, 7, [list(part) for part in past])
    assert one != decided(rules(method=method, share=0.5), SPACE, 8, past)
    assert set(one) == {1, 2, 3, 4, 5, 6}
    for number in (1, 2, 3):  # the best three
        assert one[number] == Step(source=number, params=past[-1][number - 1].params)
    for number in (4, 5, 6):
        assert one[number].source in (1, 2, 3)
        assert all(value in SPACE[name] for name, value in one[number].params.items())
        assert one[number].params != past[-1][one[number].source - 1].params
        assert list(one[number].params) == list(SPACE)


def test_copies_of_one_evaluation_are_not_alike() -> None:
    past = [standings(*(float(k) for k in range(8)))]
    for method in ("pbt", "pb2"):
        steps = decided(rules(method=method, share=0.5), SPACE, 0, past)
        found = [tuple(steps[number].params.values()) for number in (5, 6, 7, 8)]
        assert len(set(found)) == 4


def test_a_lineage_goes_back_through_copies_of_copies() -> None:
    first = {n: MIDDLE | {"lr_g": n * 1e-3} for n in (1, 2, 3)}
    b, c, d = ({**MIDDLE, "lr_d": x} for x in (2e-3, 3e-3, 4e-3))
    steps: list[Mapping[int, Step]] = [
        {1: Step(source=1, params=first[1]), 2: Step(source=1, params=b), 3: Step(source=3, params=first[3])},
        {1: Step(source=1, params=first[1]), 2: Step(source=2, params=b), 3: Step(source=2, params=c)},
        {1: Step(source=3, params=d), 2: Step(source=2, params=b), 3: Step(source=3, params=c)},
    ]
    found = lineage(1, first, steps, 4)
    assert [(one.evaluation, one.trial) for one in found] == [(1, 1), (2, 2), (3, 3), (4, 1)]
    assert [one.params for one in found] == [first[1], b, c, d]
    assert lineage(3, first, steps, 1) == [Interval(evaluation=1, trial=3, params=first[3])]
    assert [one.trial for one in lineage(3, first, steps, 2)] == [3, 3]
    params = schedule_of(found, 4)
    assert [params[f"from_{i}"] for i in (1, 2, 3)] == [0.25, 0.5, 0.75]
    assert (params["lr_g"], params["lr_d_1"], params["lr_d_3"]) == (1e-3, 2e-3, 4e-3)


def test_what_is_followed_is_the_study_s_family_unless_it_has_intervals() -> None:
    assert followed("knots", {"a": 1.0}, ()) == ("knots", {"a": 1.0})
    intervals = [{"evaluation": k, "trial": 1, "params": MIDDLE} for k in (1, 2)]
    assert followed("constant", {}, intervals) == ("steps", MIDDLE)
