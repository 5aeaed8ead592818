"""Differentiable augmentation: what each does to images, and to gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.gan import DIFF_AUGMENTATIONS, diff_augment
from metaopt.gan.diff_augment import check_diff_augment, color, cutout, translation

ALL = "color,translation,cutout"


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(n: int, channels: int = 3, size: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(n, channels, size, size, generator=_generator(1), dtype=dtype) * 2 - 1


@pytest.mark.parametrize("policy", [*DIFF_AUGMENTATIONS, ALL])
def test_gradients_are_those_of_finite_differences(policy: str) -> None:
    x = _images(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda images: diff_augment(images, policy, _generator(4)), x)
    assert torch.autograd.gradgradcheck(lambda images: diff_augment(images, policy, _generator(4)).pow(2), x)


@settings(max_examples=40, deadline=None)
@given(
    policy=st.sampled_from([*DIFF_AUGMENTATIONS, ALL, "cutout,color"]),
    shape=st.tuples(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(8, 64)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_shape_type_and_source_are_kept(
    policy: str, shape: tuple[int, int, int], dtype: torch.dtype, seed: int
) -> None:
    x = _images(*shape, dtype)
    before = x.clone()
    out = diff_augment(x, policy, _generator(seed))
    assert (out.shape, out.dtype, out.is_contiguous()) == (x.shape, dtype, True)
    assert torch.equal(x, before)
    assert torch.equal(out, diff_augment(x, policy, _generator(seed)))


def _moved(image: Tensor, down: int, right: int) -> Tensor:
    """One image (c, h, w) moved, pixel by pixel."""
    out = torch.zeros_like(image)
    height, width = image.shape[1:]
    for row in range(height):
        for column in range(width):
            if 0 <= row + down < height and 0 <= column + right < width:
                out[:, row + down, column + right] = image[:, row, column]
    return out


@pytest.mark.parametrize(("size", "most"), [(8, 1), (12, 2), (16, 2)])
def test_translation_moves_by_up_to_an_eighth_and_brings_in_zeros(size: int, most: int) -> None:
    image = _images(1, 3, size)
    out = translation(image.expand(1500, -1, -1, -1), _generator())
    shifts = range(-most, most + 1)
    possible = torch.stack([_moved(image[0], down, right) for down in shifts for right in shifts])
    which = (out[:, None] == possible[None]).flatten(2).all(2)
    assert (which.sum(1) == 1).all()
    expected = 1500 / len(possible)
    assert (which.sum(0) - expected).abs().max() < 5 * expected**0.5


@settings(max_examples=60, deadline=None)
@given(size=st.integers(8, 40), seed=st.integers(0, 10_000))
def test_cutout_zeroes_exactly_a_box_of_half_the_sides_cut_at_the_borders(size: int, seed: int) -> None:
    x = torch.ones(3, 2, size, size + 3)
    out = cutout(x, _generator(seed))
    for image in out:
        assert torch.equal(image[0], image[1])
        zero = image[0] == 0
        rows, columns = zero.any(1).nonzero()[:, 0], zero.any(0).nonzero()[:, 0]
        assert torch.equal(zero, zero.any(1)[:, None] & zero.any(0)[None])
        for found, length in ((rows, size), (columns, size + 3)):
            box = (length + 1) // 2
            assert found[-1] - found[0] + 1 == len(found)
            at_border = found[0] == 0 or found[-1] == length - 1
            assert len(found) == box or (at_border and box // 2 <= len(found) < box)
        assert (image[:, ~zero] == 1).all()


def test_cutout_reaches_every_pixel() -> None:
    out = cutout(torch.ones(2000, 1, 9, 9), _generator())
    assert (out == 0).double().mean((0, 1)).min() > 0.05


def test_color_is_an_affine_change_of_the_image_within_its_ranges() -> None:
    x = _images(500)
    out = color(x, _generator())
    shift = out.mean((1, 2, 3)) - x.mean((1, 2, 3))  # brightness alone moves the mean
    assert shift.min() >= -0.5 and shift.max() < 0.5 and shift.std() == pytest.approx(12**-0.5, rel=0.1)
    gray = out.mean(1) - out.mean((1, 2, 3))[:, None, None]  # contrast alone scales the deviation of the gray image
    contrast = gray.std((1, 2)) / (x.mean(1)).std((1, 2))
    assert contrast.min() >= 0.5 and contrast.max() < 1.5 and contrast.std() == pytest.approx(12**-0.5, rel=0.1)
    saturation = (
        (out - out.mean(1, keepdim=True)).std((1, 2, 3)) / (x - x.mean(1, keepdim=True)).std((1, 2, 3)) / contrast
    )
    assert saturation.min() >= 0 and saturation.max() < 2 and saturation.std() == pytest.approx(2 * 12**-0.5, rel=0.1)


def test_saturation_leaves_gray_images_gray() -> None:
    gray = _images(20, 1).expand(-1, 3, -1, -1)
    out = color(gray, _generator())
    assert (out - out[:, :1]).abs().max() < 1e-12
    alone = color(gray[:, :1], _generator())
    assert torch.allclose(out[:, :1], alone, atol=1e-12)


def test_several_are_applied_in_order() -> None:
    x, generator = _images(4), _generator(7)
    by_hand = cutout(translation(color(x, generator), generator), generator)
    assert torch.equal(diff_augment(x, ALL, _generator(7)), by_hand)
    assert diff_augment(x, "", _generator()) is x


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("colour", r"no differentiable augmentation 'colour'; did you mean 'color'\?"),
        ("flip", "Known: color, translation, cutout"),
        ("cutout,cutout", "each differentiable augmentation must come once"),
    ],
)
def test_wrong_policies_are_refused(policy: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_diff_augment(policy)
