"""Bad data on purpose: noise, missing pixels, patches and images, wrong labels, images from elsewhere."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metaopt.errors import ConfigError, DataError
from metaopt.gan.datasets import Dataset, check_spec, load_dataset
from metaopt.gan.images import CHUNK, check_differ, content_hash, to_uint8, to_unit, with_channels
from metaopt.gan.random_streams import generator_for

GRAY = 128
"""What a missing pixel is: the byte of 0 in [-1, 1]."""
PATCHES_A_SIDE = 4
_SEEDS = 2**31


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """What is wrong with a data set. Checked at birth: ConfigError names the rule and the value that breaks it."""

    noise: float = 0.0
    """Standard deviation of Gaussian noise on every pixel and channel, in [0, 2]; images lie in [-1, 1]."""
    missing_pixels: float = 0.0
    """Share of each image's pixels that are mid-gray in all channels, in [0, 1)."""
    missing_patches: float = 0.0
    """Share of each image that is mid-gray in whole cells of a 4 x 4 grid, in [0, 1)."""
    n_kept: int | None = None
    """Images that are there, >= 1; None: all."""
    label_noise: float = 0.0
    """Share of the labels that name another class of the set, in [0, 1]."""
    foreign: float = 0.0
    """Share of the images that come from `foreign_data`, in [0, 1]; they keep the label of the image they replace."""
    foreign_data: str = ""
    """Spec of the other data set; see `load_dataset`."""
    seed: int = 0
    """Which pixels, images and labels are hit, in [0, 2^31)."""

    def __post_init__(self) -> None:
        _check_in("noise", self.noise, 2.0)
        for field in ("missing_pixels", "missing_patches"):
            _check_in(field, getattr(self, field), 1.0, below=True)
        for field in ("label_noise", "foreign"):
            _check_in(field, getattr(self, field), 1.0)
        if self.n_kept is not None:
            _check_whole("n_kept", self.n_kept, 1, None)
        _check_whole("seed", self.seed, 0, _SEEDS)
        if not isinstance(self.foreign_data, str):
            raise ConfigError(f"`foreign_data` must be a string, but got {self.foreign_data!r}.")
        if self.foreign > 0 and not self.foreign_data:
            raise ConfigError(f"`foreign_data` must name a data set where foreign > 0, but got foreign={self.foreign}.")
        if self.foreign_data:
            check_spec(self.foreign_data)

    @property
    def off(self) -> bool:
        """Whether nothing is wrong."""
        shares = (self.noise, self.missing_pixels, self.missing_patches, self.label_noise, self.foreign)
        return self.n_kept is None and not any(shares)


def _check_in(field: str, value: object, most: float, *, below: bool = False) -> None:
    fits = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value <= most
        and not (below and value == most)
    )
    if not fits:
        rule = f"0 <= {field} {'<' if below else '<='} {most:g}"
        raise ConfigError(f"`{rule}` must hold, but got {field}={value!r}.")


def _check_whole(field: str, value: object, least: int, end: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"`{field}` must be a whole number, but got {value!r}.")
    if value < least or (end is not None and value >= end):
        rule = f"{field} >= {least}" if end is None else f"{least} <= {field} < {end}"
        raise ConfigError(f"`{rule}` must hold, but got {field}={value}.")


def corrupted(dataset: Dataset, corruption: Corruption) -> Dataset:
    """The same data set with something wrong, once and for all: a function of `dataset` and `corruption`.

    In this order: images go missing, others are replaced by foreign ones, labels change, noise is added and
    rounded to bytes, pixels go missing, patches go missing. Counts are exact: ``round(share n)`` images and labels,
    and pixels and patches so that their share of the whole set is right to rounding, and that of each image to
    one pixel or patch. Of two corruptions that differ in one strength alone, the stronger one hits all that the
    weaker one hits, and noise has the same shape.

    Nothing wrong gives `dataset` itself. Else, the result is in memory, where `dataset` is; a memory map is read.
    Images and classes that have changed make another identity.

    Raises:
        DataError: more images to keep than there are; wrong labels where there are fewer than two classes.
    """
    if corruption.off:
        return dataset
    x, y = _kept(dataset, corruption)
    if corruption.foreign:
        x = _with_foreign(x, dataset, corruption)
    if corruption.label_noise:
        y = _with_wrong_labels(y, dataset, corruption)
    x = _damaged(x, corruption)
    check_differ(x, f"{dataset.name}, corrupted")
    result = replace(dataset, x=x, y=y, y_on_device=None, mapped=False, content_hash=content_hash(x))
    return result.to(dataset.x.device)


