"""Curves are thinned to what a chart can show, the same way however the events are cut into batches."""

import math
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaopt.tracking.curves import MAX_POINTS, CurveFilter
from metaopt.tracking.events import Artifact, EndTrial, Event, Log, StartTrial
from metaopt.tracking.types import Point


def point(step: int, value: float = 0.0, key: str = "fid", time_ms: int = 1) -> Point:
    return Point(key=key, value=value, step=step, timestamp_ms=time_ms)


def logged(uid: str, *points: Point) -> Log:
    return Log(uid=uid, points=points)


def ended(uid: str, **metrics: float) -> EndTrial:
    return EndTrial(time_ms=9, uid=uid, status="FINISHED", metrics=metrics, tags={})


def points_of(events: list[Event], uid: str = "t") -> list[Point]:
    return [p for e in events if isinstance(e, Log) and e.uid == uid for p in e.points]


def steps_kept(n: int) -> list[int]:
    return [p.step for p in points_of(list(CurveFilter().reduce([logged("t", *map(point, range(n)))])))]


def test_a_curve_that_fits_easily_is_kept_whole():
    assert steps_kept(1_500) == list(range(1_500))


@pytest.mark.parametrize("n", [3_000, 30_000, 100_000])
def test_a_long_curve_stays_drawable_and_dense(n):
    steps = steps_kept(n)
    assert 1_500 < len(steps) < MAX_POINTS
    assert all(b - a <= 1 + max(0, b - 1_500) / 100 for a, b in pairwise(steps))
    assert n - 1 - steps[-1] <= 1 + (n - 1_500) / 100


def test_no_length_exceeds_the_limit_and_the_final_value_still_fits():
    events = [logged("t", *map(point, range(1_200_000))), ended("t", fid=7.0)]
    points = points_of(list(CurveFilter().reduce(events)))
    assert len(points) == MAX_POINTS
    assert points[-1] == point(1_199_999, 7.0, time_ms=9)


def test_repeated_and_earlier_steps_are_dropped_key_by_key():
    curves = CurveFilter()
    first = list(curves.reduce([logged("t", point(0, 1.0), point(10, 2.0), point(0, 3.0, key="loss"))]))
    again = list(curves.reduce([logged("t", point(0, 1.5), point(10, 2.5), point(20, 4.0))]))
    other = list(curves.reduce([logged("u", point(0, 5.0))]))
    assert points_of(first) == [point(0, 1.0), point(10, 2.0), point(0, 3.0, key="loss")]
    assert points_of(again) == [point(20, 4.0)]
    assert points_of(other, "u") == [point(0, 5.0)]


def test_final_metrics_end_their_curve_or_stand_at_step_zero():
    events = list(CurveFilter().reduce([logged("t", point(0, 1.0), point(10, 2.0)), ended("t", fid=1.5, score=3.0)]))
    assert points_of(events)[2:] == [point(10, 1.5, time_ms=9), point(0, 3.0, key="score", time_ms=9)]
    assert isinstance(events[-1], EndTrial) and events[-1].metrics == {}


@pytest.mark.parametrize("value", [2.0, math.nan, -math.inf])
def test_a_final_metric_that_says_nothing_new_adds_no_point(value):
    curves = CurveFilter()
    list(curves.reduce([logged("t", point(10, value))]))
    assert points_of(list(curves.reduce([ended("t", fid=value)]))) == []
    assert len(points_of(list(curves.reduce([ended("t", score=value)])))) == 1
    assert points_of(list(curves.reduce([ended("t", score=value)]))) == []


def test_an_end_that_says_nothing_new_is_dropped_until_the_trial_begins_again():
    filter_ = CurveFilter()
    again = StartTrial(time_ms=1, uid="t", name="t", params={}, tags={})
    sent = list(filter_.reduce([ended("t", score=1.0), ended("u", score=1.0), ended("t", score=1.0)]))
    assert [event.uid for event in sent if isinstance(event, EndTrial)] == ["t", "u"]
    assert not list(filter_.reduce([ended("t", score=1.0)]))
    assert len(list(filter_.reduce([ended("t", score=2.0)]))) == 2  # a point and the end
    assert list(filter_.reduce([again, ended("t", score=2.0)])) == [again, ended("t")]
    assert len(list(filter_.reduce([logged("t", point(3)), ended("t", score=2.0)]))) == 2


def test_a_trial_that_begins_again_after_its_end_goes_on_with_its_curves():
    curves = CurveFilter()
    first = [logged("t", point(0, 1.0), point(10, math.nan), *(point(i, key="loss") for i in range(1_600)))]
    list(curves.reduce([*first, ended("t", score=1.0)]))
    more = [logged("t", point(10, 3.0), point(20, 4.0), *(point(i, key="loss") for i in range(1_590, 1_800)))]
    went_on = CurveFilter()
    list(went_on.reduce(first))
    expected = points_of(list(went_on.reduce(more)))
    assert expected[0] == point(20, 4.0)
    assert 1 < len(expected) < 200
    assert points_of(list(curves.reduce([*more, ended("t", score=1.0)]))) == expected


def test_little_is_kept_of_a_trial_that_has_ended():
    def events(number: int) -> list[Event]:
        points = [point(step, step / 7, key=f"digits/curve_{i}") for i in range(12) for step in (300, 600, 900)]
        return [logged(f"trial-{number}", *points), ended(f"trial-{number}", score=number / 3)]

    curves = CurveFilter()
    tracemalloc.start()
    try:
        for number in range(300):
            list(curves.reduce(events(number)))
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept / 300 < 2_000, f"{kept / 300:.0f} bytes a trial"


def test_points_of_a_run_are_joined_up_to_its_next_event_but_a_file():
    art, again = Artifact(uid="a", path="f", folder=""), StartTrial(time_ms=1, uid="a", name="a", params={}, tags={})
    events = [logged("a", point(0)), logged("b", point(0)), art, logged("a", point(1)), again, logged("a", point(2))]
    assert list(CurveFilter().reduce(events)) == [
        art,
        logged("a", point(0), point(1)),
        again,
        logged("b", point(0)),
        logged("a", point(2)),
    ]


RUNS = st.sampled_from("ab")
STREAMS = st.lists(
    st.one_of(
        st.builds(lambda uid, step, value: logged(uid, point(step, value)), RUNS, st.integers(0, 9), st.floats()),
        st.builds(lambda uid, value: ended(uid, fid=value), RUNS, st.floats()),
        st.builds(lambda uid: StartTrial(time_ms=0, uid=uid, name="", params={}, tags={}), RUNS),
    ),
    max_size=12,
)


@settings(max_examples=200)
@given(STREAMS, st.integers(0, 12))
def test_the_choice_does_not_depend_on_how_events_are_batched(stream, cut):
    whole = list(CurveFilter().reduce(stream))
    curves = CurveFilter()
    parts = [*curves.reduce(stream[:cut]), *curves.reduce(stream[cut:])]
    for uid in "ab":
        assert repr(points_of(parts, uid)) == repr(points_of(whole, uid))
        others = [[e for e in some if not isinstance(e, Log) and e.uid == uid] for some in (whole, parts)]
        assert others[0] == others[1]
