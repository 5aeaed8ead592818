"""Batches: the generator alone decides what is drawn, wherever the images are."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from metaopt.errors import DataError
from metaopt.gan import Dataset, sample_batch, sample_classes, sample_labelled

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def _numbered(n: int, y: torch.Tensor | None) -> Dataset:
    """Image i is i in every pixel."""
    x = torch.arange(n, dtype=torch.uint8).reshape(n, 1, 1, 1).expand(n, 3, 8, 8).contiguous()
    return Dataset(name="numbered", x=x, y=y, content_hash="")


@pytest.mark.parametrize("device", DEVICES)
def test_images_and_their_classes_belong_together(device: str) -> None:
    data = _numbered(200, torch.arange(200) * 3)
    for there in (data, data.to(device)):
        images, classes = sample_labelled(there, 500, torch.Generator(device).manual_seed(5))
        assert (images.device.type, classes.device.type) == (device, device)
        assert (images.shape, images.dtype, classes.dtype) == ((500, 3, 8, 8), torch.uint8, torch.int64)
        assert torch.equal(images[:, 0, 0, 0].long() * 3, classes)
        assert torch.equal(images, sample_batch(there, 500, torch.Generator(device).manual_seed(5)))
        assert torch.equal(classes, sample_classes(there, 500, torch.Generator(device).manual_seed(5)))


def test_classes_are_drawn_where_the_generator_is() -> None:
    """Images that stay on the host have a generator there, and classes on a device would have to come back first."""
    data = _numbered(200, torch.arange(200))
    streamed = replace(data, y_on_device=torch.empty(200, dtype=torch.int64, device="meta"))
    _, classes = sample_labelled(streamed, 50, torch.Generator().manual_seed(5))
    assert torch.equal(classes, sample_labelled(data, 50, torch.Generator().manual_seed(5))[1])


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_images_come_from_the_device_and_from_the_host(device: str) -> None:
    data = _numbered(200, None)
    drawn = [sample_batch(there, 64, torch.Generator(device).manual_seed(2)) for there in (data, data.to(device))]
    assert torch.equal(*drawn)


@pytest.mark.parametrize("device", DEVICES)
def test_the_host_does_not_wait_for_the_device(device: str) -> None:
    data = _numbered(200, torch.arange(200)).to(device)
    generator = torch.Generator(device).manual_seed(0)
    before = torch.cuda.get_sync_debug_mode() if device == "cuda" else 0
    try:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        images, classes = sample_labelled(data, 64, generator)
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode(before)
    assert len(images) == len(classes) == 64


def test_classes_come_as_often_as_in_the_data() -> None:
    y = torch.tensor([0] * 150 + [4] * 50)
    classes = sample_classes(_numbered(200, y), 4000, torch.Generator().manual_seed(0))
    assert classes.unique().tolist() == [0, 4]
    assert int((classes == 4).sum()) == pytest.approx(1000, abs=110)  # 4 standard deviations


def test_data_without_classes_are_refused() -> None:
    for draw in (sample_labelled, sample_classes):
        with pytest.raises(DataError, match="numbered: images must have classes to be drawn with them, but have none"):
            draw(_numbered(5, None), 2, torch.Generator())


def test_images_larger_than_half_the_free_memory_stay_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule, on a device that says how much is free; nothing is moved to it."""
    data = _numbered(10, None)
    need = data.x.nbytes
    asked = []

    def free(device: torch.device) -> tuple[int, int]:
        asked.append(device)
        return 2 * need - 1, 10 * need

    monkeypatch.setattr(torch.cuda, "mem_get_info", free)
    assert data.to("cuda:0").x is data.x
    assert asked == [torch.device("cuda:0")]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (2 * need, 10 * need))
    no_such_device = pytest.raises((RuntimeError, AssertionError)) if DEVICES == ["cpu"] else nullcontext()
    with no_such_device:  # it fits, and so is sent
        assert data.to("cuda:0").x.device.type == "cuda"