def _generator(corruption: Corruption, purpose: str) -> torch.Generator:
    return generator_for(f"{corruption.seed} {purpose}")


def _kept(dataset: Dataset, corruption: Corruption) -> tuple[Tensor, Tensor | None]:
    if corruption.n_kept is None:
        return dataset.x.cpu(), dataset.y
    if corruption.n_kept > len(dataset):
        raise DataError(
            f"{dataset.name}: `n_kept` must be at most the number of images, {len(dataset)},"
            f" but is {corruption.n_kept}."
        )
    order = torch.randperm(len(dataset), generator=_generator(corruption, "n_kept"))
    index = order[: corruption.n_kept].sort().values
    return dataset.x[index.to(dataset.x.device)].cpu(), None if dataset.y is None else dataset.y[index]


def _with_foreign(x: Tensor, dataset: Dataset, corruption: Corruption) -> Tensor:
    other = load_dataset(corruption.foreign_data, size=dataset.size)
    generator = _generator(corruption, "foreign")
    hit = torch.randperm(len(x), generator=generator)[: round(corruption.foreign * len(x))]
    drawn = torch.randperm(len(other), generator=generator)[torch.arange(len(hit)) % len(other)]
    x = x.clone()
    x[hit] = with_channels(other.x[drawn], dataset.channels)
    return x


def _with_wrong_labels(y: Tensor | None, dataset: Dataset, corruption: Corruption) -> Tensor:
    classes = torch.empty(0) if dataset.y is None else dataset.y.unique()
    if y is None or len(classes) < 2:
        raise DataError(
            f"{dataset.name}: labels can be wrong where there are two classes or more, but there are {len(classes)}."
        )
    generator = _generator(corruption, "label_noise")
    hit = torch.randperm(len(y), generator=generator)[: round(corruption.label_noise * len(y))]
    step = torch.randint(1, len(classes), (len(y),), generator=generator)[hit]
    position = torch.searchsorted(classes, y[hit])
    y = y.clone()
    y[hit] = classes[(position + step) % len(classes)]
    return y


def _damaged(x: Tensor, corruption: Corruption) -> Tensor:
    """Noise and missing parts, a chunk of images at a time."""
    names = ("noise", "missing_pixels", "missing_patches")
    generators = {name: _generator(corruption, name) for name in names if getattr(corruption, name)}
    if not generators:
        return x
    place = torch.randperm(len(x), generator=_generator(corruption, "rounding"))
    result = torch.empty_like(x)
    chunks = zip(*(torch.split(tensor, CHUNK) for tensor in (x, result, place)), strict=True)
    for before, after, places in chunks:
        images = before
        if "noise" in generators:
            unit = to_unit(images)
            unit += corruption.noise * torch.randn(unit.shape, generator=generators["noise"])
            images = to_uint8(unit)
        round_up = (places + 0.5) / len(x)
        for name in [name for name in names[1:] if name in generators]:
            cells = images.shape[-1] if name == "missing_pixels" else PATCHES_A_SIDE
            lost = _lost(getattr(corruption, name), round_up, cells, generators[name])
            images = images.masked_fill(_as_pixels(lost, images.shape[-1]).unsqueeze(1), GRAY)
        after.copy_(images)
    return result


def _lost(share: float, round_up: Tensor, cells: int, generator: torch.Generator) -> Tensor:
    """Which parts of each image are lost, bool (n, cells, cells): ``floor(share cells^2 + u)`` of them.

    `round_up` is u, (n,), spread evenly over (0, 1), so that the share of all images together is exact.
    """
    n_lost = (share * cells**2 + round_up).floor().long()
    rank = torch.rand(len(round_up), cells**2, generator=generator).argsort(1).argsort(1)
    return (rank < n_lost[:, None]).reshape(-1, cells, cells)


def _as_pixels(lost: Tensor, size: int) -> Tensor:
    """Cells as the pixels they cover, bool (n, size, size); of 30 pixels, a quarter is 7 or 8."""
    cell = torch.arange(size) * lost.shape[-1] // size
    return lost[:, cell][:, :, cell]
