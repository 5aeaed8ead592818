"""The controller on a real GAN against a reference in plain Python, and what it refuses."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_gan import KNOTS, LOG_4, SCHEDULES, ReadsAll, Reference, TinyGan, Update
from torch import nn
from torch.optim import SGD, Adam

from metaopt.errors import ConfigError
from metaopt.integrations.torch import ScheduleController
from metaopt.schedules import Schedule, ScheduleArtifact, Signals, build_schedule


def constant(update_ratio: float = 1.0) -> Schedule:
    return build_schedule("constant", {"lr_g": 1e-3, "lr_d": 2e-3, "update_ratio": update_ratio})


def controlled(gan: TinyGan, schedule: Schedule, **options: Any) -> ScheduleController:
    return ScheduleController(schedule, gan.optimizer_g, gan.optimizer_d, **{"iterations": 60} | options)


def followed(gan: TinyGan, controller: ScheduleController) -> Iterator[Update]:
    """All updates of a training."""
    while not controller.done:
        yield gan.step(controller)


def values(signals: Signals) -> dict[str, float]:
    return {name: getattr(signals, name) for name in Signals.__slots__}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("every", "d_cost"), [(1, 0.5), (3, 0.3), (10, 0.8)])
def test_it_equals_the_reference_at_every_update(name: str, every: int, d_cost: float) -> None:
    schedule, gan = SCHEDULES[name], TinyGan()
    controller = controlled(gan, schedule, d_cost=d_cost, signals_every=every)
    reference = Reference(schedule, iterations=60, d_cost=d_cost, every=every)
    n_fresh = 0
    for update in followed(gan, controller):
        assert update.player == reference.turn
        reference.update(update)
        n_fresh += controller.fresh
        assert (controller.d_updates, controller.g_updates) == (reference.made["d"], reference.made["g"])
        assert controller.fresh == reference.fresh
        assert controller.turn == reference.turn
        assert values(controller.signals) == pytest.approx(reference.signals, rel=2e-5, abs=2e-6)
        controls, expected = controller.controls, reference.controls
        assert (controls.lr_g, controls.lr_d) == pytest.approx((expected.lr_g, expected.lr_d), rel=1e-4)
        assert controls.update_ratio == pytest.approx(expected.update_ratio, rel=1e-4)
        assert gan.rates() == (controls.lr_g, controls.lr_d)
        losses = ((reference.signals["loss_gap"] + 1) * LOG_4, reference.signals["g_loss"] * LOG_4)
        assert controller.losses == pytest.approx(losses, rel=1e-5)
        if len(reference.norms) == 2:
            norms = [math.log(reference.norms[player]) for player in "dg"]
            assert controller.log_grad_norms == pytest.approx(norms, abs=1e-5)
        made = controller.d_updates + controller.g_updates
        if made % 7 == 0:
            for one in (controller, reference):
                one.observe_kid(made % 5 / 4)
            assert controller.controls.lr_g == pytest.approx(reference.controls.lr_g, rel=1e-4)
            assert gan.rates() == (controller.controls.lr_g, controller.controls.lr_d)
    assert n_fresh == reference.made["d"] // every >= 3


def test_signals_hold_still_between_two_readings_and_progress_does_not() -> None:
    gan = TinyGan()
    controller = controlled(gan, constant(2.0), signals_every=4)
    before = values(controller.signals)
    for _ in followed(gan, controller):
        now = values(controller.signals)
        assert now["progress"] > before["progress"]
        same = all(now[name] == before[name] for name in now if name != "progress")
        assert same != controller.fresh
        before = now


def test_an_open_loop_schedule_is_followed_to_the_last_bit() -> None:
    gan = TinyGan()
    controller = controlled(gan, KNOTS, d_cost=0.3)
    made = {"d": 0, "g": 0}
    progress = 0.0
    while not controller.done:
        _, expected = KNOTS.step((), Signals(progress=progress))
        assert controller.controls == expected
        assert gan.rates() == (expected.lr_g, expected.lr_d)
        made[gan.step(controller).player] += 1
        progress = min((made["d"] * 0.3 + made["g"] * (1 - 0.3)) / 60, 1.0)
    assert controller.progress == 1.0


@pytest.mark.parametrize(
    ("ratio", "turns"),
    [(1.0, "DGDGDGDGDG"), (1.5, "DDGDGDDGDG"), (0.5, "DGGDGGDGGD"), (5.0, "DDDDDGDDDDDG"), (1 / 8, "DGGGGGGGGDG")],
)
def test_turns(ratio: float, turns: str) -> None:
    gan = TinyGan()
    controller = controlled(gan, constant(ratio))
    assert "".join(gan.step(controller).player for _ in turns).upper() == turns


@pytest.mark.parametrize(
    ("ratio", "d_cost", "d_updates", "g_updates"),
    [
        (1.0, 0.5, 60, 60),
        (5.0, 0.5, 100, 20),
        (0.5, 0.5, 40, 80),
        (1.0, 0.25, 60, 60),
        (2.0, 0.25, 96, 48),
        (8.0, 0.5, 107, 13),
    ],
)
def test_every_ratio_gets_the_same_compute(ratio: float, d_cost: float, d_updates: int, g_updates: int) -> None:
    gan = TinyGan()
    controller = controlled(gan, constant(ratio), d_cost=d_cost)
    assert len(list(followed(gan, controller))) == d_updates + g_updates
    assert (controller.d_updates, controller.g_updates) == (d_updates, g_updates)
    assert controller.iteration == pytest.approx(60)


def test_a_budget_that_rounds_is_not_overdrawn() -> None:
    """``23 * 0.3 + 23 * (1 - 0.3) < 23`` in floating point."""
    gan = TinyGan()
    controller = controlled(gan, constant(), d_cost=0.3, iterations=23)
    assert len(list(followed(gan, controller))) == 46
    assert controller.iteration < 23


def test_a_budget_need_not_be_whole() -> None:
    gan = TinyGan()
    controller = controlled(gan, constant(), iterations=2.25)
    assert "".join(update.player for update in followed(gan, controller)) == "dgdgd"
    assert (controller.iteration, controller.progress) == (2.5, 1.0)


@pytest.mark.parametrize(
    ("ideal", "places"),
    [(LOG_4, {"above", "below"}), (2.0, {"below", "floor"}), (1.0, {"above", "ceiling"}), (0.0, {"above", "ceiling"})],
)
def test_gap_aware_is_the_published_rule_on_the_losses_of_a_training(ideal: float, places: set[str]) -> None:
    """Step by step from raw losses: V <- 0.95 V + 0.05 L_D, and the multiplier of the gap |V - V*|."""
    gan = TinyGan(seed=3)
    rates = {"lr_g": 5e-3, "lr_d": 8e-3, "update_ratio": 2.0}
    rule = {"h_min": 0.1, "f_max": 2.0, "x_min": 0.1, "x_max": 0.1}
    schedule = ScheduleArtifact(family="gap_aware", params=rates | rule, ideal_d_loss=ideal)
    controller = controlled(gan, schedule, signals_every=1, iterations=200)
    unit = ideal or 1.0  # a Wasserstein loss has V* = 0
    average, multiplier, seen = ideal, 1.0, set()
    for update in followed(gan, controller):
        if update.player == "d":
            average = 0.95 * average + 0.05 * update.loss
            x = abs(average - ideal)
            if average > ideal:
                multiplier = min(max(2.0 ** (x / (0.1 * unit)), 1.0), 2.0)
                seen.add("ceiling" if multiplier == 2.0 else "above")
            else:
                multiplier = min(max(0.1 ** (x / (0.1 * unit)), 0.1), 1.0)
                seen.add("floor" if multiplier == 0.1 else "below")
        assert gan.rates() == (5e-3, pytest.approx(8e-3 * multiplier, rel=1e-4))
    assert seen >= places


def test_a_file_brings_its_ideal_loss_and_the_argument_comes_first() -> None:
    artifact = ScheduleArtifact(family="ttur", params={"lr_g": 1e-3, "lr_d": 1e-3}, ideal_d_loss=2.0)
    assert controlled(TinyGan(), artifact).losses == (2.0, 1.0)
    assert controlled(TinyGan(), artifact, ideal_d_loss=3.0).losses == (3.0, 1.5)
    assert controlled(TinyGan(), constant()).losses == pytest.approx((LOG_4, LOG_4 / 2))


def test_every_parameter_group_gets_the_rate() -> None:
    gan = TinyGan()
    gan.optimizer_g = SGD([{"params": [p], "lr": 0.5 + i} for i, p in enumerate(gan.g.parameters())])
    controller = controlled(gan, KNOTS)
    for _ in followed(gan, controller):
        assert {group["lr"] for group in gan.optimizer_g.param_groups} == {controller.controls.lr_g}
    assert len(gan.optimizer_g.param_groups) == 4


def test_a_rate_in_a_tensor_stays_that_tensor() -> None:
    """Captured graphs and compiled optimizers hold on to it."""
    gan = TinyGan()
    rate = torch.tensor(0.5)
    gan.optimizer_d = Adam(gan.d.parameters(), lr=rate, capturable=False, foreach=False)
    controller = controlled(gan, KNOTS)
    for _ in followed(gan, controller):
        assert gan.optimizer_d.param_groups[0]["lr"] is rate
        assert rate.item() == pytest.approx(controller.controls.lr_d, rel=1e-6)


def test_gradients_cleared_before_update_leave_their_ratio_out() -> None:
    gan = TinyGan()
    controller = controlled(gan, ReadsAll(), signals_every=1)
    for _ in range(20):
        loss = gan.d(torch.ones(3, 2)).mean()
        controller.update(loss)
    assert controller.log_grad_norms == (0.0, 0.0)
    assert controller.signals.log_grad_ratio == 0.0
    assert controller.signals.finite


def test_logits_may_be_left_out() -> None:
    gan = TinyGan()
    controller = controlled(gan, constant(8.0), signals_every=1)
    controller.update(torch.tensor(1.0))
    assert (controller.signals.d_sign, controller.signals.d_accuracy) == (0.0, 0.5)
    controller.update(torch.tensor(1.0), real_logits=torch.tensor([2.0, -1.0, 3.0, 4.0]))
    assert (controller.signals.d_sign, controller.signals.d_accuracy) == (pytest.approx(0.025), 0.5)
    controller.update(torch.tensor(1.0), real_logits=torch.ones(2, 1), fake_logits=torch.zeros(5))
    assert controller.signals.d_accuracy == pytest.approx(0.95 * 0.5 + 0.05 * 0.75)  # 0 is half right
    controller.update(torch.tensor(1.0), fake_logits=torch.ones(5))
    assert controller.signals.d_accuracy == pytest.approx(0.95 * 0.5 + 0.05 * 0.75)


@pytest.mark.parametrize("player", ["d", "g"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_loss_that_is_not_finite_keeps_the_last_controls_and_shows_in_the_signals(
    name: str, player: str, value: float
) -> None:
    gan = TinyGan()
    controller = controlled(gan, SCHEDULES[name], signals_every=2)
    for _ in range(21):
        gan.step(controller)
    while controller.turn != player:
        gan.step(controller)
    controller.update(torch.tensor(value))
    while not controller.fresh:
        gan.step(controller)
    assert not controller.signals.finite
    controls = controller.controls
    for _ in range(10):
        progress = controller.progress
        gan.step(controller)
        assert controller.controls == controls
        assert gan.rates() == (controls.lr_g, controls.lr_d)
        assert not controller.signals.finite
        assert controller.signals.progress == controller.progress > progress
    again = controlled(TinyGan(), SCHEDULES[name], signals_every=2)
    again.load_state_dict(json.loads(json.dumps(controller.state_dict())))
    assert repr(again.state_dict()) == repr(controller.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "`iterations > 0` must hold, but got iterations=0"),
        ({"iterations": -5}, "`iterations > 0` must hold, but got iterations=-5"),
        ({"iterations": math.nan}, "`iterations > 0` must hold, but got iterations=nan"),
        ({"d_cost": 0.0}, "`0 < d_cost < 1` must hold, but got d_cost=0.0"),
        ({"d_cost": 1.0}, "`0 < d_cost < 1` must hold, but got d_cost=1.0"),
        ({"d_cost": math.nan}, "`0 < d_cost < 1` must hold, but got d_cost=nan"),
        ({"signals_every": 0}, "`signals_every >= 1` must hold, but got signals_every=0"),
        ({"ideal_d_loss": -1.0}, "`ideal_d_loss >= 0` must hold, but got ideal_d_loss=-1.0"),
        ({"ideal_d_loss": math.nan}, "`ideal_d_loss >= 0` must hold, but got ideal_d_loss=nan"),
    ],
)
def test_bad_settings_are_refused_and_change_no_rate(options: dict[str, Any], message: str) -> None:
    gan = TinyGan()
    with pytest.raises(ConfigError, match=message):
        controlled(gan, constant(), **options)
    assert gan.rates() == (1e-3, 1e-3)  # Adam's own


def test_a_test_of_the_generator_is_answered_at_once_and_only_once() -> None:
    params = {"lr_g": 1e-3, "lr_d": 2e-3, "update_ratio": 2.0, "p_value": 0.1, "patience": 2.0, "factor": 0.25}
    gan = TinyGan()
    controller = controlled(gan, ScheduleArtifact(family="kid_halving", params=params))
    seen = []
    for p in (0.5, 0.05, 0.5, 1.0, 0.0):
        turn, iteration = controller.turn, controller.iteration
        controller.observe_kid(p)
        assert (controller.turn, controller.iteration) == (turn, iteration)
        seen.append(gan.rates())
        for _ in range(11):  # the signals are read on the way
            gan.step(controller)
        assert gan.rates() == seen[-1]
    assert seen == [(1e-3, 2e-3)] * 3 + [(2.5e-4, 5e-4)] * 2
    assert (controller.signals.kid_tests, controller.signals.kid_p) == (5.0, 0.0)


@pytest.mark.parametrize("p", [-0.01, 1.01, math.nan])
def test_a_p_value_must_be_one(p: float) -> None:
    controller = controlled(TinyGan(), constant())
    before = controller.state_dict()
    with pytest.raises(ConfigError, match=f"`0 <= p <= 1` must hold, but got p={p!r}"):
        controller.observe_kid(p)
    assert controller.state_dict() == before


def test_a_bad_update_is_refused_and_not_counted() -> None:
    gan = TinyGan()
    controller = controlled(gan, constant())
    before = controller.state_dict()
    with pytest.raises(ConfigError, match=r"`loss` must be a scalar, but got the shape \(7, 1\)"):
        controller.update(torch.zeros(7, 1))
    assert controller.state_dict() == before
    gan.step(controller)
    before = controller.state_dict()
    for logits in ({"real_logits": torch.zeros(2)}, {"fake_logits": torch.zeros(2)}):
        with pytest.raises(ConfigError, match="must come with D's updates, but it is G's turn"):
            controller.update(torch.tensor(1.0), **logits)
    assert controller.state_dict() == before


def test_the_networks_learn_nothing_from_being_watched() -> None:
    """Readings leave gradients, graphs and parameters alone."""
    parameter = nn.Parameter(torch.ones(2))
    optimizer = SGD([parameter], lr=1.0)
    controller = ScheduleController(ReadsAll(), SGD([nn.Parameter(torch.ones(1))], lr=1.0), optimizer, iterations=9)
    loss = (parameter**2).sum()
    loss.backward(retain_graph=True)
    controller.update(loss, real_logits=parameter, fake_logits=parameter)
    assert parameter.tolist() == [1.0, 1.0]
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [2.0, 2.0]
    assert controller.signals.finite
    assert not any(isinstance(v, torch.Tensor) for v in controller.state_dict().values())
