"""Conversions, resizing and the content hash."""

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.gan import to_uint8, to_unit
from metaopt.gan.images import check_size, content_hash, resized

ALL_BYTES = torch.arange(256, dtype=torch.uint8)


def test_bytes_survive_the_round_trip() -> None:
    unit = to_unit(ALL_BYTES)
    assert unit.dtype == torch.float32
    assert (unit[0], unit[-1]) == (-1.0, 1.0)
    assert torch.equal(to_uint8(unit), ALL_BYTES)


def test_to_uint8_cuts_what_lies_outside() -> None:
    assert to_uint8(torch.tensor([-7.0, -1.0001, 1.0001, 9.0])).tolist() == [0, 0, 255, 255]


def test_conversions_leave_their_input_alone() -> None:
    images = torch.tensor([0.0, 128.0, 255.0])
    to_unit(images)
    to_uint8(images)
    assert images.tolist() == [0.0, 128.0, 255.0]


@given(
    value=st.integers(0, 255),
    old=st.integers(1, 90),
    new=st.integers(8, 64),
    channels=st.sampled_from([1, 3]),
)
@settings(max_examples=60, deadline=None)
def test_constant_images_stay_constant(value: int, old: int, new: int, channels: int) -> None:
    x = resized(torch.full((2, channels, old, old), value, dtype=torch.uint8), new)
    assert x.shape == (2, channels, new, new)
    assert torch.equal(x, torch.full_like(x, value))


def test_no_pixel_is_left_out_when_images_shrink() -> None:
    """At a quarter of the size, without antialias only columns 1 and 2 of each 4 count: the black ones."""
    stripes = torch.tensor([200, 0, 0, 200], dtype=torch.uint8).repeat(8).expand(1, 1, 32, 32)
    inner = resized(stripes, 8)[..., 1:-1]
    assert torch.equal(inner, torch.full_like(inner, 100))


def test_resizing_many_images_equals_resizing_each() -> None:
    x = torch.randint(0, 256, (1030, 1, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    together = resized(x, 8)
    for index in (0, 1023, 1024, 1029):
        assert torch.equal(together[index : index + 1], resized(x[index : index + 1], 8))


def test_hash_is_that_of_shape_dtype_and_bytes() -> None:
    x = torch.arange(2 * 1 * 8 * 8).to(torch.uint8).reshape(2, 1, 8, 8)
    expected = hashlib.sha256(b"(2, 1, 8, 8) uint8 " + bytes(x.flatten().tolist())).hexdigest()
    assert content_hash(x) == expected
    assert content_hash(x.clone()) == expected
    assert content_hash(x.to(memory_format=torch.channels_last)) == expected
    assert content_hash(x.transpose(2, 3).contiguous().transpose(2, 3)) == expected


def _changed_pixel(x: Tensor) -> Tensor:
    x = x.clone()
    x[1, 0, 3, 4] ^= 1
    return x


@pytest.mark.parametrize(
    "change",
    [
        _changed_pixel,
        lambda x: x.flip(0),
        lambda x: x[:1],
        lambda x: x.reshape(1, 2, 8, 8),
        lambda x: x.int(),
    ],
    ids=["pixel", "order", "number", "shape", "dtype"],
)
def test_hash_tells_every_change(change) -> None:  # type: ignore[no-untyped-def]
    x = torch.arange(2 * 1 * 8 * 8).to(torch.uint8).reshape(2, 1, 8, 8)
    assert content_hash(change(x)) != content_hash(x)


@pytest.mark.parametrize("size", [7, 65, 0, -8, 8.0, True, "16"])
def test_sizes_outside_are_refused(size: object) -> None:
    with pytest.raises(ConfigError, match=r"`size` must be a whole number from 8 to 64 pixels, but got"):
        check_size(size)  # type: ignore[arg-type]
