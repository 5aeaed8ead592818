"""Failures are values: what diverged, what collapsed, and what is healthy."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import N_RECORDS, constant, exact, tiny_task, trained
from torch import Tensor

from metaopt.metrics import SmallFeatures
from metaopt.schedules import Signals
from metaopt.training import Outcome, Training, load_training, save_training
from metaopt.training.health import (
    COLLAPSE_GRACE,
    MAX_GRAD_NORM,
    MAX_LOSS,
    MIN_FEATURE_RANK,
    MIN_FEATURE_SPREAD,
    MIN_SPREAD,
    MIN_TURNS,
    SPREAD_GRACE,
    SWING,
    WINDOW,
    collapsed,
    diverged,
    lost_modes,
    oscillating,
    saturated,
)

LOG_NORM = math.log(MAX_GRAD_NORM)
LOG_4 = math.log(4)


def _signals(**values: float) -> Signals:
    return Signals(**{"progress": 0.5} | values)


def test_a_balanced_game_is_healthy() -> None:
    assert diverged(_signals(), (0.0, 0.0), LOG_4) is None


@pytest.mark.parametrize("name", ["loss_gap", "d_sign", "d_accuracy", "g_loss", "log_grad_ratio"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_any_signal_that_is_not_finite_is_found(name: str, value: float) -> None:
    assert diverged(_signals(**{name: value}), (0.0, 0.0), LOG_4) == (
        Outcome.DIVERGED,
        "non-finite loss or gradient",
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_found(value: float) -> None:
    expected = Outcome.DIVERGED, "non-finite loss or gradient"
    assert diverged(_signals(), (value, 0.0), LOG_4) == expected
    assert diverged(_signals(), (0.0, value), LOG_4) == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_loss_threshold_of_both_players(sign: int) -> None:
    assert diverged(_signals(loss_gap=sign * MAX_LOSS - 1, g_loss=sign * MAX_LOSS), (0.0, 0.0), LOG_4) is None
    above = 1.001 * MAX_LOSS * sign
    found = diverged(_signals(loss_gap=above - 1), (0.0, 0.0), LOG_4)
    assert found == (Outcome.DIVERGED, f"exploding loss of D: {above:.3g} times 1.39")
    found = diverged(_signals(g_loss=above), (0.0, 0.0), LOG_4)
    assert found == (Outcome.DIVERGED, f"exploding loss of G: {above:.3g} times 1.39")


def test_a_wasserstein_loss_explodes_on_its_own_scale() -> None:
    assert diverged(_signals(loss_gap=-MAX_LOSS), (0.0, 0.0), 0.0) is None
    found = diverged(_signals(loss_gap=-1.001 * MAX_LOSS), (0.0, 0.0), 0.0)
    assert found == (Outcome.DIVERGED, "exploding loss of D: -1e+03 times 1")


def test_gradient_threshold_of_both_players() -> None:
    assert diverged(_signals(), (LOG_NORM, LOG_NORM), LOG_4) is None
    assert diverged(_signals(), (-1e3, -1e3), LOG_4) is None  # a vanishing gradient is no explosion
    above = LOG_NORM + math.log(10)
    assert diverged(_signals(), (above, 0.0), LOG_4) == (Outcome.DIVERGED, "exploding gradient norm of D: 1e7.0")
    assert diverged(_signals(), (0.0, above), LOG_4) == (Outcome.DIVERGED, "exploding gradient norm of G: 1e7.0")


def test_collapse_thresholds() -> None:
    real = 0.5
    least = MIN_SPREAD * real
    assert collapsed(least, real, 1.0) is None
    assert collapsed(0.0, real, math.nextafter(COLLAPSE_GRACE, 0)) is None
    assert collapsed(least / 2, real, COLLAPSE_GRACE) == (
        Outcome.COLLAPSED,
        "spread of generated images 0.005 of the real ones'",
    )
    found = collapsed(math.nextafter(least, 0), real, 1.0)
    assert found is not None and found[0] is Outcome.COLLAPSED


@pytest.mark.parametrize("progress", [0.0, 1.0])
@pytest.mark.parametrize("spread", [math.nan, math.inf])
def test_images_that_are_not_numbers_diverged_rather_than_collapsed(spread: float, progress: float) -> None:
    assert collapsed(spread, 0.5, progress) == (Outcome.DIVERGED, "non-finite samples")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_learning_rate_of_ten_diverges_at_once(seed: int) -> None:
    records = trained(tiny_task(width=64, budget=200), constant(lr_g=10.0, lr_d=10.0), seed)
    assert len(records) <= 3
    assert records[-1].outcome is Outcome.DIVERGED
    assert records[-1].reason.startswith("exploding loss of")
    assert [one.fid is None for one in records] == [False] + [True] * (len(records) - 1)


@pytest.mark.parametrize(("network", "lr"), [("mlp", 1.0), ("dcgan", 10.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_absurd_learning_rate_ends_early_in_one_way_or_the_other(network: str, lr: float, seed: int) -> None:
    task = tiny_task(network=network, width=64 if network == "mlp" else 8, budget=200)
    records = trained(task, constant(lr_g=lr, lr_d=lr), seed)
    assert len(records) < N_RECORDS + 1
    assert records[-1].outcome in (Outcome.COLLAPSED, Outcome.DIVERGED)
    assert records[-1].reason
    assert (records[-1].fid is None) == (records[-1].outcome is Outcome.DIVERGED)
    assert {one.outcome for one in records[:-1]} == {None}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_planted_number_is_found_within_ten_updates_of_d(player: str, value: float) -> None:
    training = Training(tiny_task(budget=100), constant(), 0)
    list(training.run(0.25))
    planted = training.controller.d_updates
    with torch.no_grad():
        next(getattr(training, player).parameters()).view(-1)[0] = value
    records = list(training.run())
    assert records[-1].outcome is Outcome.DIVERGED
    assert records[-1].reason in ("non-finite loss or gradient", "non-finite samples")
    assert records[-1].d_updates <= planted + 10
    assert [one.outcome for one in records[:-1]] == [None] * (len(records) - 1)
    assert records[-1].fid is None and not training.healthy
    assert list(training.run()) == []


@pytest.mark.parametrize("when", [0.0, 0.9, 0.95])
def test_not_a_number_is_found_even_where_the_signals_are_never_read_again(when: float) -> None:
    training = Training(tiny_task(budget=5, evaluations=2), constant(), 0)  # too short for one reading
    list(training.run(when))
    with torch.no_grad():
        next(training.generator.parameters()).fill_(math.nan)
    last = list(training.run())[-1]
    assert (last.outcome, last.reason, last.fid) == (Outcome.DIVERGED, "non-finite samples", None)


def test_an_untrained_generator_of_nan_is_seen_in_the_first_record() -> None:
    training = Training(tiny_task(), constant(), 0)
    with torch.no_grad():
        next(training.generator.parameters()).fill_(math.nan)
    assert [one.outcome for one in training.run()] == [Outcome.DIVERGED]


def test_features_that_are_not_finite_are_not_blamed_on_the_samples() -> None:
    training = Training(tiny_task(), constant(), 0)
    training.shared = replace(training.shared, extractor=_NoNumber())
    assert [(one.outcome, one.reason) for one in training.run()] == [
        (Outcome.DIVERGED, "non-finite features of finite samples")
    ]


class _NoNumber(SmallFeatures):
    """Features that fail."""

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features, logits = super().features_and_logits(images)
        return features * math.nan, logits


def _flat(training: Training) -> None:
    last = [module for module in training.generator.modules() if hasattr(module, "weight")][-1]
    with torch.no_grad():
        last.weight.zero_()  # type: ignore[operator]


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_a_constant_generator_collapsed_after_the_grace_period(network: str) -> None:
    training = Training(tiny_task(network=network, width=4), constant(lr_g=1e-8), 0)
    _flat(training)
    records = list(training.run())
    assert records[-1].outcome is Outcome.COLLAPSED
    assert records[-1].reason.startswith("spread of generated images")
    assert len(records) == 3 and COLLAPSE_GRACE <= records[-1].progress < COLLAPSE_GRACE + 0.05
    assert records[-1].fid is not None and records[-1].fid > 0
    assert training.healthy
    assert list(training.run()) == []


def test_a_generator_that_is_flat_only_at_first_goes_on() -> None:
    training = Training(tiny_task(budget=200), constant(lr_g=1e-2), 0)
    _flat(training)
    assert list(training.run())[-1].outcome is Outcome.FINISHED


def test_a_failed_training_stays_failed_when_resumed(tmp_path: object) -> None:
    training = Training(tiny_task(), constant(lr_g=1e-8), 0)
    _flat(training)
    list(training.run())
    path = f"{tmp_path}/a.pt"
    save_training(training, path)
    resumed = Training(tiny_task(), constant(lr_g=1e-8), 0)
    load_training(resumed, path)
    assert resumed.finding == training.finding
    assert list(resumed.run()) == []


def test_a_failing_training_is_as_repeatable_as_any() -> None:
    task = tiny_task(budget=200)
    assert exact(trained(task, constant(10.0, 10.0))) == exact(trained(task, constant(10.0, 10.0)))


def test_saturation_needs_a_d_that_is_always_right_and_a_loss_near_nothing() -> None:
    both = _signals(d_accuracy=0.995, loss_gap=-0.97)
    assert saturated(both, math.log(4)) == "discriminator saturation: d_accuracy 0.995, loss_gap -0.97"
    assert saturated(_signals(d_accuracy=0.98, loss_gap=-0.97), math.log(4)) == ""
    assert saturated(_signals(d_accuracy=0.995, loss_gap=-0.9), math.log(4)) == ""
    assert saturated(both, 0.0) == ""  # a Wasserstein loss may fall for ever


def test_lost_modes_thresholds() -> None:
    assert lost_modes(MIN_FEATURE_SPREAD, MIN_FEATURE_RANK, 1.0) == ""
    assert lost_modes(0.05, 0.05, math.nextafter(SPREAD_GRACE, 0)) == ""
    assert lost_modes(0.05, 1.0, SPREAD_GRACE) == "mode collapse: feature_spread 0.05 of the real images'"
    assert lost_modes(1.0, 0.05, SPREAD_GRACE) == "mode collapse: feature_rank 0.05 of the real images'"


def test_oscillation_counts_changes_of_the_lead() -> None:
    swing = 1.1 * SWING
    to_and_fro = [swing, 0.0, -swing, -swing] * (WINDOW // 4)
    assert oscillating(to_and_fro).startswith("oscillation: loss_gap crossed from beyond +0.2 to beyond -0.2")
    assert oscillating([0.9 * gap for gap in to_and_fro]) == ""  # never beyond the threshold
    assert oscillating([swing] * 10 + [-swing] * 10) == ""  # once
    assert oscillating([abs(gap) for gap in to_and_fro]) == ""  # never the other player
    assert oscillating(to_and_fro[: MIN_TURNS * 2]) == ""
    assert oscillating([]) == ""


def _warnings(training: Training) -> list[str]:
    return [record.warning for record in training.run() if record.warning]


@pytest.mark.parametrize("loss", ["non_saturating", "lsgan", "hinge"])
def test_a_discriminator_far_too_fast_saturates(loss: str) -> None:
    training = Training(tiny_task(width=64, budget=400, loss=loss), constant(lr_g=1e-6, lr_d=5e-3), 0)
    found = _warnings(training)
    assert found and all(text.startswith("discriminator saturation: d_accuracy ") for text in found)
    assert training.finding == (Outcome.FINISHED, "")


def test_a_game_with_much_momentum_and_a_hasty_d_oscillates() -> None:
    task = tiny_task(width=32, z_dim=16, batch=64, budget=400, beta1=0.9)
    found = _warnings(Training(task, constant(lr_g=3e-3, lr_d=3e-2), 0))
    assert any(text.startswith("oscillation: loss_gap crossed") for text in found)


def test_a_generator_that_makes_nearly_one_image_is_seen_in_its_features() -> None:
    training = Training(tiny_task(budget=100), constant(lr_g=1e-8, lr_d=1e-8), 0)
    with torch.no_grad():
        next(training.generator.parameters()).mul_(0.1)
    found = _warnings(training)
    assert found and all(text.startswith("mode collapse: feature_spread") for text in found)
    assert training.finding == (Outcome.FINISHED, "")


def test_a_generator_that_makes_two_images_is_seen_in_its_features() -> None:
    """Its images are far apart, so that their spread is that of a healthy one."""
    training = Training(tiny_task(budget=100), constant(lr_g=1e-8, lr_d=1e-8), 0)
    x = training.shared.dataset.x[[3, 1]] / 127.5 - 1
    training.generator = _Shows(x)
    found = _warnings(training)
    assert found and all(text.startswith("mode collapse: feature_rank") for text in found)
    assert training.finding == (Outcome.FINISHED, "")


class _Shows(torch.nn.Module):
    """One of some images, by the sign of the first latent."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = torch.nn.Parameter(images)

    def forward(self, z: Tensor) -> Tensor:
        return self.images[(z[:, 0] > 0).long()]


@pytest.mark.parametrize(("network", "lr"), [("mlp", 2e-3), ("dcgan", 2e-4)])
def test_a_healthy_training_has_no_warning(network: str, lr: float) -> None:
    task = tiny_task(network=network, width=64 if network == "mlp" else 8, budget=300, batch=64)
    assert _warnings(Training(task, constant(lr_g=lr, lr_d=lr / 2), 0)) == []


def test_a_penalty_far_too_heavy_explodes_the_gradient_and_not_the_loss() -> None:
    last = trained(tiny_task(budget=100, r1=1e10), constant())[-1]
    assert last.outcome is Outcome.DIVERGED
    assert last.reason.startswith("exploding gradient norm of D: 1e")


def test_one_warning_does_not_hide_another() -> None:
    training = Training(tiny_task(width=64, budget=400), constant(lr_g=1e-8, lr_d=5e-3), 0)
    with torch.no_grad():
        next(training.generator.parameters()).mul_(0.1)
    last = _warnings(training)[-1].split("; ")
    assert [text.partition(":")[0] for text in last] == ["discriminator saturation", "mode collapse"]
