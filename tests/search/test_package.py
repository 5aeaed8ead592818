"""What goes with a job: what the study names, and nothing beside it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from clusters import remove_links
from PIL import Image
from studies import tiny_initialisation, tiny_study, write_study

from metaopt.errors import ConfigError, StorageError
from metaopt.gan import load_dataset
from metaopt.schedules import ScheduleArtifact, save_schedule
from metaopt.search import package as package_module
from metaopt.search.initialisation_study import load_any_study
from metaopt.search.package import STUDY, Package, pack
from metaopt.search.packed_data import place_of
from metaopt.search.study import Study
from metaopt.search.study_file import names_of_studies

RANDOM = np.random.default_rng(0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with data, and with what is nobody's business."""
    folder = tmp_path / "here"
    (folder / "faces" / "old").mkdir(parents=True)
    monkeypatch.chdir(folder)
    np.savez(folder / "mine.npz", x=RANDOM.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8))
    for i in range(40):
        Image.fromarray(RANDOM.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / "faces" / "old" / f"{i}.png")
    for name in (".env", "faces/id_rsa", "faces/.secret.png", "notes.txt"):
        (folder / name).write_text("secret")
    yield folder
    remove_links(tmp_path)


def packed(here: Path, overrides: list[str] | None = None, **changes: Any) -> Package:
    return packed_study(here, tiny_study(**changes), overrides)


def packed_study(here: Path, study: dict[str, Any], overrides: list[str] | None = None) -> Package:
    folder = here.parent / "jobs" / uuid4().hex
    return pack(str(write_study(here, study)), overrides or [], None, folder, allow_import=True)


def study_in(package: Package) -> Study:
    done = subprocess.run([sys.executable, "-m", "metaopt.search.packed_data"], cwd=package.folder, check=False)
    assert done.returncode == 0
    found = load_any_study(str(package.folder / STUDY), allow_import=True)
    assert isinstance(found, Study)
    return found


def files_in(package: Package) -> list[str]:
    return sorted(str(file.relative_to(package.folder)) for file in package.folder.rglob("*") if file.is_file())


def test_data_under_a_relative_path_are_found_where_the_study_says(here: Path) -> None:
    package = packed(
        here, tasks=[{"data": "npz:mine.npz", "budget": 6}, {"data": "folder:faces", "size": 8, "budget": 6}]
    )
    assert all("secret" not in (package.folder / name).read_text(errors="ignore") for name in files_in(package))
    assert len(files_in(package)) == 42
    first, second = study_in(package).tasks
    assert (first.name, second.name) == ("mine", "faces")
    for task, own in ((first, "npz:mine.npz"), (second, "folder:faces")):
        assert load_dataset(task.data, size=8).content_hash == load_dataset(own, size=8).content_hash


def test_what_cannot_be_read_is_left_out_of_the_package_too(here: Path) -> None:
    (here / "faces" / "empty.png").write_bytes(b"")
    (here / "faces" / "link.png").symlink_to(here / "nowhere")
    package = packed(here, tasks=[{"data": "readable:faces", "size": 8, "budget": 6}])
    (task,) = study_in(package).tasks
    assert load_dataset(task.data, size=8).content_hash == load_dataset("readable:faces", size=8).content_hash
    (here / "faces" / "empty.png").unlink()
    with pytest.raises(StorageError, match=r"link\.png could not be packed"):
        packed(here, tasks=[{"data": "folder:faces", "size": 8, "budget": 6}])


def test_more_trials_are_the_same_study_and_other_data_another_one(here: Path) -> None:
    tasks = [{"data": "npz:mine.npz", "budget": 6}]
    key = study_in(packed(here, tasks=tasks)).key
    assert study_in(packed(here, ["search.trials=9"], tasks=tasks)).key == key
    np.savez(here / "mine.npz", x=RANDOM.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8))
    assert study_in(packed(here, tasks=tasks)).key != key


def test_data_under_an_absolute_path_are_left_where_they_are(here: Path) -> None:
    data = f"npz:{here / 'mine.npz'}"
    package = packed(here, tasks=[{"data": data, "budget": 6}, {"data": "digits", "budget": 6}])
    assert package.elsewhere == (data,)
    assert files_in(package) == [STUDY]
    assert [task.data for task in study_in(package).tasks] == [data, "digits"]


@pytest.mark.parametrize("name", names_of_studies())
def test_a_study_that_names_nothing_is_the_same_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = load_any_study(name)
    absolute = [
        f"validation.tasks.{i}.data=npz:/data/{i}.npz" for i, one in enumerate(_validation(own)) if "npz:" in one
    ]
    package = pack(name, absolute, None, tmp_path / "package")
    found = load_any_study(str(package.folder / STUDY))
    assert (found.name, found.key) == (own.name, own.key)


def _validation(study: object) -> list[str]:
    return [task.data for task in study.validation] if isinstance(study, Study) else []


