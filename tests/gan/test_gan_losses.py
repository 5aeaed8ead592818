"""The losses against their closed forms and against torch's binary cross-entropy."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from metaopt.gan import LOSSES

LOSS = LOSSES["non_saturating"]
EXTREME = torch.tensor([-300.0, -40.0, -1.5, 0.0, 0.3, 40.0, 300.0])


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def test_an_undecided_discriminator_has_the_ideal_losses() -> None:
    undecided = torch.zeros(7, dtype=torch.float64)
    assert LOSS.d_loss(undecided, undecided).item() == pytest.approx(math.log(4), abs=1e-15)
    assert LOSS.g_loss(undecided).item() == pytest.approx(math.log(2), abs=1e-15)
    assert (LOSS.ideal_d_loss, LOSS.ideal_g_loss) == (math.log(4), math.log(2))


def test_values_and_gradients_equal_cross_entropy() -> None:
    real = EXTREME.double().requires_grad_()
    fake = EXTREME.flip(0).double().requires_grad_()
    expected = _cross_entropy(real, 1.0) + _cross_entropy(fake, 0.0)
    loss = LOSS.d_loss(real, fake)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    got, want = (torch.autograd.grad(value, (real, fake)) for value in (loss, expected))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-15)


def test_generator_loss_equals_cross_entropy_towards_real() -> None:
    fake = EXTREME.double().requires_grad_()
    loss, expected = LOSS.g_loss(fake), _cross_entropy(fake, 1.0)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    (got,), (want,) = (torch.autograd.grad(value, fake) for value in (loss, expected))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-15)


def test_a_rejected_generator_keeps_its_gradient() -> None:
    fake = torch.full((4,), -50.0, requires_grad=True)
    LOSS.g_loss(fake).backward()
    torch.testing.assert_close(fake.grad, torch.full((4,), -0.25))


def test_v_star_is_the_best_loss_against_equal_densities() -> None:
    """With q = p the loss of any discriminator is at least log 4: the mean of softplus(-D) + softplus(D)."""
    logits = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    same_images = LOSS.d_loss(logits, logits).item()
    assert same_images > LOSS.ideal_d_loss
    assert LOSS.d_loss(logits * 1e-4, logits * 1e-4).item() == pytest.approx(LOSS.ideal_d_loss, abs=1e-7)


def test_names_are_their_keys() -> None:
    assert all(loss.name == name for name, loss in LOSSES.items())
