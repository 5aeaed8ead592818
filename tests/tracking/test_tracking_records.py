"""Record files read back to the same numbers."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaopt.errors import ConfigError, StorageError
from metaopt.tracking import CsvWriter, JsonlWriter

RECORDS = [
    {"iteration": 0, "task": 'mnist5k, "half"\n', "fid": 0.1 + 0.2, "done": False},
    {"iteration": 1, "task": "é", "fid": math.inf, "done": True},
    {"iteration": 2, "task": "", "fid": -math.inf, "done": None},
]


def test_jsonl_reads_back_equal(tmp_path):
    with JsonlWriter(tmp_path / "new" / "records.jsonl") as writer:
        for record in RECORDS:
            writer.write(record)
    assert [json.loads(line) for line in (tmp_path / "new" / "records.jsonl").open()] == RECORDS


def test_csv_reads_back_equal(tmp_path):
    with CsvWriter(tmp_path / "records.csv", ["iteration", "task", "fid", "done"]) as writer:
        for record in RECORDS:
            writer.write(record)
    with (tmp_path / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == [0, 1, 2]
    assert [row["task"] for row in rows] == [record["task"] for record in RECORDS]
    assert [float(row["fid"]) for row in rows] == [record["fid"] for record in RECORDS]
    assert [row["done"] for row in rows] == ["False", "True", ""]


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5))
def test_floats_survive_both_formats_bit_for_bit(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("floats")
    with CsvWriter(folder / "r.csv", ["x"]) as table, JsonlWriter(folder / "r.jsonl") as lines:
        for value in values:
            table.write({"x": np.float64(value)})
            lines.write({"x": np.float64(value)})
    with (folder / "r.csv").open(newline="") as file:
        assert [repr(float(row["x"])) for row in csv.DictReader(file)] == [repr(value) for value in values]
    assert [repr(json.loads(line)["x"]) for line in (folder / "r.jsonl").open()] == [repr(v) for v in values]


def test_a_record_can_be_read_while_the_file_is_open(tmp_path):
    with CsvWriter(tmp_path / "r.csv", ["x", "y"]) as table, JsonlWriter(tmp_path / "r.jsonl") as lines:
        table.write({"y": 0.5})
        lines.write({"x": math.nan})
        assert pd.read_csv(tmp_path / "r.csv").to_dict("records") == [
            pytest.approx({"x": math.nan, "y": 0.5}, nan_ok=True)
        ]
        assert math.isnan(json.loads((tmp_path / "r.jsonl").read_text())["x"])


def test_a_field_without_a_column_is_refused(tmp_path):
    with (
        CsvWriter(tmp_path / "r.csv", ["x"]) as writer,
        pytest.raises(ConfigError, match=r"only the fields.*'x'.*'z'"),
    ):
        writer.write({"x": 1, "z": 2})
    assert (tmp_path / "r.csv").read_text() == "x\n"


@pytest.mark.parametrize("fields", [[], ["x", "x"]])
def test_columns_must_be_unique(tmp_path, fields):
    with pytest.raises(ConfigError, match="columns with unique names"):
        CsvWriter(tmp_path / "r.csv", fields)


@pytest.mark.parametrize("make", [JsonlWriter, lambda path: CsvWriter(path, ["x"])])
def test_a_place_that_cannot_be_written_is_named(tmp_path, make):
    with pytest.raises(StorageError, match=r"must be writable, but got: .*Is a directory"):
        make(tmp_path)


def test_a_full_disk_is_named():
    with pytest.raises(StorageError, match=r"/dev/full must be writable, but got: .*No space left"):
        CsvWriter(Path("/dev/full"), ["x"])