def test_schedules_go_with_it_though_two_have_one_name(here: Path) -> None:
    for folder, lr in (("a", 1e-4), ("b", 2e-4)):
        params = {"lr_g": lr, "lr_d": lr, "update_ratio": 1.0}
        artifact = ScheduleArtifact(
            family="constant", params=params, ideal_d_loss=1.0, budget=10, trained_on=["digits"]
        )
        save_schedule(artifact, here / folder / "s.json")
    package = packed(
        here, schedule={"family": "residual", "start": "a/s.json"}, search={"trials": 3, "sampler": "random"}
    )
    assert [name.split("/")[-1] for name in files_in(package)] == ["s.json", STUDY]
    changed = packed(here, schedule={"family": "constant"}, reference=str(here / "a/s.json"), baselines=["b/s.json"])
    assert len(files_in(changed)) == 3


def test_own_networks_go_with_it_and_installed_ones_do_not(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "nets" / "deep").mkdir(parents=True)
    for name in ("nets/__init__.py", "nets/deep/later.py", "nets/key.pem", "unused.py"):
        (here / name).write_text("")
    (here / "nets/deep/__init__.py").write_text("def make_pair(): ...")
    (here / "flat_nets.py").write_text("from flat_layers import make_pair")
    (here / "flat_layers.py").write_text("def make_pair(): ...")
    monkeypatch.syspath_prepend(here)
    package = packed(
        here,
        tasks=[
            {"data": "digits", "budget": 6, "network": "nets.deep:make_pair"},
            {"name": "other", "data": "digits", "budget": 6, "network": "torch.nn:Linear"},
            {"name": "flat", "data": "digits", "budget": 6, "network": "flat_nets:make_pair"},
        ],
    )
    nets = ["nets/__init__.py", "nets/deep/__init__.py", "nets/deep/later.py"]
    assert files_in(package) == ["flat_layers.py", "flat_nets.py", *nets, STUDY]
    with pytest.raises(ConfigError, match="there is no module 'no_such'; put its folder on PYTHONPATH"):
        packed(here, tasks=[{"data": "digits", "budget": 6, "network": "no_such:make_pair"}])


def test_what_is_too_large_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_module, "MAX_BYTES", 2000)
    with pytest.raises(ConfigError, match="must be at most 0 MiB to be sent"):
        packed(here, tasks=[{"data": "npz:mine.npz", "budget": 6}])
    assert not (here.parent / "jobs").exists(), "nothing is copied of what is refused"


def test_data_that_are_not_there_are_named(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.npz"):
        packed(here, tasks=[{"data": "npz:missing.npz", "budget": 6}])
    with pytest.raises(ConfigError, match="nowhere"):
        packed(here, tasks=[{"data": "folder:nowhere", "size": 8, "budget": 6}])


def test_images_behind_links_to_folders_are_sent(here: Path) -> None:
    (here / "more").mkdir()
    Image.fromarray(RANDOM.integers(0, 256, (8, 8), dtype=np.uint8)).save(here / "more" / "linked.png")
    (here / "faces" / "more").symlink_to(here / "more")
    package = packed(here, tasks=[{"data": "folder:faces", "size": 8, "budget": 6}])
    (task,) = study_in(package).tasks
    assert load_dataset(task.data, size=8).content_hash == load_dataset("folder:faces", size=8).content_hash
    assert len(files_in(package)) == 42


def test_weights_are_left_where_they_are(here: Path) -> None:
    package = packed(here, tasks=[{"data": "digits", "budget": 6, "features": "inception:/data/weights.pth"}])
    assert package.elsewhere == ("inception:/data/weights.pth",)
    with pytest.raises(ConfigError, match="weights must have an absolute path, which every node has"):
        packed(here, tasks=[{"data": "digits", "budget": 6, "features": "inception:weights.pth"}])


@pytest.mark.parametrize("same", [True, False])
def test_a_place_that_is_taken_is_used_only_if_it_holds_the_same(here: Path, same: bool) -> None:
    package = packed(here, tasks=[{"data": "folder:faces", "size": 8, "budget": 6}])
    (item,) = (package.folder / "data").iterdir()
    place = place_of(item.name)
    shutil.copytree(item, place)  # a folder, which a link cannot take the place of
    try:
        if not same:
            next(place.rglob("*.png")).write_bytes(b"other")
        command = [sys.executable, "-m", "metaopt.search.packed_data"]
        done = subprocess.run(command, cwd=package.folder, capture_output=True, text=True, check=False)
        assert done.returncode == (0 if same else 1)
        assert same or f"{place} must be free for data of this job, but it is not" in done.stderr
    finally:
        shutil.rmtree(place)


def test_a_study_of_starts_is_packed(here: Path) -> None:
    study = tiny_initialisation()
    study["episodes"]["train"] = [{"data": "npz:mine.npz"}]
    assert len(files_in(packed_study(here, study))) == 2


def test_a_link_of_an_earlier_session_is_replaced(here: Path) -> None:
    package = packed(here, tasks=[{"data": "npz:mine.npz", "budget": 6}])
    (name,) = (file.name for file in (package.folder / "data").iterdir())
    place_of(name).symlink_to("/gone")
    assert study_in(package).tasks[0].name == "mine"
    assert place_of(name).resolve() == (package.folder / "data" / name).resolve()
