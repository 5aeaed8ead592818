"""The spool keeps what it took, whatever the disk and the kernel do to the process."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from metaopt.errors import ArtifactError, StorageError
from metaopt.tracking.events import Artifact, Event
from metaopt.tracking.spool import Spool


def event(n: int, size: int = 0) -> Artifact:
    return Artifact(uid=f"t{n}", path="x" * size, folder="")


def everything(spool: Spool) -> list[Event]:
    events, offset = [], spool.start
    while (batch := spool.read(offset))[1] != offset:
        events += batch[0]
        offset = batch[1]
    return events


def filled(path: Path, n: int) -> Spool:
    spool = Spool(path)
    for i in range(n):
        spool.append(event(i))
    return spool


def test_events_and_identity_survive_a_reopening(tmp_path):
    first = filled(tmp_path / "new" / "events.jsonl", 3)
    first.close()
    second = Spool(tmp_path / "new" / "events.jsonl")
    second.append(event(3))
    assert everything(second) == [event(n) for n in range(4)]
    assert second.uid == first.uid
    assert Spool(tmp_path / "other.jsonl").uid != first.uid


def test_reading_goes_on_where_it_stopped_and_never_beyond_the_stop(tmp_path):
    spool = filled(tmp_path / "events.jsonl", 2)
    events, middle = spool.read(spool.start)
    assert spool.read(middle) == ([], middle)
    spool.append(event(2))
    assert spool.read(middle)[0] == [event(2)]
    assert spool.read(spool.start, stop=middle) == (events, middle)
    assert spool.read(middle, stop=middle) == ([], middle)


def test_lines_longer_than_a_batch_are_read_whole(tmp_path):
    spool = Spool(tmp_path / "events.jsonl")
    long = [event(n, size=3_000_000) for n in range(2)]
    for each in long:
        spool.append(each)
    assert everything(spool) == long


def test_acknowledged_events_are_not_pending_after_a_reopening(tmp_path):
    spool = filled(tmp_path / "events.jsonl", 2)
    spool.acknowledge(spool.read(spool.start)[1])
    spool.append(event(2))
    assert spool.n_pending() == 1
    spool.close()
    assert spool.n_pending() == 1
    again = Spool(tmp_path / "events.jsonl")
    assert again.n_pending() == 1
    assert again.read(again.acknowledged)[0] == [event(2)]


@pytest.mark.parametrize("note", ["", "garbage", "[]", '{"uid": "another", "offset": 99}', "beyond", "mid-line"])
def test_a_useless_acknowledgement_only_means_to_send_again(tmp_path, note):
    path = tmp_path / "events.jsonl"
    spool = filled(path, 2)
    spool.close()
    offset = {"beyond": 10**9, "mid-line": spool.start + 5}.get(note)
    text = note if offset is None else json.dumps({"uid": spool.uid, "offset": offset})
    Path(f"{path}.ack").write_text(text)
    assert Spool(path).n_pending() == 2


@pytest.mark.parametrize("n_cut", [1, 7, 40])
def test_a_torn_last_line_is_cut_and_the_next_event_is_whole(tmp_path, caplog, n_cut):
    path = tmp_path / "events.jsonl"
    filled(path, 3).close()
    path.write_bytes(path.read_bytes()[:-n_cut])
    with caplog.at_level(logging.WARNING):
        spool = Spool(path)
    assert "unfinished last line" in caplog.text
    spool.append(event(9))
    assert everything(spool) == [event(0), event(1), event(9)]


def test_a_torn_line_longer_than_a_block_is_cut(tmp_path):
    path = tmp_path / "events.jsonl"
    filled(path, 1).close()
    with path.open("ab") as file:
        file.write(b"x" * 300_000)
    assert everything(Spool(path)) == [event(0)]


def test_a_spool_killed_at_birth_is_born_again(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"format": "metaopt.sp')
    assert everything(filled(path, 1)) == [event(0)]


def test_garbage_in_the_middle_is_reported_and_skipped(tmp_path, caplog):
    path = tmp_path / "events.jsonl"
    filled(path, 1).close()
    with path.open("ab") as file:
        file.write(b"\x00\xffgarbage\n\n")
    spool = Spool(path)
    spool.append(event(1))
    assert everything(spool) == [event(0), event(1)]
    assert caplog.text.count("skipped a line") == 2


@pytest.mark.parametrize("content", ["hello\n", '{"format": "metaopt.spool/2", "uid": "a"}\n', "[]\n", "{}\n"])
def test_a_file_that_is_no_spool_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "events.jsonl"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"metaopt\.spool/1"):
        Spool(path)
    assert path.read_text() == content


def test_one_process_at_a_time_may_write(tmp_path):
    spool = filled(tmp_path / "events.jsonl", 1)
    with pytest.raises(StorageError, match="one process at a time"):
        Spool(tmp_path / "events.jsonl")
    spool.close()
    assert everything(Spool(tmp_path / "events.jsonl")) == [event(0)]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"the spool .*events.jsonl must be writable, but got: .*exists"):
        Spool(tmp_path / "file" / "events.jsonl")


def test_appending_to_a_closed_spool_fails_and_writes_nowhere(tmp_path):
    spool = filled(tmp_path / "events.jsonl", 1)
    spool.close()
    spool.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        spool.append(event(1))


FULL_DISK = """
import resource, sys
from pathlib import Path
from metaopt.tracking import SpooledTracker, Point
from metaopt.tracking.spool import Spool
from metaopt.tracking.sender import NotReadyError

class Down:
    def deliver(self, event):
        raise NotReadyError("down")

resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
tracker = SpooledTracker(Spool(Path(sys.argv[1])), Down())
n_before = None
for step in range(100):
    tracker.log("t", [Point(key="fid", value=0.5, step=step, timestamp_ms=1)])
    if tracker.error is not None and n_before is None:
        n_before = step
print(n_before, type(tracker.error).__name__, tracker.close(0.1))
"""


def test_a_full_disk_is_remembered_and_costs_only_what_found_no_room(tmp_path):
    path = tmp_path / "events.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True, timeout=6000
    )
    n_before, error, n_pending = done.stdout.split()
    assert error == "OSError"
    assert 20 < int(n_before) == int(n_pending) < 100
    # there is room again: the file is sound and goes on
    spool = Spool(path)
    spool.append(event(7))
    events = everything(spool)
    assert [e.points[0].step for e in events[:-1]] == list(range(int(n_before)))
    assert events[-1] == event(7)
