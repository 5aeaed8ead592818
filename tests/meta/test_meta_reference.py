"""Reference trainings on disk: what is stored comes back, what is damaged does not, and keys tell apart."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import metaopt
from metaopt.errors import StorageError
from metaopt.gan import Task
from metaopt.meta.reference import Recorded, find, store, training_key
from metaopt.schedules import BASELINES, NamedSchedule
from metaopt.training import Outcome, Record, Training
from metaopt.training.grid import grid_png

TASK = Task(name="tiny", data="digits", width=8, z_dim=4, batch=16, budget=20, evaluations=1, n_samples=50, size=8)
SCHEDULE = BASELINES["dcgan"]
KEY = "0" * 32


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    training = Training(TASK, SCHEDULE.build(), 0)
    records = tuple(training.run())
    return Recorded(records=records, grids=(grid_png(training.sample(4)), b"\x00\xff"))


def test_what_is_stored_is_found(recorded: Recorded, tmp_path: Path) -> None:
    store(tmp_path / "new" / "folder", KEY, recorded)
    found = find(tmp_path / "new" / "folder", KEY)
    assert found == recorded
    assert found is not None
    assert [one.wall_s for one in found.records] == [one.wall_s for one in recorded.records]
    assert found.curve == recorded.curve and found.curve.outcome is Outcome.FINISHED
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [f"{KEY}.json"]


number = st.floats(allow_nan=False)
any_record = st.builds(
    Record,
    **dict.fromkeys(
        (
            "iteration",
            "progress",
            "loss_d",
            "loss_g",
            "lr_d",
            "lr_g",
            "update_ratio",
            "loss_gap",
            "d_sign",
            "d_accuracy",
        ),
        number,
    ),
    log_grad_ratio=number,
    d_updates=st.integers(0),
    g_updates=st.integers(0),
    fid=st.none() | number,
    outcome=st.none() | st.sampled_from(Outcome),
    reason=st.text(),
    wall_s=number,
)


@given(st.lists(any_record, max_size=3), st.lists(st.binary(), max_size=2))
def test_any_record_comes_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], grids: list[bytes]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    kept = Recorded(records=tuple(records), grids=tuple(grids))
    store(folder, KEY, kept)
    assert find(folder, KEY) == kept


def test_the_nan_of_a_diverged_training_comes_back(recorded: Recorded, tmp_path: Path) -> None:
    last = replace(recorded.records[-1], loss_d=float("nan"), outcome=Outcome.DIVERGED, fid=None, reason="lost")
    store(tmp_path, KEY, Recorded(records=(*recorded.records[:-1], last), grids=()))
    found = find(tmp_path, KEY)
    assert found is not None
    assert repr(found.records[-1]) == repr(last)


def test_a_second_training_under_the_key_takes_the_place_of_the_first(recorded: Recorded, tmp_path: Path) -> None:
    store(tmp_path, KEY, recorded)
    other = replace(recorded, grids=(b"other",))
    store(tmp_path, KEY, other)
    assert find(tmp_path, KEY) == other


def test_no_file_is_none(tmp_path: Path) -> None:
    assert find(tmp_path, KEY) is None
    assert find(tmp_path / "nowhere", KEY) is None


def test_a_torn_file_is_none(recorded: Recorded, tmp_path: Path) -> None:
    store(tmp_path, KEY, recorded)
    file = tmp_path / f"{KEY}.json"
    content = file.read_bytes()
    for length in range(0, len(content), 101):
        file.write_bytes(content[:length])
        assert find(tmp_path, KEY) is None, length
    file.write_bytes(content[:-1])
    assert find(tmp_path, KEY) is None
    store(tmp_path, KEY, recorded)
    assert find(tmp_path, KEY) == recorded


def _edited(edit: Any) -> Any:
    def apply(content: dict[str, Any]) -> Any:
        edit(content)
        return content

    return apply


GARBAGE: dict[str, Any] = {
    "a list": lambda c: [c],
    "a number": lambda _c: 3,
    "null": lambda _c: None,
    "no records": _edited(lambda c: c.pop("records")),
    "no grids": _edited(lambda c: c.pop("grids")),
    "records is a number": _edited(lambda c: c.update(records=3)),
    "records is a string": _edited(lambda c: c.update(records="abc")),
    "a record is a list": _edited(lambda c: c["records"].append([1])),
    "a record lacks a field": _edited(lambda c: c["records"][0].pop("progress")),
    "a record lacks its outcome": _edited(lambda c: c["records"][0].pop("outcome")),
    "a record has a field too many": _edited(lambda c: c["records"][0].update(another=1)),
    "an unknown outcome": _edited(lambda c: c["records"][0].update(outcome="lost")),
    "a grid that is not hexadecimal": _edited(lambda c: c.update(grids=["xy"])),
    "a grid that is a number": _edited(lambda c: c.update(grids=[3])),
}


@pytest.mark.parametrize("change", GARBAGE.values(), ids=GARBAGE.keys())
def test_another_content_is_none(change: Any, recorded: Recorded, tmp_path: Path) -> None:
    store(tmp_path, KEY, recorded)
    file = tmp_path / f"{KEY}.json"
    content = json.loads(file.read_text())
    del content["sha256"]  # as older files are, which are known by their form alone
    file.write_text(json.dumps(content))
    assert find(tmp_path, KEY) == recorded
    file.write_text(json.dumps(change(content)))
    assert find(tmp_path, KEY) is None


def test_a_flipped_byte_anywhere_is_seen_and_said(
    recorded: Recorded, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store(tmp_path, KEY, recorded)
    file = tmp_path / f"{KEY}.json"
    content = file.read_bytes()
    for i in range(0, len(content), 7):
        caplog.clear()
        file.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        assert find(tmp_path, KEY) in (None, recorded), i
        assert (find(tmp_path, KEY) is None) == (f"{file} is not whole: that training is done again" in caplog.text)
    digit = next(i for i, byte in enumerate(content) if byte in b"02468")
    file.write_bytes(content[:digit] + bytes([content[digit] ^ 1]) + content[digit + 1 :])
    assert find(tmp_path, KEY) is None


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"[" * 100_000, bytes(1000), b"{'records': []}"],
    ids=["bytes", "deep", "zeros", "py"],
)
def test_garbage_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / f"{KEY}.json").write_bytes(content)
    assert find(tmp_path, KEY) is None


@contextmanager
def _largest_file(n_bytes: int) -> Iterator[None]:
    """Writing more than that fails with EFBIG, as a full disk does with ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("n_bytes", [0, 1, 500])
