"""Tasks: their checks, their key, and how a spec becomes one."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metaopt.errors import ConfigError, DataError
from metaopt.gan import TASKS, Corruption, Dataset, Task, check_dataset, load_dataset, task_from_spec

TASK = Task(name="a", data="digits", budget=100)
OTHER: dict[str, Any] = {
    "data": "mnist5k",
    "size": 16,
    "network": "dcgan",
    "width": 65,
    "z_dim": 33,
    "batch": 65,
    "budget": 101,
    "evaluations": 5,
    "n_samples": 1001,
    "beta1": 0.4,
    "beta2": 0.99,
    "corruption": Corruption(noise=0.1),
    "augment": "flip",
    "conditional": True,
    "norm_g": "group",
    "norm_d": "none",
    "spectral_norm": True,
    "loss": "hinge",
    "r1": 0.5,
    "diff_augment": "cutout",
    "ema": 0.05,
    "lookahead": 5,
    "features": "lite0",
    "metrics": ("fid", "kid"),
}
"""For each field but `name`, a value that `TASK` does not have."""


def test_every_field_but_the_name_has_another_value_here() -> None:
    assert {field.name for field in fields(Task)} - set(OTHER) == {"name"}


@pytest.mark.parametrize("field", OTHER)
def test_the_key_changes_with_every_field(field: str) -> None:
    assert replace(TASK, **{field: OTHER[field]}).key() != TASK.key()


def test_the_key_does_not_change_with_the_name_or_the_spelling_of_a_number() -> None:
    assert replace(TASK, name="b").key() == TASK.key()
    assert replace(TASK, beta1=0).key() == replace(TASK, beta1=0.0).key()
    assert len(TASK.key()) == 64


def test_the_key_is_the_same_for_ever() -> None:
    """Caches of reference trainings are kept by this key: a change here throws all of them away."""
    assert TASK.key() == "59b8cb007868c3bdeb5f475eb543712ab44e95e189a13abae69191a345d7a74e"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "dcgam"}, r"no network 'dcgam'; did you mean 'dcgan'\? Known: mlp, dcgan"),
        ({"loss": "nonsaturating"}, "no loss 'nonsaturating'; did you mean 'non_saturating'"),
        ({"data": "mnist6k"}, "no data set 'mnist6k'; did you mean 'mnist5k'"),
        ({"data": "npz:"}, "a path must follow `npz:`"),
        ({"conditional": "no"}, "`conditional` must be true or false, but got 'no'"),
        ({"spectral_norm": 1}, "`spectral_norm` must be true or false, but got 1"),
        ({"features": 3}, "`features` must be a string, but got 3"),
        ({"metrics": "fid"}, "`metrics` must be a tuple of names, but got 'fid'"),
        ({"metrics": ["fid"]}, "`metrics` must be a tuple of names"),
        ({"norm_g": "layer"}, "`norm_g` must be one of batch, group, none, but got 'layer'"),
        ({"norm_d": "batch", "loss": "wgan_gp"}, "`norm_d` must be group or none where the loss penalises"),
        ({"norm_d": "batch", "r1": 0.1}, "`norm_d` must be group or none where the loss penalises"),
        ({"spectral_norm": True, "loss": "wgan"}, "`spectral_norm` must be false where the loss cuts D's weights"),
        ({"r1": -0.1}, "`0 <= r1 < inf` must hold, but got r1=-0.1"),
        ({"lookahead": -1}, "`lookahead >= 0` must hold, but got lookahead=-1"),
        ({"lookahead": 2.5}, "`lookahead` must be a whole number, but got 2.5"),
        ({"ema": 1.0}, "`0 <= ema < 1` must hold, but got ema=1.0"),
        ({"augment": "flap"}, "did you mean 'flip'"),
        ({"diff_augment": "colour"}, "did you mean 'color'"),
        ({"data": 3}, "`data` must be a string, but got 3"),
        ({"name": ""}, "`name` must be made of letters, digits, `_`, `.` and `-`.*but got ''"),
        ({"name": "a/b"}, "`name` must be made of letters"),
        ({"name": ".hidden"}, "with no `.` or `-` first, but got '.hidden'"),
        ({"size": 65}, "`size` must be a whole number from 8 to 64 pixels, but got 65"),
        (
            {"size": 10, "network": "dcgan"},
            r"needs a `size` that is a multiple of 4 in .*but got 10",
        ),
        (
            {"network": "my_networks:make_pair", "norm_d": "batch"},
            "`norm_d` must be left out with a network of your own",
        ),
        ({"network": "my_networks:make_pair", "spectral_norm": False}, "got spectral_norm=False"),
        ({"width": 0}, "`width >= 1` must hold, but got width=0"),
        ({"z_dim": 0}, "`z_dim >= 1` must hold, but got z_dim=0"),
        ({"batch": 1}, "`batch >= 2` must hold, but got batch=1"),
        ({"budget": 0}, "`budget >= 1` must hold, but got budget=0"),
        ({"budget": 10.5}, "`budget` must be a whole number, but got 10.5"),
        ({"width": True}, "`width` must be a whole number, but got True"),
        ({"evaluations": 0}, "`evaluations >= 1` must hold, but got evaluations=0"),
        ({"evaluations": 101}, "`evaluations <= budget` must hold, but got evaluations=101, budget=100"),
        ({"n_samples": 1}, "`n_samples >= 2` must hold, but got n_samples=1"),
        ({"beta1": 1.0}, "`0 <= beta1 < 1` must hold, but got beta1=1.0"),
        ({"beta2": -0.1}, "`0 <= beta2 < 1` must hold, but got beta2=-0.1"),
        ({"beta2": float("nan")}, "`0 <= beta2 < 1` must hold, but got beta2=nan"),
        ({"beta1": "0.5"}, "`0 <= beta1 < 1` must hold, but got beta1='0.5'"),
    ],
)
def test_wrong_values_are_refused_at_birth(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TASK, **change)


@pytest.mark.parametrize("name", TASKS)
def test_named_tasks_fit_their_data(name: str) -> None:
    task = task_from_spec(name)
    assert task == TASKS[name]
    assert task.name == name
    check_dataset(task, load_dataset(task.data, size=task.size))


def test_overrides_replace_fields() -> None:
    task = task_from_spec("digits", budget=7, name="short")
    assert task == replace(TASKS["digits"], budget=7, name="short")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "digts",
            r"no task 'digts'; did you mean 'digits'\? Known: digits, mnist5k, glyphs, .*npz:FILE, npy:FILE",
        ),
        ("images.npz", "no task 'images.npz'.*For that file, write 'npz:images.npz'"),
        ("folder:", "a path must follow `folder:`"),
        ("npz:not-there.npz", "not-there.npz: the file must exist"),
    ],
)
def test_unknown_specs_are_refused(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        task_from_spec(spec)


def test_unknown_overrides_are_refused() -> None:
    with pytest.raises(ConfigError, match="no field of a task called 'buget'; did you mean 'budget'"):
        task_from_spec("digits", buget=3)


def _npz(path: Path, size: int, n: int = 3) -> str:
    x = np.random.default_rng(0).integers(0, 256, (n, 1, size, size), dtype=np.uint8)
    np.savez(path, x=x)
    return f"npz:{path}"


@pytest.mark.parametrize(("size", "network"), [(28, "dcgan"), (32, "dcgan"), (9, "mlp"), (30, "mlp")])
def test_own_images_get_the_networks_that_fit(tmp_path: Path, size: int, network: str) -> None:
    task = task_from_spec(_npz(tmp_path / "my images.npz", size))
    assert (task.name, task.network, task.size) == ("my_images", network, None)


def test_overrides_come_first_for_own_images(tmp_path: Path) -> None:
    spec = _npz(tmp_path / "a.npz", 9)
    assert task_from_spec(spec, size=16).network == "dcgan"
    mlp = task_from_spec(spec, size=16, network="mlp", budget=9, name="mine")
    assert (mlp.network, mlp.size, mlp.budget, mlp.name) == ("mlp", 16, 9, "mine")


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = task_from_spec("folder:photos.v2")
    assert (task.name, task.data, task.network) == ("photos.v2", f"folder:{tmp_path / 'photos.v2'}", "dcgan")


@pytest.mark.parametrize(("folder", "name"), [("图片", "图片"), ("..a b!", "a_b_"), ("...", "folder")])
def test_any_folder_name_gives_a_task_name(tmp_path: Path, folder: str, name: str) -> None:
    assert task_from_spec(f"folder:{tmp_path / folder}").name == name


def _dataset(n: int, size: int) -> Dataset:
    x = torch.zeros(n, 1, size, size, dtype=torch.uint8)
    return Dataset(name="folder:X", x=x, y=None, content_hash="")


@pytest.mark.parametrize(
    ("change", "n", "size", "message"),
    [
        ({}, 3, 8, r"folder:X holds 3 images, but at least 64 \(the batch size\) are needed"),
        ({"network": "dcgan"}, 64, 10, "'dcgan' needs a `size` that is a multiple of 4"),
        ({"size": 16}, 64, 8, "folder:X: images must be `size` = 16 pixels a side, but are 8"),
    ],
)
def test_data_that_do_not_fit_are_refused(change: dict[str, Any], n: int, size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_dataset(replace(TASK, **change), _dataset(n, size))


def test_just_enough_images_pass() -> None:
    check_dataset(TASK, _dataset(64, 8))
    with pytest.raises(DataError, match="holds 63 images"):
        check_dataset(TASK, _dataset(63, 8))


def test_paths_in_a_task_mean_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    corruption = Corruption(foreign=0.1, foreign_data="npz:other.npz")
    task = task_from_spec("digits", corruption=corruption, features="inception:weights.pth")
    assert task.corruption.foreign_data == f"npz:{tmp_path}/other.npz"
    assert task.features == f"inception:{tmp_path}/weights.pth"


def test_cifar10_gets_the_usual_augmentation_and_digits_none() -> None:
    assert task_from_spec("cifar10", network="dcgan").augment == "flip,crop"
    assert task_from_spec("mnist5k").augment == ""
