"""The small feature network: what a Frechet distance looks at where Inception would be slow and too large.

Stride-2 convolutions on 32 x 32 pixels, 2.3 million multiply-adds an image: 1,000 images take about a tenth
of a second on one core, so that it can run inside trainings of two seconds. ``train_small.py`` trains it.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from metaopt.errors import ArtifactError, ConfigError

FEATURE_DIM = 64
"""Numbers per image in the feature layer."""
INPUT_SIZE = 32
"""Height and width in pixels that the network sees; other sizes are resized to it."""
MIN_SIZE, MAX_SIZE = 4, 64
"""Smallest and largest height or width in pixels that is accepted."""
WEIGHTS_FILE = Path(__file__).parent / "weights" / "small.safetensors"
"""The weights that the package ships."""


class SmallNet(nn.Module):
    """Four convolutions with ReLU and one linear layer; float32 ``(n, 3, 32, 32)`` in [-1, 1] -> ``(n, 64)``.

    The output is linear (no ReLU), since a Frechet distance compares Gaussians. Batch normalisation is folded
    into the weights after training, so that train and eval mode are the same function.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, kernel_size=4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(32, 64, kernel_size=3, stride=1, padding=1)
        self.conv4 = nn.Conv2d(64, 64, kernel_size=3, stride=2, padding=1)
        self.embed = nn.Linear(64 * 4 * 4, FEATURE_DIM)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(n, 64)`` of inputs ``(n, 3, 32, 32)``."""
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.relu(conv(x))
        features: Tensor = self.embed(x.flatten(1))
        return features


def check_images(images: Tensor) -> None:
    """Raise ConfigError unless ``images`` is uint8 ``(n, c, h, w)`` with c in {1, 3} and 4 <= h, w <= 64."""
    if images.dtype != torch.uint8:
        raise ConfigError(f"`images.dtype == torch.uint8` must hold, but got {images.dtype}.")
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] not in (1, 3):
        raise ConfigError(f"`images.shape == (n, c, h, w), c in {{1, 3}}` must hold, but got shape {shape}.")
    if not all(MIN_SIZE <= side <= MAX_SIZE for side in shape[2:]):
        raise ConfigError(f"`{MIN_SIZE} <= h, w <= {MAX_SIZE}` must hold, but got shape {shape}.")


def network_input(images: Tensor) -> Tensor:
    """uint8 ``(n, c, h, w)`` -> float32 ``(n, 3, 32, 32)`` in [-1, 1]: bilinear, antialiased."""
    x = images.float()
    if x.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
        size = (INPUT_SIZE, INPUT_SIZE)
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
    x = (x / 127.5 - 1).expand(-1, 3, -1, -1)
    return x.contiguous(memory_format=torch.channels_last)


def content_version(state: Mapping[str, Tensor]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of names, shapes and values, not of the file's header."""
    digest = sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def load_weights(file: Path = WEIGHTS_FILE) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU. Raises ArtifactError if it is missing or damaged."""
    try:
        return load_safetensors(file.read_bytes())
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{file} must be a readable safetensors file, but: {error}") from error


def load_small_net(device: torch.device, file: Path = WEIGHTS_FILE) -> SmallNet:
    """The network with the weights of ``file``, frozen, on ``device``; ArtifactError if they do not fit."""
    net = SmallNet()
    try:
        net.load_state_dict(load_weights(file))
    except RuntimeError as error:
        raise ArtifactError(f"{file} must hold the weights of SmallNet, but: {error}") from error
    # channels_last is a third faster on CPUs at these widths.
    return net.requires_grad_(False).eval().to(device).to(memory_format=torch.channels_last)
