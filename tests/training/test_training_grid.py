"""Samples as a picture, and records as plain values."""

import json
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import constant, tiny_task, trained
from torch import Tensor

from metaopt.training import Outcome, Record
from metaopt.training.grid import grid_png


def _images(n: int, channels: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("size", "factor"), [(8, 4), (12, 3), (28, 2), (31, 2), (32, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_in_its_place(size: int, factor: int, channels: int) -> None:
    images, columns = _images(7, channels, size), 3
    png = grid_png(images, columns)
    pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB"))
    side, gap = size * factor, 2
    assert pixels.shape == (3 * (side + gap) + gap, 3 * (side + gap) + gap, 3)
    covered = np.zeros(pixels.shape[:2], dtype=bool)
    for k, image in enumerate(images.numpy()):
        top, left = ((k // columns) * (side + gap) + gap, (k % columns) * (side + gap) + gap)
        shown = pixels[top : top + side, left : left + side]
        large = image.repeat(factor, axis=1).repeat(factor, axis=2).transpose(1, 2, 0)
        assert (shown == np.broadcast_to(large, shown.shape)).all(), k
        covered[top : top + side, left : left + side] = True
    assert (pixels[~covered] == 255).all()  # gaps and the places of no image are white


def test_one_image() -> None:
    image = _images(1, 3, 8)
    pixels = np.asarray(Image.open(BytesIO(grid_png(image))))
    assert (pixels[::4, ::4] == image[0].permute(1, 2, 0).numpy()).all()


def test_a_grid_is_a_function_of_its_images() -> None:
    assert grid_png(_images(9, 1, 8)) == grid_png(_images(9, 1, 8))
    assert grid_png(_images(9, 1, 8)) != grid_png(_images(10, 1, 8)[:9])


@pytest.mark.parametrize("lr", [1e-3, 10.0])
def test_records_are_plain_values_and_survive_json(lr: float) -> None:
    for record in trained(tiny_task(budget=20, evaluations=1), constant(lr, lr)):
        plain = record.as_dict()
        assert {type(value) for value in plain.values()} <= {int, float, str, type(None)}
        back = json.loads(json.dumps(plain))
        assert list(back) == list(plain)
        ended = back.pop("outcome")
        assert Record(**back, outcome=ended and Outcome(ended)) == record


def test_records_are_equal_whatever_the_time_they_took() -> None:
    first, *_ = trained(tiny_task(budget=1, evaluations=1), constant())
    again, *_ = trained(tiny_task(budget=1, evaluations=1), constant())
    assert first.wall_s != again.wall_s
    assert first == again
