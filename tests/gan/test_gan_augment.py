"""Augmentation of real images: what may come out, how often, and nothing else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from metaopt.errors import ConfigError
from metaopt.gan import AUGMENTATIONS, augment
from metaopt.gan.augment import check_augment


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(n: int, channels: int = 3, size: int = 12) -> Tensor:
    return torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8, generator=_generator(9))


def test_flip_mirrors_half_of_the_images() -> None:
    x = _images(1).expand(4000, -1, -1, -1)
    out = augment(x, "flip", _generator())
    mirrored = (out == x.flip(-1)).flatten(1).all(1)
    assert torch.equal(out[~mirrored], x[~mirrored])
    assert int(mirrored.sum()) == pytest.approx(2000, abs=130)  # 4 standard deviations


def test_crop_gives_every_window_of_the_mirrored_image_about_equally_often() -> None:
    x = _images(1)
    out = augment(x.expand(8100, -1, -1, -1), "crop", _generator())
    padded = F.pad(x.float(), (4, 4, 4, 4), mode="reflect").to(torch.uint8)[0]
    windows = {padded[:, top : top + 12, left : left + 12].numpy().tobytes() for top in range(9) for left in range(9)}
    counts = dict.fromkeys(windows, 0)
    for image in out:
        counts[image.numpy().tobytes()] += 1  # a KeyError is another window
    assert min(counts.values()) > 50 and max(counts.values()) < 150  # 100 +- 5 standard deviations


@settings(max_examples=40, deadline=None)
@given(
    policy=st.sampled_from(["flip", "crop", "flip,crop", "crop, flip", ""]),
    shape=st.tuples(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(8, 64)),
    dtype=st.sampled_from([torch.uint8, torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_shape_type_and_source_are_kept(
    policy: str, shape: tuple[int, int, int], dtype: torch.dtype, seed: int
) -> None:
    x = _images(*shape).to(dtype)
    before = x.clone()
    out = augment(x, policy, _generator(seed))
    assert (out.shape, out.dtype, out.is_contiguous()) == (x.shape, dtype, True)
    assert torch.equal(x, before)
    assert torch.equal(out, augment(x, policy, _generator(seed)))
    assert torch.isin(out, x).all()


def test_each_image_has_its_own_draw_and_the_global_state_is_left() -> None:
    state = torch.random.get_rng_state()
    out = augment(_images(1).expand(50, -1, -1, -1), "flip,crop", _generator())
    assert torch.equal(state, torch.random.get_rng_state())
    assert len(out.unique(dim=0)) > 30


def test_several_are_applied_in_order() -> None:
    x, generator = _images(6), _generator(3)
    by_hand = AUGMENTATIONS["flip"](AUGMENTATIONS["crop"](x, generator), generator)
    assert torch.equal(augment(x, "crop,flip", _generator(3)), by_hand)


def test_no_policy_is_the_very_same_images() -> None:
    x = _images(2)
    assert augment(x, "", _generator()) is x


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("flop", r"no augmentation 'flop'; did you mean 'flip'\? Known: flip, crop"),
        ("flip,", "no augmentation ''"),
        ("flip,flip", "each augmentation must come once, but got 'flip,flip'"),
        (None, "augmentations must be a string such as 'flip,crop', but got None"),
    ],
)
def test_wrong_policies_are_refused(policy: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_augment(policy)


def test_right_policies_are_read() -> None:
    assert check_augment(" flip , crop ") == ("flip", "crop")
    assert check_augment(" ") == ()
