"""The command that makes the weights: repeatable, with labels that are true, and folded without a change."""

import pytest
import torch
from torch import Generator

from metaopt.metrics.small_damage import DAMAGES, damaged
from metaopt.metrics.small_data import (
    CHARACTERS,
    N_CLASSES,
    N_GLYPH_CLASSES,
    Sources,
    draw_batch,
    load_sources,
)
from metaopt.metrics.train_small import TrainingNet, folded, train


@pytest.fixture(scope="module")
def sources() -> Sources:
    return load_sources()


def test_sources_are_what_the_packages_ship(sources: Sources) -> None:
    counts = torch.bincount(sources.glyph_labels, minlength=len(CHARACTERS))
    # Each font draws every character once; 1,797 and 5,000 digits come on top.
    n_fonts = int(counts[-1])
    assert n_fonts >= 10
    assert torch.equal(counts[10:], torch.full((len(CHARACTERS) - 10,), n_fonts))
    assert counts[:10].sum() == 1797 + 5000 + 10 * n_fonts
    assert (sources.glyphs.amax((1, 2, 3)) > 0.5).all()
    assert [tuple(photos.shape) for photos in sources.photos] == [
        (2, 3, 427, 640),
        (2, 3, 213, 320),
        (2, 3, 106, 160),
    ]


def test_no_validation_glyph_is_trained_on(sources: Sources) -> None:
    training, validation = sources.split(every=10)
    assert len(training.glyphs) + len(validation.glyphs) == len(sources.glyphs)
    assert torch.equal(validation.glyphs, sources.glyphs[::10])
    assert torch.equal(training.glyphs[:9], sources.glyphs[1:10])


def test_a_batch_repeats_and_its_labels_are_in_range(sources: Sources) -> None:
    batch, again = (draw_batch(sources, 400, Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(batch.images, again.images)
    assert torch.equal(batch.images, (batch.images * 255).round() / 255)
    assert 0 <= batch.images.min() < batch.images.max() <= 1
    assert (batch.classes < N_GLYPH_CLASSES).sum() == 200
    assert 0 <= batch.classes.min() < batch.classes.max() < N_CLASSES
    assert set(batch.damages.tolist()) == set(range(len(DAMAGES)))
    assert torch.equal(batch.strengths == 0, batch.damages == 0)


def test_damage_spares_the_images_that_are_labelled_whole(sources: Sources) -> None:
    images = sources.photos[0][:, :, :32, :32].repeat(200, 1, 1, 1)
    gray = torch.zeros(400, 1, 1, 1, dtype=torch.bool)
    results, kinds, strengths = damaged(images, gray, Generator().manual_seed(4))
    change = (results - images).abs().mean((1, 2, 3))
    assert (change[kinds == 0] == 0).all()
    strong = (kinds > 0) & (strengths > 0.5)
    assert (change[strong] > 0).all()


def test_training_repeats_bit_for_bit(sources: Sources) -> None:
    first, second = (folded(train(sources, steps=2, seed=5)).state_dict() for _ in range(2))
    other = folded(train(sources, steps=2, seed=6)).state_dict()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
        assert not torch.equal(tensor, other[name]), name


def test_folding_does_not_change_the_function(sources: Sources) -> None:
    torch.manual_seed(7)
    model = TrainingNet()
    for norm in [*model.norms, model.embed_norm]:
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    for norm in model.norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.uniform_(norm.bias, -1, 1)
    model.eval()
    x = draw_batch(sources, 20, Generator().manual_seed(8)).images * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model.heads(folded(model)(x)), torch.cat(model(x), dim=1), rtol=1e-4, atol=1e-4)
