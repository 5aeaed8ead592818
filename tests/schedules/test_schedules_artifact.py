"""schedule.json: what is written is read back, whole or not at all, and never anything outside the schedules."""

import json
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schedule_strategies import any_signals, families_with_params

from metaopt.errors import ConfigError, StorageError
from metaopt.schedules import (
    BASELINES,
    FAMILIES,
    SHIPPED,
    Family,
    ScheduleArtifact,
    find_schedule,
    load_schedule,
    save_schedule,
)
from metaopt.schedules.artifact import FORMAT, LOG_4

TTUR = {"lr_g": 5e-4, "lr_d": 1e-4}
on_disk = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # each example writes the same file anew
finite = st.floats(allow_nan=False, allow_infinity=False)


def artifact(**fields: Any) -> ScheduleArtifact:
    return ScheduleArtifact(**{"family": "ttur", "params": TTUR} | fields)


@on_disk
@given(
    pair=families_with_params(),
    ideal_d_loss=st.floats(1e-6, 1e6),
    budget=st.none() | st.floats(1, 1e9),
    trained_on=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    score=st.none() | finite,
    baselines=st.dictionaries(st.text(max_size=8), finite, max_size=3),
    provenance=st.dictionaries(st.text(max_size=8), st.none() | st.text() | st.integers() | finite, max_size=3),
)
def test_what_is_saved_is_loaded(tmp_path: Path, pair: tuple[Family, dict[str, float]], **fields: Any) -> None:
    saved = ScheduleArtifact(family=pair[0].name, params=pair[1], **fields)
    path = tmp_path / "schedule.json"
    assert save_schedule(saved, path) == path
    assert load_schedule(path) == saved
    assert [p.name for p in tmp_path.iterdir()] == ["schedule.json"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_schedule_that_ships_is_found_by_its_name_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load_schedule(name)
    assert loaded.score is not None and loaded.score < 0 and loaded.provenance["validation_score"] < 0
    found = find_schedule(name)
    assert (found.name, found.family, found.params) == (name, loaded.family, loaded.params)
    assert name not in {**BASELINES, **FAMILIES}
    with pytest.raises(ConfigError, match=f"did you mean '{name}'"):
        find_schedule(f"{name}s")


@on_disk
@given(pair=families_with_params(), signals=any_signals())
def test_a_loaded_schedule_does_what_its_family_does(
    tmp_path: Path, pair: tuple[Family, dict[str, float]], signals: Any
) -> None:
    family, params = pair
    loaded = load_schedule(
        save_schedule(ScheduleArtifact(family=family.name, params=params), tmp_path / "schedule.json")
    )
    assert loaded.closed_loop == family.closed_loop
    built = family.build(**params)
    assert loaded.init() == built.init()
    assert loaded.step(loaded.init(), signals) == built.step(built.init(), signals)


def test_the_file_holds_the_documented_keys_and_nothing_else(tmp_path: Path) -> None:
    saved = artifact(trained_on=("digits",), budget=4000, baselines={"ttur": 0.1}, provenance={"trial": 3, "run": None})
    content = json.loads(save_schedule(saved, tmp_path / "s.json").read_text())
    assert content == {
        "format": "metaopt.schedule/1",
        "family": "ttur",
        "params": TTUR,
        "ideal_d_loss": math.log(4),
        "budget": 4000,
        "trained_on": ["digits"],
        "score": None,
        "baselines": {"ttur": 0.1},
        "provenance": {"trial": 3, "run": None},
    }


def test_the_least_file_has_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"format": FORMAT, "family": "ttur", "params": TTUR, "ideal_d_loss": LOG_4}))
    assert load_schedule(path) == artifact()


def test_folders_are_made_and_home_means_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert save_schedule(artifact(), "~/a/b/s.json") == tmp_path / "a" / "b" / "s.json"
    assert load_schedule("~/a/b/s.json") == artifact()


def test_the_mappings_are_the_artifact_s_own() -> None:
    params, baselines, provenance = dict(TTUR), {"ttur": 0.1}, {"trial": 1}
    made = artifact(params=params, baselines=baselines, provenance=provenance)
    params["lr_g"], baselines["ttur"], provenance["trial"] = 1.0, 1.0, 2
    assert made == artifact(baselines={"ttur": 0.1}, provenance={"trial": 1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"family": "tur"}, "There is no family 'tur'; did you mean 'ttur'?"),
        ({"params": {"lr_g": 5e-4}}, "Family 'ttur' needs `params.lr_d`, but it is missing."),
        ({"params": TTUR | {"lr_d": 11.0}}, "`1e-08 <= params.lr_d <= 10` must hold, but got lr_d=11.0."),
        ({"ideal_d_loss": -1.0}, "`ideal_d_loss >= 0` must hold, but got ideal_d_loss=-1.0."),
        ({"ideal_d_loss": math.inf}, "`ideal_d_loss` must be a finite number, but got inf."),
        ({"budget": -1.0}, "`budget > 0` must hold, but got budget=-1.0."),
        ({"budget": math.nan}, "`budget` must be a finite number, but got nan."),
        ({"score": math.nan}, "`score` must be a finite number, but got nan."),
        ({"baselines": {"ttur": math.inf}}, "`baselines.ttur` must be a finite number, but got inf."),
        ({"provenance": {"fid": math.nan}}, "`provenance.fid` must be a string, a finite number or null, but got nan."),
        ({"provenance": {"ok": True}}, "`provenance.ok` must be a string, a finite number or null, but got True."),
    ],
)
def test_what_could_not_be_saved_cannot_be_made(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        artifact(**fields)
    assert str(caught.value).startswith(message)


_LIMITED = """
import resource, sys
from metaopt.errors import StorageError
from metaopt.schedules import ScheduleArtifact, save_schedule
new = ScheduleArtifact(family="ttur", params={"lr_g": 0.25, "lr_d": 0.5}, trained_on=("digits",) * 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
try:
    save_schedule(new, sys.argv[1])
except StorageError as error:
    print(error)
"""


def test_a_write_that_fails_halfway_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = save_schedule(artifact(), tmp_path / "s.json")
    result = subprocess.run(
        [sys.executable, "-c", _LIMITED, path], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout == f"{path} could not be written: File too large.\n"
    assert load_schedule(path) == artifact()
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]


def test_a_process_that_dies_before_the_last_step_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_schedule(artifact(), tmp_path / "s.json")

    def die(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt("killed")

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        save_schedule(artifact(score=-1.0), path)
    assert load_schedule(path) == artifact()


def test_a_target_that_is_a_folder_is_refused_and_nothing_stays_behind(tmp_path: Path) -> None:
    (tmp_path / "s.json").mkdir()
    with pytest.raises(StorageError, match=r"s\.json could not be written: Is a directory\."):
        save_schedule(artifact(), tmp_path / "s.json")
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]


def test_a_target_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(StorageError, match=r"file/s\.json could not be written: (File exists|Not a directory)\."):
        save_schedule(artifact(), tmp_path / "file" / "s.json")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_name_that_no_disk_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"x could not be written: File name too long\."):
        save_schedule(artifact(), tmp_path / ("x" * 300))


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save_schedule(artifact(score=-0.5), tmp_path / name).read_bytes() for name in "ab")
    assert first == second
    assert first.endswith(b"}\n")
    assert json.loads(first)["params"] == asdict(artifact())["params"]
