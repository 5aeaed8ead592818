"""Inception features: torch-fidelity's own numbers from a file in its format, and messages where there is none.

The network has random weights: the real ones are fetched by whoever wants published numbers.
"""

import sys
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from metaopt.errors import ArtifactError, ConfigError, MissingPackageError
from metaopt.metrics import find_features, inception
from metaopt.metrics.inception import InceptionFeatures


class _Blank(FeatureExtractorInceptionV3):  # type: ignore[misc]
    """Before its weights are loaded."""

    def load_state_dict(self, *_: object, **__: object) -> None:
        pass


def noise(n: int, channels: int, size: int) -> Tensor:
    return torch.randint(0, 256, (n, channels, size, size), generator=Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict with all names and shapes of the true one, and variances that survive 48 layers."""
    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "empty.pth")
    net = _Blank("blank", ["2048"], feature_extractor_weights_path=str(folder / "empty.pth"))
    random = Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=random)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=random).mul_(0.1)
            module.running_var.uniform_(0.8, 1.25, generator=random)
    torch.save(net.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


@pytest.fixture(scope="module")
def images() -> Tensor:
    return noise(3, 3, 32)


@pytest.fixture(scope="module")
def theirs(weights: Path, images: Tensor) -> tuple[Tensor, Tensor]:
    layers = ["2048", "logits_unbiased"]
    net = FeatureExtractorInceptionV3("inception", layers, feature_extractor_weights_path=str(weights))
    with torch.no_grad():
        found: tuple[Tensor, Tensor] = net(images)
    return found


def test_equals_torch_fidelity(weights: Path, images: Tensor, theirs: tuple[Tensor, Tensor]) -> None:
    extractor = find_features(f"inception:{weights}")
    features, logits = extractor.features_and_logits(images)
    assert logits is not None
    assert (features.shape, logits.shape) == ((3, 2048), (3, 1008))
    assert features.std(dim=0).max() > 1e-3
    assert torch.equal(features, theirs[0])
    assert torch.equal(logits, theirs[1])


def test_gray_is_three_equal_channels_in_any_batch(weights: Path) -> None:
    gray = noise(3, 1, 8)
    extractor = InceptionFeatures(str(weights))
    together = extractor(gray)
    alone = torch.cat([extractor(image[None].expand(-1, 3, -1, -1)) for image in gray])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_the_network_that_torch_fidelity_keeps_is_found(
    weights: Path, images: Tensor, theirs: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]).symlink_to(weights)
    extractor = find_features("inception")
    torch.testing.assert_close(extractor(images[:1]), theirs[0][:1], rtol=1e-4, atol=1e-4)
    assert extractor.version == InceptionFeatures(str(weights)).version


def test_without_the_network_it_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ArtifactError) as caught:
        find_features("inception")(noise(1, 3, 8))
    message = str(caught.value)
    assert URL_INCEPTION_V3 in message
    assert str(tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth") in message
    assert "`inception:FILE`" in message


def test_a_named_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"not_here\.pth must hold the weights .* but there is no such file"):
        _ = find_features(f"inception:{tmp_path / 'not_here.pth'}").version


def test_a_torn_file_is_refused(weights: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.pth"
    torn.write_bytes(weights.read_bytes()[:50_000])
    with pytest.raises(ArtifactError, match=r"torn\.pth must be a whole file of weights"):
        InceptionFeatures(str(torn))(noise(1, 3, 8))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(2)}, other)
    with pytest.raises(ArtifactError, match=r"other\.pth must hold the weights of torch-fidelity's InceptionV3"):
        InceptionFeatures(str(other))(noise(1, 3, 8))


class _Trap:
    """Unpickles by opening a file."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.file, "w")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    evil, written = tmp_path / "evil.pth", tmp_path / "written"
    torch.save({"fc.weight": _Trap(str(written))}, evil)
    with pytest.raises(ArtifactError, match=r"evil\.pth must be a whole file of weights and nothing else"):
        InceptionFeatures(str(evil))(noise(1, 3, 8))
    assert not written.exists()


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'metaopt\[inception\]'"):
        inception.weights_file("")


def test_wrong_images_are_refused(weights: Path) -> None:
    with pytest.raises(ConfigError, match=r"`images.dtype == torch.uint8` must hold"):
        InceptionFeatures(str(weights))(torch.zeros(1, 3, 8, 8))
