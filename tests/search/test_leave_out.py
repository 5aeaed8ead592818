"""Leaving one data set out of the training."""

from pathlib import Path

import pytest
from commands import search_without_ray

from metaopt.errors import ConfigError
from metaopt.search.folder import read_manifest
from metaopt.search.initialisation_study import load_any_study
from metaopt.search.study import Study
from metaopt.search.winner import read_validation

TEXT = """\
name: few
tasks:
  - {data: digits, budget: 6, network: mlp, width: 8, n_samples: 20}
  - {name: small, data: mnist5k, size: 8, budget: 6, network: mlp, width: 8, n_samples: 20}
  - {name: hinge, data: digits, loss: hinge, budget: 6, network: mlp, width: 8, n_samples: 20}
evaluations: 1
schedule: {family: constant}
search: {trials: 2, workers: 1}
validation: {seeds: [7], top: 1}
"""


def read(tmp_path: Path, text: str, leave_out: str | None) -> Study:
    path = tmp_path / "few.yaml"
    path.write_text(text, encoding="utf-8")
    study = load_any_study(str(path), (), leave_out)
    assert isinstance(study, Study)
    return study


def test_all_tasks_on_a_data_set_go_to_the_validation(tmp_path: Path) -> None:
    study = read(tmp_path, TEXT, "digits")
    assert study.name == "few-without-digits"
    assert [task.name for task in study.tasks] == ["small"]
    assert [task.name for task in study.validation] == ["digits", "hinge"]
    other = read(tmp_path, TEXT, "mnist5k")
    assert [task.name for task in other.tasks] == ["digits", "hinge"]
    assert [task.name for task in other.validation] == ["small"]
    assert study.key != other.key


def test_they_join_those_of_the_validation(tmp_path: Path) -> None:
    own = "validation: {seeds: [7], top: 1, tasks: [{data: glyphs, size: 8, budget: 6}]}"
    text = TEXT.replace("validation: {seeds: [7], top: 1}", own)
    assert [task.name for task in read(tmp_path, text, "mnist5k").validation] == ["glyphs", "small"]


@pytest.mark.parametrize(("in_tasks", "beside"), [("readable", "folder"), ("folder", "readable")])
def test_the_readable_ones_of_a_folder_are_of_that_folder(tmp_path: Path, in_tasks: str, beside: str) -> None:
    task = f"{{data: '{in_tasks}:/faces', size: 8, budget: 6}}"
    text = TEXT.replace("evaluations", f"  - {task}\nevaluations")
    assert [one.data for one in read(tmp_path, text, f"{beside}:/faces").validation] == [f"{in_tasks}:/faces"]
    own = f"validation: {{seeds: [7], tasks: [{{name: other, data: '{beside}:/faces', size: 8, budget: 6}}]}}"
    with pytest.raises(ConfigError, match=f"must be apart from those of `tasks`, but `{beside}:/faces`"):
        read(tmp_path, text.replace("validation: {seeds: [7], top: 1}", own), None)


@pytest.mark.parametrize(
    ("data", "old", "new", "message"),
    [
        (
            "earth",
            "",
            "",
            r"--leave-out must be one of several that the tasks have, .*digits, mnist5k",
        ),
        ("digits", "mnist5k, size: 8", "digits", "--leave-out must be left out where the tasks have another one, too"),
        ("digits", "validation: {seeds: [7], top: 1}", "", "`validation` must be there for --leave-out"),
        (None, "", "", "`validation.tasks` must hold a task, unless --leave-out moves one there"),
        ("mnist5k", "loss: hinge", "loss: hing", r"few.yaml:5: .*hing"),
        ("digits", "loss: hinge", "loss: hing", r"few.yaml:5: .*hing"),
    ],
)
def test_what_is_refused(tmp_path: Path, data: str | None, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, TEXT.replace(old, new) if old else TEXT, data)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: few\n", "", "`name` must be there, but it is missing"),
        ("name: few", "name: 123", "`name`"),
        ("name: few", f"name: {'a' * 80}", "`name`"),
        ("top: 1}", "top: 1, tasks: 5}", "`validation.tasks`"),
        (
            "loss: hinge",
            "corruption: {foreign: 0.2, foreign_data: mnist5k}",
            "no task that stays may have",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_said_as_ever(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, TEXT.replace(old, new), "mnist5k")


def test_long_names_stay_apart(tmp_path: Path) -> None:
    text = TEXT.replace("name: few", f"name: {'a' * 64}")
    names = {read(tmp_path, text, data).name for data in ("digits", "mnist5k")}
    assert len(names | {"a" * 64}) == 3 and all(len(name) <= 64 for name in names)


def test_a_study_of_starts_is_refused() -> None:
    with pytest.raises(ConfigError, match="--leave-out is for studies of schedules, but `kind` is initialisation"):
        load_any_study("init_characters", (), "glyphs")


def test_the_winner_is_chosen_on_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(TEXT, encoding="utf-8")
    done = search_without_ray("few.yaml", "--leave-out", "mnist5k", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "few-without-mnist5k"
    manifest, validation = read_manifest(folder), read_validation(folder)
    assert manifest is not None
    assert manifest.name == "few-without-mnist5k"
    assert validation is not None
    assert "search few.yaml --leave-out mnist5k --out runs/few-without-mnist5k --resume" in done.stdout
    again = search_without_ray("few.yaml", "--leave-out", "mnist5k", "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
