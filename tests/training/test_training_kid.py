"""Rates halved in real trainings: when the generator is tested, what it is told, and that others are left alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import closed_loop, constant, exact, tiny_task, trained
from torch import Tensor

from metaopt.metrics import p_not_better, small_features
from metaopt.schedules import Schedule, ScheduleArtifact, build_schedule
from metaopt.schedules.kid_halving import KidHalving
from metaopt.training import Training, load_training, save_training
from metaopt.training import training as training_module
from metaopt.training.kid_test import N_IMAGES, KidTest

PARAMS = {"lr_g": 2e-3, "lr_d": 1e-3, "update_ratio": 1.0, "p_value": 0.1, "patience": 3.0, "factor": 0.5}


def kid_halving(**changes: float) -> Schedule:
    return build_schedule("kid_halving", PARAMS | changes)


def test_a_look_is_compared_with_the_tenth_before_it() -> None:
    random = torch.Generator().manual_seed(0)
    real, *looks = (torch.randn(N_IMAGES, 5, generator=random) + i / 20 for i in range(15))
    test = KidTest(real)
    found = [test.look(features) for features in looks]
    assert found[:10] == [None] * 10
    assert found[10:] == [p_not_better(looks[i], looks[i - 10], real) for i in range(10, 14)]
    again = KidTest(real)
    again.load_state_dict(test.state_dict())
    assert again.look(real) == test.look(real) == p_not_better(real, looks[4], real)


def _followed(training: Training) -> list[tuple[float, float, float, float]]:
    """Tests made, p of the latest, and both rates at each record."""
    return [
        (training.controller.signals.kid_tests, training.controller.signals.kid_p, record.lr_g, record.lr_d)
        for record in training.run()
    ]


def test_a_generator_that_stands_still_has_the_rates_halved_after_every_third_test() -> None:
    """No image changes: p is 1/2 at each logging point from the eleventh on, but for the last, when all is over."""
    training = Training(tiny_task(evaluations=3), KidHalving(lr_g=0.0, lr_d=1e-3), 0)
    for k, (tests, p, _, lr_d) in enumerate(_followed(training)):
        made = min(max(k - 9, 0), 20)
        assert (tests, p) == (made, 0.5 if made else 0.0)
        assert lr_d == 1e-3 * 0.5 ** (made // 3)
    assert training.optimizer_d.param_groups[0]["lr"] == lr_d == 1e-3 / 64


def test_a_training_that_improves_keeps_its_rates_and_one_that_gets_worse_does_not() -> None:
    task = tiny_task(width=64, batch=64, budget=300, evaluations=3)
    good, bad = (_followed(Training(task, KidHalving(lr_g=lr, lr_d=lr), 0)) for lr in (1e-3, 5e-2))
    assert all(lr_g == 1e-3 and p < 0.1 for _, p, lr_g, _ in good[:20])
    assert bad[-1][2] == bad[-1][3] <= 5e-2 / 4
    for records in (good, bad):
        state, schedule = (0.0, 0.0, 0.0), KidHalving(lr_g=records[0][2], lr_d=records[0][3])
        for tests, p, lr_g, _ in records:  # the rates are those that the rule gives for the p-values that were seen
            failed = tests > state[0] and p > 0.1
            count = (state[1] + 1 if failed else 0.0) if tests > state[0] else state[1]
            state = (tests, 0.0, state[2] + 1) if count >= 3 else (tests, count, state[2])
            assert lr_g == schedule.lr_g * 0.5 ** state[2]


def _by_hand(training: Training, past: list[Tensor]) -> float:
    """The test of this moment, from images to p; `past` gets the features of now."""
    random = training_module._generator(training.seed, "kid_real", "cpu")
    x = training.shared.dataset.x
    real = small_features(x[torch.randint(len(x), (N_IMAGES,), generator=random)])
    latents = training_module._generator(training.seed, "kid", "cpu")
    player = training.generator if training.average is None else training.average.module
    with torch.no_grad():
        z = torch.randn(N_IMAGES, training.task.z_dim, generator=latents)
        images = player.eval()(z).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    player.train()
    past.append(small_features(images))
    return p_not_better(past[-1], past[-11], real) if len(past) > 10 else 0.0


@pytest.mark.parametrize("fields", [{}, {"ema": 0.2}], ids=["G", "average of G"])
def test_what_is_tested_are_images_of_the_generator_that_is_evaluated(fields: dict[str, Any]) -> None:
    training = Training(tiny_task(evaluations=3, **fields), kid_halving(lr_g=2e-2, lr_d=2e-2), 4)
    past: list[Tensor] = []
    seen = []
    for record in training.run():
        if record.outcome is None:
            seen.append((training.controller.signals.kid_p, _by_hand(training, past)))
    assert len(seen) == 30
    assert [a for a, _ in seen] == pytest.approx([b for _, b in seen], rel=1e-3, abs=1e-9)
    assert sum(1e-6 < p < 1 - 1e-6 for p, _ in seen) > 5


def test_tests_change_nothing_but_the_rates() -> None:
    """With a factor of 1 they change nothing at all."""
    assert exact(trained(tiny_task(), kid_halving(factor=1.0))) == exact(trained(tiny_task(), constant(2e-3, 1e-3)))


@pytest.mark.parametrize("schedule", [constant(), closed_loop()], ids=["constant", "gap_aware"])
def test_a_schedule_that_does_not_ask_costs_no_test(schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Training, "_real_features")
    monkeypatch.delattr(KidTest, "look")
    training = Training(tiny_task(), schedule, 0)
    list(training.run())
    assert (training.controller.signals.kid_tests, training.controller.signals.kid_p) == (0.0, 0.0)
    assert training.kid_test is None and training.state_dict()["kid_test"] is None


@pytest.mark.parametrize("from_file", [False, True])
def test_resumed_at_any_record_it_goes_on_bit_for_bit(from_file: bool, tmp_path: Path) -> None:
    params = PARAMS | {"lr_g": 2e-2, "lr_d": 2e-2, "patience": 2.0}
    schedule = ScheduleArtifact(family="kid_halving", params=params) if from_file else kid_halving(**params)
    task = tiny_task(evaluations=3)
    whole, saved = trained(task, schedule, seed=2), Training(task, schedule, 2)
    for n, _record in enumerate(saved.run(), start=1):
        save_training(saved, tmp_path / f"{n}.pt")
    assert whole[-1].lr_g < whole[0].lr_g
    for cut in (1, 6, 11, 14, 23, 30):
        resumed = Training(task, schedule, 2)
        load_training(resumed, tmp_path / f"{cut}.pt")
        assert exact(resumed.run()) == exact(whole[cut:])
        assert resumed.controller.state_dict() == saved.controller.state_dict()


def test_images_that_are_not_finite_are_not_tested() -> None:
    training = Training(tiny_task(evaluations=3), kid_halving(), 0)
    list(training.run(0.6))
    tests = training.controller.signals.kid_tests
    with torch.no_grad():
        next(training.generator.parameters()).fill_(float("nan"))
    training._test_generator()
    assert training.controller.signals.kid_tests == tests > 0