def test_a_full_disk_is_a_storage_error_and_leaves_nothing_behind(
    n_bytes: int, recorded: Recorded, tmp_path: Path
) -> None:
    store(tmp_path, KEY, recorded)
    with _largest_file(n_bytes), pytest.raises(StorageError, match="could not be written: File too large"):
        store(tmp_path, KEY, replace(recorded, grids=()))
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEY}.json"]
    assert find(tmp_path, KEY) == recorded


def test_a_file_where_the_folder_should_be_is_a_storage_error(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(StorageError, match="could not be written"):
            store(folder, KEY, recorded)


def _key(**changes: Any) -> str:
    parts: dict[str, Any] = {"task": TASK, "schedule": SCHEDULE, "seed": 0, "identity": "abc"}
    return training_key(**parts | changes)


def test_each_part_makes_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    params = dict(SCHEDULE.params)
    keys = [
        _key(),
        _key(seed=1),
        _key(identity="abd"),
        _key(schedule=replace(SCHEDULE, family="cosine")),
        _key(task=replace(TASK, r1=0.5)),  # all others: tests/gan/test_gan_tasks.py
        *(_key(schedule=replace(SCHEDULE, params=params | {name: 0.3})) for name in params),
    ]
    monkeypatch.setattr(metaopt, "__version__", "another")
    keys.append(_key())
    assert len(set(keys)) == len(keys)


def test_names_are_no_part_of_the_key() -> None:
    renamed = NamedSchedule(name="b", family=SCHEDULE.family, params=SCHEDULE.params, source="elsewhere")
    backwards = replace(SCHEDULE, params=dict(reversed([*SCHEDULE.params.items()])))
    assert _key() == _key(task=replace(TASK, name="another")) == _key(schedule=renamed)
    assert _key() == _key(schedule=backwards)


def test_a_key_is_a_file_name() -> None:
    assert len(_key()) == 32 and set(_key()) <= set("0123456789abcdef")
