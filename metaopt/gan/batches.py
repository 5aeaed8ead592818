"""Batches of real images, wherever the images are."""

import torch
from torch import Tensor

from metaopt.errors import DataError
from metaopt.gan.datasets import Dataset


def sample_batch(dataset: Dataset, batch: int, generator: torch.Generator) -> Tensor:
    """`batch` images drawn uniformly with replacement, uint8 (batch, C, H, H), on the generator's device.

    The generator alone decides which: the images are the same wherever the data are. Where they are on the
    generator's device, nothing is copied and the host does not wait; where they are in the host's memory, or a
    memory map, the drawn ones alone are copied.
    """
    return _taken(dataset.x, _index(dataset, batch, generator))


def sample_classes(dataset: Dataset, n: int, generator: torch.Generator) -> Tensor:
    """`n` classes drawn as often as they come in the data, int64 (n,), on the generator's device.

    DataError where there are none.
    """
    return _taken(_classes(dataset, generator), _index(dataset, n, generator))


def sample_labelled(dataset: Dataset, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The images that `sample_batch` would draw, and their classes, int64 (batch,), on the generator's device.

    DataError where there are no classes.
    """
    classes = _classes(dataset, generator)
    index = _index(dataset, batch, generator)
    return _taken(dataset.x, index), _taken(classes, index)


def _classes(dataset: Dataset, generator: torch.Generator) -> Tensor:
    """Where the generator is, if they are there, so that nothing waits for a copy."""
    if dataset.y is None:
        raise DataError(f"{dataset.name}: images must have classes to be drawn with them, but have none.")
    there = dataset.y_on_device
    return dataset.y if there is None or there.device.type != generator.device.type else there


def _index(dataset: Dataset, batch: int, generator: torch.Generator) -> Tensor:
    return torch.randint(len(dataset), (batch,), generator=generator, device=generator.device)


def _taken(values: Tensor, index: Tensor) -> Tensor:
    """Rows of `values`, on the device of `index`."""
    if values.device == index.device:
        return values[index]
    taken = values[index.to(values.device)]
    if index.device.type == "cuda":
        taken = taken.pin_memory()  # else the copy would wait for the device
    return taken.to(index.device, non_blocking=True)
