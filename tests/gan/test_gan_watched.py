"""Long loops say how far they are; short ones say nothing."""

import logging

import pytest

from metaopt.gan.watched import watched


def _notes(seconds_each: float, n: int, caplog: pytest.LogCaptureFixture) -> list[str]:
    now = 0.0

    def clock() -> float:
        return now

    with caplog.at_level(logging.WARNING, logger="metaopt.gan.watched"):
        for item in watched(range(n), total=n, what="reading", clock=clock):
            assert item == round(now / seconds_each)
            now += seconds_each
    return [record.getMessage() for record in caplog.records]


def test_a_note_comes_every_twenty_seconds_with_the_time_left(caplog: pytest.LogCaptureFixture) -> None:
    assert _notes(0.01, 5001, caplog) == [
        "reading: 2,000 of 5,001 done, about 30 s left",
        "reading: 4,000 of 5,001 done, about 10 s left",
    ]


def test_a_short_loop_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    assert _notes(0.01, 1999, caplog) == []


def test_items_slower_than_the_interval_are_noted_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    assert _notes(30.0, 3, caplog) == ["reading: 1 of 3 done, about 60 s left", "reading: 2 of 3 done, about 30 s left"]
