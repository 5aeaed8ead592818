"""Samples as a picture."""

from io import BytesIO

from PIL import Image
from torch import Tensor

_LEAST_PIXELS = 32
_GAP_PIXELS = 2


def grid_png(images: Tensor, columns: int = 8) -> bytes:
    """A PNG of uint8 images (N, C, H, W) in rows of `columns`, small ones enlarged by a whole factor."""
    from torchvision.utils import make_grid  # takes more than a second, and the driver of a search has no use for it

    factor = max(1, -(-_LEAST_PIXELS // images.shape[-1]))
    large = images.cpu().repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)
    grid: Tensor = make_grid(large, nrow=columns, padding=_GAP_PIXELS, pad_value=255)
    file = BytesIO()
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.getvalue()
