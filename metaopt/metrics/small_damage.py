"""What goes wrong in generated images, done to good ones: the small feature network learns to tell it."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

DAMAGES = ("none", "noise", "blur", "patch", "blend", "shuffle", "checker", "fade")


def damaged(images: Tensor, gray: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images after damage, its kinds and strengths: half stay whole, the rest share the kinds equally.

    Args:
        images: float32 ``(n, 3, 32, 32)`` in [0, 1].
        gray: bool ``(n, 1, 1, 1)``: images whose noise is gray as well.
        generator: of the kinds, the strengths and the damage.

    Returns:
        images, shaped as before; kinds ``(n,)`` into DAMAGES; strengths ``(n,)`` in [0, 1], 0 where whole.
    """
    n = len(images)
    kinds = torch.randint(1, len(DAMAGES), (n,), generator=generator)
    kinds = torch.where(torch.rand(n, generator=generator) < 0.5, torch.zeros_like(kinds), kinds)
    strengths = torch.where(kinds == 0, torch.zeros(()), 0.05 + 0.95 * torch.rand(n, generator=generator))
    s = strengths.view(n, 1, 1, 1)
    noise = torch.randn(images.shape, generator=generator)
    noise = torch.where(gray, noise[:, :1], noise)
    results = {
        "none": images,
        "noise": images + 0.5 * s * noise,
        "blur": _blurred(images, strengths),
        "patch": _patched(images, strengths, generator),
        "blend": torch.lerp(images, images.roll(1, 0), 0.5 * s),
        "shuffle": _shuffled(images, strengths, generator),
        "checker": images + 0.3 * s * _checkerboard(),
        "fade": torch.lerp(images, images.mean((2, 3), keepdim=True), 0.8 * s),
    }
    stacked = torch.stack([results[name] for name in DAMAGES])
    return stacked[kinds, torch.arange(n)].clamp(0, 1), kinds, strengths


def _blurred(images: Tensor, strengths: Tensor) -> Tensor:
    """Gaussian blur of standard deviation 0.3 to 2.5 pixels, one kernel an image."""
    n, _, height, width = images.shape
    offsets = torch.arange(-5, 6)
    kernel = torch.exp(-0.5 * (offsets / (0.3 + 2.2 * strengths[:, None])) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, dim=0)
    x = F.pad(images, (5, 5, 5, 5), mode="replicate").view(1, n * 3, height + 10, width + 10)
    x = F.conv2d(x, kernel.view(n * 3, 1, 1, 11), groups=n * 3)
    return F.conv2d(x, kernel.view(n * 3, 1, 11, 1), groups=n * 3).view_as(images)


def _patched(images: Tensor, strengths: Tensor, generator: Generator) -> Tensor:
    """A square of 2 to 20 pixels a side is missing: black, or the mean colour."""
    n = len(images)
    side = (2 + 18 * strengths).view(n, 1)
    inside = []
    for _ in range(2):
        start = torch.rand(n, 1, generator=generator) * (32 - side)
        pixel = torch.arange(32)
        inside.append((pixel >= start) & (pixel < start + side))
    mask = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    black = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    fill = torch.where(black, torch.zeros(()), images.mean((2, 3), keepdim=True))
    return torch.where(mask, fill, images)


def _shuffled(images: Tensor, strengths: Tensor, generator: Generator) -> Tensor:
    """A share of the 64 blocks of 4 x 4 pixels comes from elsewhere in the image."""
    n = len(images)
    blocks = F.unfold(images, kernel_size=4, stride=4)
    source = torch.randint(64, (n, 1, 64), generator=generator).expand_as(blocks)
    swapped = torch.rand(n, 1, 64, generator=generator) < strengths.view(n, 1, 1)
    return F.fold(torch.where(swapped, blocks.gather(2, source), blocks), (32, 32), kernel_size=4, stride=4)


def _checkerboard() -> Tensor:
    """+1 and -1 in turn: the trace of transposed convolutions."""
    pixel = torch.arange(32)
    return ((pixel[:, None] + pixel[None, :]) % 2 * 2 - 1).float()
