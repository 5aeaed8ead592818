"""What a training costs, when it records, and which controls are in force."""

import math

import pytest
import torch
from tiny import N_RECORDS, closed_loop, constant, knots, tiny_task, trained
from torch.utils.flop_counter import FlopCounterMode

from metaopt.gan import LOSSES, PairSpec, make_pair
from metaopt.schedules import Controls, Schedule, Signals, build_schedule
from metaopt.training import Outcome, Training
from metaopt.training.flops import d_cost
from metaopt.training.game import Game

RATIOS = (1 / 8, 0.5, 1.0, 1.5, 3.7, 8.0)


def _mlp_flops(z: int, width: int, pixels: int, batch: int) -> tuple[float, float]:
    """FLOPs of a D and a G update, by hand: two for each multiply-add of a matrix product."""

    def product(n_in: int, n_out: int) -> int:
        return 2 * batch * n_in * n_out

    g = product(z, width) + product(width, width) + product(width, pixels)
    d = product(pixels, width) + product(width, width) + product(width, 1)
    # Backward has one product for the weights of a layer and one for its inputs, where those need a gradient.
    d_update = g + 2 * (d + d + (d - product(pixels, width)))
    g_update = g + d + d + g + (g - product(z, width))
    return d_update, g_update


@pytest.mark.parametrize(("z", "width", "size", "channels"), [(8, 16, 8, 1), (3, 5, 9, 1), (100, 7, 16, 3)])
def test_d_cost_is_the_hand_count_of_an_mlp(z: int, width: int, size: int, channels: int) -> None:
    spec = PairSpec(network="mlp", size=size, channels=channels, width=width, z_dim=z)
    pair = make_pair(spec, torch.Generator().manual_seed(0))
    before = [p.detach().clone() for p in pair.generator.parameters()]
    cost = d_cost(pair, Game(loss=LOSSES["non_saturating"]), spec, 12)
    flops_d, flops_g = _mlp_flops(z, width, channels * size * size, 12)
    assert cost == pytest.approx(flops_d / (flops_d + flops_g), rel=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(before, pair.generator.parameters(), strict=True))
    assert all(p.grad is None for p in (*pair.generator.parameters(), *pair.discriminator.parameters()))


def _measured(training: Training, until: float) -> float:
    """FLOPs of the updates up to `until`, where no FID is taken."""
    with FlopCounterMode(display=False) as counter:
        list(training.run(until))
    return float(counter.get_total_flops())


def test_updates_of_an_mlp_cost_what_the_hand_count_says() -> None:
    task = tiny_task()
    training = Training(task, constant(update_ratio=1.5), 0)
    list(training.run(0.0))
    flops = _measured(training, 0.45)
    flops_d, flops_g = _mlp_flops(task.z_dim, task.width, 64, task.batch)
    assert flops == training.controller.d_updates * flops_d + training.controller.g_updates * flops_g
    assert training.d_cost == pytest.approx(flops_d / (flops_d + flops_g), rel=1e-12)


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_charge_is_proportional_to_the_work_whatever_the_ratio(network: str) -> None:
    price = []
    for ratio in (1 / 8, 1.0, 8.0):
        training = Training(tiny_task(network=network, width=4), constant(update_ratio=ratio), 0)
        list(training.run(0.0))
        flops = _measured(training, 0.45)
        price.append(flops / training.controller.iteration)
    assert price == pytest.approx([price[0]] * 3, rel=1e-9)


@pytest.mark.parametrize("ratio", RATIOS)
def test_every_ratio_gets_the_same_compute(ratio: float) -> None:
    task = tiny_task()
    training = Training(task, constant(update_ratio=ratio), 0)
    records = list(training.run())
    share = training.d_cost
    update = max(share, 1 - share)
    assert len(records) == N_RECORDS + 1
    for k, record in enumerate(records):
        nominal = k / N_RECORDS * task.budget
        assert nominal - 1e-6 <= record.iteration < nominal + update
        assert record.iteration == pytest.approx(record.d_updates * share + record.g_updates * (1 - share))
        assert record.progress == pytest.approx(min(record.iteration / task.budget, 1.0))
        assert record.update_ratio == ratio
        least, most = record.g_updates * ratio, (record.g_updates + 1) * ratio + 1
        assert least - 1 - 1e-6 <= record.d_updates <= most + 1e-6
    assert records[-1].progress == 1.0
    assert records[-1].outcome is Outcome.FINISHED


def test_turns_of_ratio_one_and_a_half() -> None:
    training, turns = Training(tiny_task(budget=5, evaluations=1), constant(update_ratio=1.5), 0), ""
    training.discriminator.register_forward_pre_hook(lambda *_: taken.append(training.controller.turn))
    taken: list[str] = []
    list(training.run())
    turns = "".join(taken).replace("dd", "D").replace("g", "G")  # D looks twice, at real and generated images
    assert "DDGDGDDGDG".startswith(turns) and len(turns) >= 9


