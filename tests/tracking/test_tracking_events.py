"""Events as lines: everything comes back, nothing else gets in."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaopt.tracking.events import Artifact, EndStudy, EndTrial, Log, StartStudy, StartTrial, decode, encode
from metaopt.tracking.types import Point

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
TEXTS = st.dictionaries(st.text(), st.text(), max_size=3)
POINTS = st.builds(Point, key=st.text(), value=FLOATS, step=INT64, timestamp_ms=INT64)
NUMBERS = st.dictionaries(st.text(), FLOATS, max_size=3)
STATUS = st.sampled_from(["FINISHED", "FAILED", "KILLED"])
EVENTS = st.one_of(
    st.builds(StartStudy, time_ms=INT64, params=TEXTS, tags=TEXTS),
    st.builds(StartTrial, time_ms=INT64, uid=st.text(), name=st.text(), params=TEXTS, tags=TEXTS),
    st.builds(Log, uid=st.none() | st.text(), points=st.lists(POINTS, max_size=4).map(tuple)),
    st.builds(Artifact, uid=st.none() | st.text(), path=st.text(), folder=st.text()),
    st.builds(EndTrial, time_ms=INT64, uid=st.text(), status=STATUS, metrics=NUMBERS, tags=TEXTS),
    st.builds(EndStudy, time_ms=INT64, status=STATUS, metrics=NUMBERS, tags=TEXTS),
)


@given(EVENTS)
def test_every_event_comes_back_from_one_line_of_strict_json(event):
    line = encode(event)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    # repr, since NaN is not equal to itself
    assert repr(decode(line)) == repr(event)


def test_numpy_floats_are_written_as_plain_numbers():
    start = StartStudy(time_ms=0, params={"lr": np.float64(1e-4), "n": 3}, tags={})
    assert decode(encode(start)).params == {"lr": "0.0001", "n": "3"}
    point = Point(key="fid", value=np.float64(0.1), step=np.int64(5), timestamp_ms=1)
    assert decode(encode(Log(uid="t", points=(point,)))).points[0] == replace(point, value=0.1, step=5)


def test_a_step_beyond_64_bits_is_refused_before_it_is_spooled():
    point = Point(key="fid", value=0.0, step=2**63, timestamp_ms=1)
    with pytest.raises(ValueError, match="must fit into 64 bits, but got 9223372036854775808"):
        encode(Log(uid="t", points=(point,)))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"3",
        b"[]",
        b"{}",
        b'{"kind": "unheard of"}',
        b'{"kind": "log", "uid": "t"}',
        b'{"kind": "log", "uid": "t", "points": [["fid", "high", 0, 0]]}',
        b'{"kind": "log", "uid": "t", "points": [["fid", 1.0]]}',
        b'{"kind": "end_study", "time_ms": 0, "status": "DONE", "metrics": {}, "tags": {}}',
        b"\xff\xfe",
        b"\x00" * 100,
    ],
)
def test_what_is_no_event_is_refused(line):
    with pytest.raises(ValueError, match="not an event"):
        decode(line)


def test_infinity_reads_back_with_its_sign():
    end = EndStudy(time_ms=0, status="FAILED", metrics={"a": -math.inf, "b": math.inf}, tags={})
    assert decode(encode(end)).metrics == {"a": -math.inf, "b": math.inf}
