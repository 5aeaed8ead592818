"""The losses against their closed forms, torch's binary cross-entropy, and V* found by minimising."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from metaopt.gan import LOSSES

LOSS = LOSSES["non_saturating"]
EXTREME = torch.tensor([-300.0, -40.0, -1.5, 0.0, 0.3, 40.0, 300.0])
P = torch.tensor([0.05, 0.1, 0.15, 0.3, 0.4], dtype=torch.float64)
"""A density over five images."""


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def _expected(loss: str, logits: Tensor, density: Tensor) -> Tensor:
    """D's loss where real images come from P and generated ones from `density`, as a sum over images."""
    rows = [LOSSES[loss].d_loss(logits[i : i + 1], logits[j : j + 1]) for i in range(5) for j in range(5)]
    weights = torch.outer(P, density).flatten()
    return (torch.stack(rows) * weights).sum()


def _best(loss: str, density: Tensor) -> tuple[Tensor, float]:
    """Logits that minimise D's loss, and that loss, by Newton-like descent from a random start."""
    logits = torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = _expected(loss, logits, density)
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)  # type: ignore[arg-type]
    return logits.detach(), float(_expected(loss, logits.detach(), density))


@pytest.mark.parametrize("name", ["non_saturating", "minimax", "lsgan", "hinge"])
def test_v_star_is_the_least_loss_against_equal_densities(name: str) -> None:
    _, least = _best(name, P)
    assert least == pytest.approx(LOSSES[name].ideal_d_loss, rel=1e-6)


@pytest.mark.parametrize("name", ["wgan", "wgan_gp"])
def test_v_star_of_wasserstein_losses_is_that_of_every_discriminator(name: str) -> None:
    for seed in range(5):
        logits = torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert float(_expected(name, logits, P)) == pytest.approx(LOSSES[name].ideal_d_loss, abs=1e-12)


@pytest.mark.parametrize("name", ["non_saturating", "minimax"])
def test_the_best_discriminator_of_unequal_densities_is_the_log_ratio(name: str) -> None:
    q = P.flip(0)
    logits, least = _best(name, q)
    torch.testing.assert_close(logits, (P / q).log(), atol=1e-4, rtol=0)
    m = (P + q) / 2
    jsd = float(((P * (P / m).log()).sum() + (q * (q / m).log()).sum()) / 2)
    assert least == pytest.approx(math.log(4) - 2 * jsd, rel=1e-6)


def test_the_best_least_squares_discriminator_is_the_share_of_real_images() -> None:
    q = P.flip(0)
    logits, least = _best("lsgan", q)
    torch.testing.assert_close(logits, P / (P + q) - 0.5, atol=1e-4, rtol=0)
    assert least < LOSSES["lsgan"].ideal_d_loss


@pytest.mark.parametrize("name", LOSSES)
def test_both_losses_of_an_undecided_discriminator(name: str) -> None:
    logits = torch.zeros(7, dtype=torch.float64)
    assert float(LOSSES[name].d_loss(logits, logits)) == pytest.approx(LOSSES[name].ideal_d_loss, abs=1e-15)
    assert float(LOSSES[name].g_loss(logits)) == pytest.approx(LOSSES[name].ideal_g_loss, abs=1e-15)


def test_values_and_gradients_equal_cross_entropy() -> None:
    real = EXTREME.double().requires_grad_()
    fake = EXTREME.flip(0).double().requires_grad_()
    expected = _cross_entropy(real, 1.0) + _cross_entropy(fake, 0.0)
    loss = LOSS.d_loss(real, fake)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    got, want = (torch.autograd.grad(value, (real, fake)) for value in (loss, expected))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("name", "target", "sign"), [("non_saturating", 1.0, 1.0), ("minimax", 0.0, -1.0)])
def test_generator_loss_equals_cross_entropy(name: str, target: float, sign: float) -> None:
    fake = EXTREME.double().requires_grad_()
    loss, expected = LOSSES[name].g_loss(fake), sign * _cross_entropy(fake, target)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    (got,), (want,) = (torch.autograd.grad(value, fake) for value in (loss, expected))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("name", "gradient"), [("non_saturating", -0.25), ("minimax", 0.0), ("hinge", -0.25)])
def test_what_a_rejected_generator_has_to_follow(name: str, gradient: float) -> None:
    fake = torch.full((4,), -50.0, requires_grad=True)
    LOSSES[name].g_loss(fake).backward()
    torch.testing.assert_close(fake.grad, torch.full((4,), gradient))


def test_hinge_leaves_what_is_beyond_the_margin() -> None:
    real = torch.tensor([2.0, 0.5], requires_grad=True)
    fake = torch.tensor([-3.0, 0.5], requires_grad=True)
    loss = LOSSES["hinge"].d_loss(real, fake)
    loss.backward()
    assert loss.item() == pytest.approx(0.25 + 0.75)
    assert real.grad is not None and real.grad.tolist() == [0.0, -0.5]
    assert fake.grad is not None and fake.grad.tolist() == [0.0, 0.5]


def test_names_are_their_keys() -> None:
    assert all(loss.name == name for name, loss in LOSSES.items())
