"""The tracker and stores that are there, away, hanging or picky: a real spool, sinks held in memory."""

import math
import threading

import pytest

from metaopt.tracking import Point, SpooledTracker, sender
from metaopt.tracking.events import EndStudy, EndTrial, Event, Log, StartStudy, StartTrial
from metaopt.tracking.sender import NotReadyError, RefusedError
from metaopt.tracking.spool import Spool

WAIT_S = 600.0


class MemorySink:
    """Keeps what it is given; raises what `troubles` holds for the coming attempts, if anything."""

    def __init__(self, *troubles: Exception | None) -> None:
        self.troubles = list(troubles)
        self.events: list[Event] = []
        self.n_attempts = 0

    def deliver(self, event: Event) -> None:
        self.n_attempts += 1
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is not None:
            raise trouble
        self.events.append(event)


class DownSink(MemorySink):
    """Never ready, until it is told otherwise."""

    down = True

    def deliver(self, event: Event) -> None:
        self.n_attempts += 1
        if self.down:
            raise NotReadyError("connection refused")
        self.events.append(event)


class PickySink(MemorySink):
    """Fails at every study's start, for reasons of its own."""

    def deliver(self, event: Event) -> None:
        if isinstance(event, StartStudy):
            self.n_attempts += 1
            raise RuntimeError("hm")
        super().deliver(event)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(sender, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(sender, "LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr(sender, "PERIOD_S", 0.01)


def tracker(tmp_path, sink) -> SpooledTracker:
    return SpooledTracker(Spool(tmp_path / "events.jsonl"), sink)


def point(step: int, key: str = "fid") -> Point:
    return Point(key=key, value=float(step), step=step, timestamp_ms=1)


def tell_a_story(t: SpooledTracker, n_points: int = 5) -> None:
    t.start_study(params={"sampler": "tpe"}, tags={})
    t.start_trial("a", name="trial a", params={"lr": 1e-4}, tags={})
    for step in range(n_points):
        t.log("a", [point(step)])
    t.end_trial("a", status="FINISHED", metrics={"score": -0.5}, tags={"status": "finished"})
    t.end_study(status="FINISHED", metrics={}, tags={})


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def steps(events: list[Event]) -> list[int]:
    return [p.step for e in events if isinstance(e, Log) for p in e.points if p.key == "fid"]


def test_events_arrive_in_order_and_close_says_that_nothing_is_left(tmp_path):
    sink = MemorySink()
    t = tracker(tmp_path, sink)
    tell_a_story(t)
    assert t.close(WAIT_S) == 0
    assert [k for k in kinds(sink.events) if k is not Log] == [StartStudy, StartTrial, EndTrial, EndStudy]
    assert steps(sink.events) == [0, 1, 2, 3, 4]
    assert kinds(sink.events).index(EndTrial) > max(i for i, e in enumerate(sink.events) if isinstance(e, Log))


def test_a_refused_event_is_reported_once_and_blocks_nothing(tmp_path, caplog):
    sink = MemorySink(None, RefusedError("no such colour"))
    t = tracker(tmp_path, sink)
    tell_a_story(t)
    assert t.close(WAIT_S) == 0
    assert kinds(sink.events)[0] is StartStudy and StartTrial not in kinds(sink.events)
    assert steps(sink.events) == [0, 1, 2, 3, 4]
    assert caplog.text.count("no such colour") == 1


def test_a_store_that_comes_back_gets_everything_once(tmp_path, caplog):
    sink = MemorySink(*[NotReadyError("http://me:secret@host refused")] * 5)
    t = tracker(tmp_path, sink)
    tell_a_story(t)
    assert t.close(WAIT_S) == 0
    assert steps(sink.events) == [0, 1, 2, 3, 4]
    assert kinds(sink.events).count(StartTrial) == 1
    assert caplog.text.count("not ready") == 1 and "ready again" in caplog.text
    assert "secret" not in caplog.text


def test_what_a_store_that_is_down_missed_is_delivered_by_the_next_tracker(tmp_path):
    down = DownSink()
    t = tracker(tmp_path, down)
    tell_a_story(t)
    assert t.close(0.1) == 9
    assert t.close(0.1) == 9
    assert down.n_attempts > 1
    sink = MemorySink()
    assert tracker(tmp_path, sink).close(WAIT_S) == 0
    assert steps(sink.events) == [0, 1, 2, 3, 4]


def test_a_store_that_hangs_stops_neither_calls_nor_close(tmp_path):
    release = threading.Event()

    class HangingSink(MemorySink):
        def deliver(self, event: Event) -> None:
            release.wait(WAIT_S)
            super().deliver(event)

    sink = HangingSink()
    t = tracker(tmp_path, sink)
    tell_a_story(t)
    assert t.close(0.1) == 9
    assert sink.events == []
    release.set()
    assert t.close(WAIT_S) < 9
    rest = MemorySink()
    assert tracker(tmp_path, rest).close(WAIT_S) == 0
    assert set(steps(sink.events) + steps(rest.events)) == {0, 1, 2, 3, 4}


def test_an_undecided_failure_is_tried_for_a_while_and_then_skipped(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sender, "GIVE_UP_S", 0.05)
    sink = PickySink()
    t = tracker(tmp_path, sink)
    tell_a_story(t)
    assert t.close(WAIT_S) == 0
    assert StartStudy not in kinds(sink.events) and StartTrial in kinds(sink.events)
    assert sink.n_attempts > 2
    assert "refuses StartStudy" in caplog.text


def test_an_interrupted_delivery_goes_on_without_losing_or_thinning_twice(tmp_path):
    first = MemorySink()
    t = tracker(tmp_path, first)
    t.log("a", [point(step) for step in range(2_000)])
    assert t.close(WAIT_S) == 0
    down = DownSink()
    t = tracker(tmp_path, down)
    t.log("a", [point(step) for step in range(1_990, 3_000)])
    assert t.close(0.1) == 1
    last = MemorySink()
    assert tracker(tmp_path, last).close(WAIT_S) == 0
    whole = MemorySink()
    t = SpooledTracker(Spool(tmp_path / "whole.jsonl"), whole)
    t.log("a", [point(step) for step in range(3_000)])
    assert t.close(WAIT_S) == 0
    assert steps(first.events) + steps(last.events) == steps(whole.events)


def test_a_lost_acknowledgement_sends_the_same_points_again(tmp_path):
    first, second = MemorySink(), MemorySink()
    t = tracker(tmp_path, first)
    tell_a_story(t, n_points=3_000)
    assert t.close(WAIT_S) == 0
    (tmp_path / "events.jsonl.ack").unlink()
    assert tracker(tmp_path, second).close(WAIT_S) == 0
    assert steps(second.events) == steps(first.events)


def test_calls_after_close_are_ignored(tmp_path, caplog):
    sink = MemorySink()
    t = tracker(tmp_path, sink)
    assert t.close(WAIT_S) == 0
    tell_a_story(t)
    assert t.close(WAIT_S) == 0
    assert sink.events == [] and "after the tracker was closed" in caplog.text


def test_a_field_of_a_wrong_type_costs_its_own_event_only(tmp_path, caplog):
    sink = MemorySink()
    t = tracker(tmp_path, sink)
    t.log("a", [Point(key="fid", value="high", step=0, timestamp_ms=1)])
    t.end_trial("a", status="FINISHED", metrics=None, tags={})
    t.log("a", [point(1), Point(key="g", value=math.nan, step=1, timestamp_ms=1)])
    assert t.close(WAIT_S) == 0
    assert [p.key for e in sink.events for p in e.points] == ["fid", "g"]
    assert caplog.text.count("wrong type") == 2
    assert t.error is None


def test_several_threads_may_log(tmp_path):
    sink = MemorySink()
    t = tracker(tmp_path, sink)

    def run(uid: str) -> None:
        for step in range(200):
            t.log(uid, [point(step)])

    threads = [threading.Thread(target=run, args=(uid,)) for uid in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert t.close(WAIT_S) == 0
    for uid in "abcd":
        assert steps([e for e in sink.events if e.uid == uid]) == list(range(200))