@pytest.mark.parametrize("evaluations", [1, 2, 3])
def test_number_of_records_and_where_the_fids_are(evaluations: int) -> None:
    records = trained(tiny_task(budget=21, evaluations=evaluations), constant())
    assert len(records) == 10 * evaluations + 1
    assert [i for i, one in enumerate(records) if one.fid is not None] == list(range(0, len(records), 10))
    assert [one.outcome for one in records] == [None] * 10 * evaluations + [Outcome.FINISHED]
    assert all(one.fid is None or (one.fid > 0 and math.isfinite(one.fid)) for one in records)
    assert not any(one.reason for one in records)
    assert [one.wall_s for one in records] == sorted(one.wall_s for one in records)


def test_first_record_is_of_a_balanced_game_before_any_update() -> None:
    first = trained(tiny_task(budget=2, evaluations=1), constant(lr_g=0.5, lr_d=0.25))[0]
    assert (first.iteration, first.progress, first.d_updates, first.g_updates) == (0, 0, 0, 0)
    assert first.loss_d == pytest.approx(math.log(4))
    assert first.loss_g == pytest.approx(math.log(2))
    assert (first.lr_g, first.lr_d) == (0.5, 0.25)
    assert (first.loss_gap, first.d_sign, first.d_accuracy, first.log_grad_ratio) == (0, 0, 0.5, 0)


def test_records_have_the_signals_that_schedules_read() -> None:
    read: list[Signals] = []

    class Reading:
        def init(self) -> None:
            return None

        def step(self, state: None, signals: Signals) -> tuple[None, Controls]:
            read.append(signals)
            return None, Controls(lr_g=1e-3, lr_d=2e-3, update_ratio=2.0)

    last = trained(tiny_task(budget=20, evaluations=1), Reading())[-1]
    assert last.loss_gap == pytest.approx(last.loss_d / math.log(4) - 1)
    assert (last.loss_gap, last.d_sign, last.log_grad_ratio) != (0, 0, 0)
    for name in ("loss_gap", "d_sign", "d_accuracy", "log_grad_ratio"):
        assert getattr(last, name) == getattr(read[-1], name)


@pytest.mark.parametrize("budget", [1, 2, 7])
def test_a_budget_smaller_than_the_number_of_records(budget: int) -> None:
    records = trained(tiny_task(budget=budget, evaluations=1), constant())
    assert len(records) == 11
    assert records[-1].outcome is Outcome.FINISHED
    assert budget <= records[-1].iteration + 1e-9 < budget + 1
    assert [one.iteration for one in records] == sorted(one.iteration for one in records)


@pytest.mark.parametrize(
    "schedule",
    [
        knots(),
        build_schedule("power_decay", {"lr_g": 1e-3, "lr_d": 2e-3, "update_ratio": 2.0, "power": 1.0}),
        build_schedule("cosine", {"lr_g": 1e-3, "lr_d": 2e-3, "update_ratio": 0.5, "final_share": 0.1}),
    ],
    ids=["knots", "power_decay", "cosine"],
)
def test_controls_follow_the_schedule(schedule: Schedule) -> None:
    training = Training(tiny_task(), schedule, 0)
    rates = set()
    for record in training.run():
        _, expected = schedule.step(schedule.init(), Signals(progress=record.progress))
        assert (record.lr_g, record.lr_d) == (expected.lr_g, expected.lr_d)
        assert record.update_ratio == expected.update_ratio
        assert [group["lr"] for group in training.optimizer_g.param_groups] == [record.lr_g]
        assert [group["lr"] for group in training.optimizer_d.param_groups] == [record.lr_d]
        rates.add(record.lr_d)
    assert len(rates) == N_RECORDS + 1


def test_a_closed_loop_schedule_answers_to_the_loss() -> None:
    records = trained(tiny_task(budget=200), closed_loop())
    for record in records:
        gap = record.loss_d / math.log(4) - 1
        factor = 2.0 ** min(gap / 0.3, 1) if gap > 0 else 0.1 ** min(-gap / 0.3, 1)
        assert record.lr_d == pytest.approx(5e-3 * factor, rel=1e-6)
        assert record.lr_g == 2e-3
    assert len({record.lr_d for record in records}) > 5


def test_a_rate_of_nearly_nothing_moves_nothing() -> None:
    records = trained(tiny_task(budget=20, evaluations=1), constant(lr_g=1e-8, lr_d=1e-8))
    assert records[0].fid is not None and records[-1].fid is not None
    assert records[-1].fid == pytest.approx(records[0].fid, rel=1e-3)


def test_training_makes_better_images() -> None:
    records = trained(tiny_task(width=64, batch=64, budget=250, n_samples=300), constant(1e-3, 1e-3))
    assert records[0].fid is not None and records[-1].fid is not None
    assert records[-1].fid < 0.8 * records[0].fid
    assert records[-1].outcome is Outcome.FINISHED
