"""Penalties against their closed forms, weight clipping, and the average of the generator."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from tiny import constant, tiny_task, trained
from torch import Tensor, nn

from metaopt.errors import DataError
from metaopt.gan import LOSSES
from metaopt.training import Training
from metaopt.training.average import WeightAverage
from metaopt.training.game import Game


class _Plane(nn.Module):
    """D(x) = a . x: its slope is |a| everywhere."""

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.a = nn.Parameter(a)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.a


class _Bowl(nn.Module):
    """D(x) = k |x|^2 / 2: its gradient at x is k x."""

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(k, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.k * x.flatten(1).square().sum(1) / 2


def _images(seed: int, n: int = 6) -> Tensor:
    return torch.randn(n, 1, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _look(game: Game, d: nn.Module, seed: int = 5) -> Any:
    return game.d_loss(d, _images(1), _images(2), (), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("gamma", [0.1, 10.0])
def test_r1_of_a_bowl(gamma: float) -> None:
    """``gamma / 2 E|k x|^2``, whose derivative by k is ``gamma k E|x|^2``."""
    d = _Bowl(0.7)
    found = _look(Game(loss=LOSSES["hinge"], r1=gamma), d)
    square = _images(1).flatten(1).square().sum(1).mean().item()
    penalty = found.objective - found.loss
    assert penalty.item() == pytest.approx(gamma / 2 * 0.49 * square, rel=1e-12)
    (by_k,) = torch.autograd.grad(penalty, d.k)
    assert by_k.item() == pytest.approx(gamma * 0.7 * square, rel=1e-12)


def test_the_slope_penalty_of_a_plane() -> None:
    """``10 (|a| - 1)^2`` wherever the lines are, with the gradient ``20 (|a| - 1) a / |a|``."""
    a = torch.arange(9, dtype=torch.float64) / 9
    d = _Plane(a.clone())
    found = _look(Game(loss=LOSSES["wgan_gp"]), d)
    slope = a.norm().item()
    penalty = found.objective - found.loss
    assert penalty.item() == pytest.approx(10 * (slope - 1) ** 2, rel=1e-12)
    (by_a,) = torch.autograd.grad(penalty, d.a)
    torch.testing.assert_close(by_a, 20 * (slope - 1) * a / slope)


def test_the_slope_penalty_is_taken_on_the_lines_between_real_and_generated_images() -> None:
    d = _Bowl(1.0)
    penalty = _look(Game(loss=LOSSES["wgan_gp"]), d, seed=9)
    u = torch.rand(6, 1, 1, 1, generator=torch.Generator().manual_seed(9))
    between = (u * _images(1) + (1 - u) * _images(2)).flatten(1)
    expected = 10 * (between.norm(dim=1) - 1).square().mean()
    assert (penalty.objective - penalty.loss).item() == pytest.approx(expected.item(), rel=1e-6)
    assert u.min() >= 0 and u.max() <= 1 and u.std() > 0.1


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if not loss.gradient_penalty])
def test_without_penalties_the_objective_is_the_loss(name: str) -> None:
    found = _look(Game(loss=LOSSES[name]), _Bowl(0.3))
    assert found.objective is found.loss
    assert torch.equal(found.loss, LOSSES[name].d_loss(found.real_logits, found.fake_logits))


def test_weights_are_clipped_after_each_update_of_d_and_only_where_asked() -> None:
    training = Training(tiny_task(loss="wgan"), constant(lr_d=0.05), 0)
    list(training.run(0.5))
    weights = torch.cat([p.flatten() for p in training.discriminator.parameters()])
    assert weights.abs().max().item() == pytest.approx(0.01)
    assert max(p.abs().max().item() for p in training.generator.parameters()) > 0.01
    free = Training(tiny_task(loss="wgan_gp"), constant(lr_d=0.05), 0)
    list(free.run(0.5))
    assert max(p.abs().max().item() for p in free.discriminator.parameters()) > 0.01


def test_r1_keeps_the_slope_of_d_small() -> None:
    slopes = []
    for r1 in (0.0, 20.0):
        training = Training(tiny_task(r1=r1, budget=200), constant(lr_g=1e-5, lr_d=2e-3), 0)
        list(training.run(0.95))
        x = (training.shared.dataset.x[:200].float() / 127.5 - 1).requires_grad_()
        (gradient,) = torch.autograd.grad(training.discriminator(x).sum(), x)
        slopes.append(gradient.flatten(1).norm(dim=1).mean().item())
    assert slopes[1] < slopes[0] / 3


def test_the_signals_are_about_the_game_and_not_its_penalties() -> None:
    """A penalty of a million would be an exploding loss if it were read as one."""
    records = trained(tiny_task(r1=1e6), constant(lr_g=1e-6, lr_d=1e-6))
    assert all(0 < record.loss_d < 3 for record in records)


def _net(value: float) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(value)
        net[1].running_mean.fill_(10 * value)  # type: ignore[union-attr, operator]
    return net


def test_the_average_follows_its_formula() -> None:
    average = WeightAverage(_net(1.0), memory=0.1, budget=1000)
    expected, before = 1.0, 0.0
    for k, iteration in enumerate([1.0, 2.5, 4.0, 5.0, 45.0, 345.0], start=1):
        value = math.sin(k)
        average.update(_net(value), iteration)
        a = max(1 - math.exp(-(iteration - before) / 100), 9 / (9 + k))
        expected, before = expected + a * (value - expected), iteration
        assert next(average.module.parameters()).flatten()[0].item() == pytest.approx(expected, rel=1e-6)
        assert average.module[1].running_mean[0].item() == pytest.approx(10 * value)  # type: ignore[index]


def test_the_memory_is_a_share_of_the_budget_whatever_the_ratio() -> None:
    """Half as many updates, twice as far apart, forget as much."""
    rest = []
    for step in (1.0, 2.0):
        average = WeightAverage(_net(0.0), memory=0.04, budget=10_000)
        for k in range(1, round(9000 / step) + 1):
            average.update(_net(1.0 if k * step <= 8000 else 0.0), k * step)
        rest.append(next(average.module.parameters()).flatten()[0].item())
    assert rest[0] == pytest.approx(math.exp(-1000 / 400), rel=0.01)
    assert rest[1] == pytest.approx(rest[0], rel=0.01)


def test_the_average_is_what_is_evaluated_and_training_is_left_alone() -> None:
    plain, averaged = (Training(tiny_task(budget=200, ema=ema), constant(), 0) for ema in (0.0, 0.5))
    records = [list(training.run()) for training in (plain, averaged)]
    assert [r.loss_g for r in records[0]] == [r.loss_g for r in records[1]]
    assert records[0][0].fid == records[1][0].fid
    assert records[0][-1].fid != records[1][-1].fid
    for a, b in zip(plain.generator.parameters(), averaged.generator.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(plain.sample(4), averaged.sample(4))


@pytest.mark.parametrize("loss", ["hinge", "wgan_gp"])
def test_what_d_sees_does_not_depend_on_how_often_g_is_updated(loss: str) -> None:
    task = tiny_task(loss=loss, augment="flip,crop", diff_augment="translation,cutout", budget=100)
    states = []
    for ratio in (0.5, 2.0):
        training = Training(task, constant(update_ratio=ratio), 0)
        while training.controller.d_updates < 12:
            training._update_d() if training.controller.turn == "d" else training._update_g()
        random = (training.batches, training.chances["augment"], training.chances["game_d"])
        states.append([generator.get_state() for generator in random])
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_equal_images_are_refused(tmp_path: Any) -> None:
    x = np.tile(np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8), (100, 1, 1, 1))
    np.savez(tmp_path / "same.npz", x=x)
    with pytest.raises(DataError, match="images must differ, but all 100 are the same"):
        Training(tiny_task(data=f"npz:{tmp_path}/same.npz"), constant(), 0)
