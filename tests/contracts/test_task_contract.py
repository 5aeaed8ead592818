"""One set of checks for every network with every loss, every data set at hand, and every kind of corruption.

``METAOPT_DEVICE=cuda make test`` runs them on a GPU.
"""

import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from metaopt.gan import LOSSES, NETWORKS, TASKS, Corruption, Task, load_dataset, sample_batch
from metaopt.metrics import METRICS
from metaopt.schedules import build_schedule
from metaopt.training import Outcome, Record, Training, load_training, save_training
from metaopt.training.resources import floor

DEVICE = os.environ.get("METAOPT_DEVICE", "cpu")
SCHEDULE = build_schedule("constant", {"lr_g": 5e-4, "lr_d": 5e-4, "update_ratio": 1.5})
OPTIONS: dict[str, dict[str, Any]] = {
    "conditional": {"conditional": True},
    "conditional_dcgan": {"conditional": True, "network": "dcgan"},
    "conditional_wgan_gp": {"conditional": True, "loss": "wgan_gp"},
    "ema": {"ema": 0.2},
    "lookahead": {"lookahead": 2},
    "r1": {"r1": 1.0},
    "augment": {"augment": "flip,crop"},
    "diff_augment": {"diff_augment": "color,translation,cutout"},
    "spectral_norm": {"spectral_norm": True},
    "group_norm": {"norm_g": "group", "norm_d": "group"},
}
CASES = {
    f"{network}-{loss}": {"network": network, "loss": loss} for network, loss in product(NETWORKS, LOSSES)
} | OPTIONS
CASES |= {f"colour-{network}": {"data": "textures", "size": 16, "network": network} for network in NETWORKS}
WITHOUT_DOWNLOAD = ("digits", "mnist5k", "glyphs", "earth", "textures")
CORRUPTIONS = {
    "noise": Corruption(noise=0.3),
    "missing_pixels": Corruption(missing_pixels=0.4),
    "missing_patches": Corruption(missing_patches=0.3),
    "n_kept": Corruption(n_kept=100),
    "label_noise": Corruption(label_noise=0.5),
    "foreign": Corruption(foreign=0.2, foreign_data="mnist5k"),
}


def _task(**fields: Any) -> Task:
    small = {"width": 4, "z_dim": 4, "batch": 8, "budget": 20, "evaluations": 2, "n_samples": 50}
    return Task(**{"name": "contract", "data": "digits"} | small | fields)


def _training(task: Task, seed: int = 0) -> Training:
    return Training(task, SCHEDULE, seed, device=DEVICE)


def _exact(records: list[Record]) -> list[str]:
    return [repr(replace(record, wall_s=0.0)) for record in records]


@pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
def test_a_training_repeats_resumes_and_stays_on_its_device(fields: dict[str, Any], tmp_path: Path) -> None:
    task = _task(**fields)
    whole = list(_training(task).run())
    half = _training(task)
    first = list(half.run(0.5))
    save_training(half, tmp_path / "a.pt")
    resumed = _training(task)
    load_training(resumed, tmp_path / "a.pt")
    assert _flat(resumed.state_dict()) == _flat(half.state_dict())
    rest = list(resumed.run())
    assert whole[-1].outcome is Outcome.FINISHED
    assert whole[-1].progress == pytest.approx(1, abs=0.1)
    if DEVICE == "cpu":  # sums on a GPU need not repeat to the bit
        assert _exact([*first, *rest]) == _exact(whole)
    for player in (resumed.generator, resumed.discriminator):
        assert {p.device.type for p in player.parameters()} == {torch.device(DEVICE).type}
        assert {p.dtype for p in player.parameters()} == {torch.float32}
        assert all(bool(p.isfinite().all()) for p in player.parameters())
    images = resumed.sample(3)
    assert (images.dtype, images.shape) == (torch.uint8, (3, *resumed.shared.dataset.x.shape[1:]))


@pytest.mark.parametrize("fields", OPTIONS.values(), ids=OPTIONS)
def test_every_option_changes_the_training(fields: dict[str, Any]) -> None:
    base = {key: value for key, value in fields.items() if key in ("network", "loss")}
    plain, other = (list(_training(_task(**one)).run())[-1] for one in (base, fields))
    assert (plain.fid, plain.loss_d) != (other.fid, other.loss_d)


@pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
def test_updates_between_two_readings_of_the_signals_do_not_wait_for_a_gpu(fields: dict[str, Any]) -> None:
    training = _training(_task(**fields))
    for n in (20, 9):  # the first updates allocate; the signals are read at every tenth update of D
        if DEVICE != "cpu" and n == 9:
            torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(n):
                update = training._update_d if training.controller.turn == "d" else training._update_g
                update()
        finally:
            if DEVICE != "cpu":
                torch.cuda.set_sync_debug_mode("default")
    assert training.controller.d_updates + training.controller.g_updates == 29


def _flat(state: Any, at: str = "") -> dict[str, Any]:
    """Every number and tensor of a state by its path, tensors as lists."""
    if isinstance(state, dict):
        return {k: v for key, part in state.items() for k, v in _flat(part, f"{at}/{key}").items()}
    if isinstance(state, list | tuple):
        return {k: v for i, part in enumerate(state) for k, v in _flat(part, f"{at}/{i}").items()}
    return {at: state.tolist() if isinstance(state, torch.Tensor) else state}


@pytest.mark.parametrize("name", [*WITHOUT_DOWNLOAD, *(name for name in TASKS if name not in WITHOUT_DOWNLOAD)])
def test_every_data_set_trains_and_its_images_keep_the_rules(name: str) -> None:
    data = TASKS[name].data if name in TASKS else name
    task = _task(data=data, network="mlp", size=None)
    training = _training(task)
    dataset = training.shared.dataset
    assert dataset.x.dtype == torch.uint8 and dataset.x.device.type == torch.device(DEVICE).type
    assert len(dataset) > 1000 and 8 <= dataset.size <= 64 and dataset.channels in (1, 3)
    assert dataset.y is None or (len(dataset.y) == len(dataset) and dataset.y.dtype == torch.int64)
    draws = [sample_batch(dataset, 5, torch.Generator(DEVICE).manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws) and draws[0].shape[1:] == dataset.x.shape[1:]
    assert load_dataset(data).content_hash == dataset.content_hash
    assert list(training.run())[-1].outcome is Outcome.FINISHED


@pytest.mark.parametrize("name", TASKS)
def test_named_tasks_can_be_built_as_they_are(name: str) -> None:
    training = _training(TASKS[name])
    first = next(training.run())
    assert first.fid is not None and 0 < floor(TASKS[name]) < first.fid
    assert 0 < training.d_cost < 1


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_changes_what_is_trained_on_and_not_what_is_compared_with(kind: str) -> None:
    conditional = kind == "label_noise"  # labels matter only where they are told
    tasks = (_task(conditional=conditional, corruption=one) for one in (Corruption(), CORRUPTIONS[kind]))
    clean, spoilt = map(_training, tasks)
    assert torch.equal(clean.shared.real.statistics.mean, spoilt.shared.real.statistics.mean)
    before, after = clean.shared.dataset, spoilt.shared.dataset
    assert before.identity != after.identity
    assert after.x.dtype == torch.uint8 and after.x.shape[1:] == before.x.shape[1:]
    records = [list(training.run()) for training in (clean, spoilt)]
    if not conditional:
        assert records[0][0].fid == records[1][0].fid  # the untrained generator is the same
    assert records[0][-1].fid != records[1][-1].fid
    assert records[1][-1].outcome is Outcome.FINISHED


def test_a_corruption_of_strength_zero_is_none_at_all() -> None:
    off = Corruption(noise=0.0, missing_pixels=0.0, label_noise=0.0, seed=5)
    plain, same = _training(_task()), _training(_task(corruption=off))
    assert plain.shared.dataset.content_hash == same.shared.dataset.content_hash
    if DEVICE == "cpu":
        assert _exact(list(plain.run())) == _exact(list(same.run()))


def test_every_metric_comes_with_the_fid_and_is_in_its_range() -> None:
    metrics = tuple(name for name in METRICS if name != "inception_score")
    task = _task(metrics=metrics, n_samples=100)
    evaluated = [record for record in _training(task).run() if record.fid is not None]
    plain = [record for record in _training(_task(n_samples=100)).run() if record.fid is not None]
    assert [record.fid for record in evaluated] == pytest.approx([record.fid for record in plain], rel=1e-3)
    for record in evaluated:
        assert record.kid is not None and record.kid > 0
        shares = (record.precision, record.recall, record.coverage, record.mode_balance)
        assert all(share is not None and 0 <= share <= 1 for share in shares)
        assert record.density is not None and record.density >= 0
        assert record.modes is not None and 1 <= record.modes <= 10
    assert all(record.kid is None and record.modes is None for record in plain)
