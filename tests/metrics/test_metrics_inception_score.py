"""The Inception Score: its two extremes, entropies by hand, and the packages that others use."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torchmetrics.image.inception import InceptionScore as TheirScore

from metaopt.errors import ConfigError
from metaopt.metrics import inception_score


def logits(n: int, classes: int, seed: int) -> Tensor:
    return 3 * torch.randn(n, classes, generator=Generator().manual_seed(seed))


@pytest.mark.parametrize("classes", [2, 7, 1000])
def test_sure_and_even_gives_the_number_of_classes(classes: int) -> None:
    found = inception_score(100 * torch.eye(classes), splits=1)
    assert found.mean == pytest.approx(classes, rel=1e-12)
    assert found.std == 0


def test_probability_zero_is_allowed() -> None:
    """Logits so far apart that the softmax underflows, and minus infinity itself."""
    assert inception_score(1e5 * torch.eye(3), splits=1).mean == pytest.approx(3, rel=1e-12)
    certain = torch.full((3, 3), -torch.inf).fill_diagonal_(0.0)
    assert inception_score(certain, splits=1).mean == pytest.approx(3, rel=1e-12)


def test_unsure_images_give_one() -> None:
    assert inception_score(torch.full((40, 9), 2.5)).mean == pytest.approx(1, abs=1e-12)


def test_one_class_only_gives_one() -> None:
    same = torch.tensor([5.0, -1.0, 0.0]).expand(50, 3)
    assert inception_score(same).mean == pytest.approx(1, abs=1e-12)


def test_mutual_information_by_hand() -> None:
    """Two classes, (3/4, 1/4) and (1/4, 3/4): ln 2 minus the entropy of (3/4, 1/4)."""
    x = torch.tensor([[3.0, 1.0], [1.0, 3.0]]).log()
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert inception_score(x, splits=1).mean == pytest.approx(math.exp(math.log(2) - entropy), rel=1e-7)


def test_parts_are_taken_in_order() -> None:
    """The first half shows one class only, the second half all four: scores 1 and 4."""
    x = torch.cat([100 * torch.eye(4)[[0, 0, 0, 0]], 100 * torch.eye(4)])
    found = inception_score(x, splits=2)
    assert found.mean == pytest.approx(2.5, rel=1e-12)
    assert found.std == pytest.approx(1.5, rel=1e-12)


@pytest.mark.parametrize(("n", "splits"), [(100, 10), (103, 10), (57, 4), (5, 5)])
def test_agrees_with_torch_fidelity(n: int, splits: int) -> None:
    x = logits(n, 40, seed=n)
    theirs = isc_features_to_metric(x, splits=splits, shuffle=False)
    ours = inception_score(x, splits=splits)
    assert ours.mean == pytest.approx(theirs[KEY_METRIC_ISC_MEAN], rel=1e-10)
    assert ours.std == pytest.approx(theirs[KEY_METRIC_ISC_STD], rel=1e-8, abs=1e-12)


def test_agrees_with_torchmetrics_in_its_order() -> None:
    """It shuffles by the global seed; its spread has 1 / (parts - 1), ours 1 / parts."""
    x = logits(200, 30, seed=1).double()
    theirs = TheirScore(feature=torch.nn.Identity(), splits=10)
    theirs.features = [x]
    torch.manual_seed(4)
    mean, std = theirs.compute()
    torch.manual_seed(4)
    ours = inception_score(x[torch.randperm(200)], splits=10)
    assert ours.mean == pytest.approx(float(mean), rel=1e-10)
    assert ours.std == pytest.approx(float(std) * math.sqrt(9 / 10), rel=1e-8)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), classes=st.integers(1, 12), seed=st.integers(0, 10_000))
def test_lies_between_one_and_the_number_of_classes(n: int, classes: int, seed: int) -> None:
    x = logits(n, classes, seed)
    score = inception_score(x, splits=1).mean
    assert 1 - 1e-12 <= score <= classes + 1e-9
    shifted = inception_score(x + torch.randn(n, 1, generator=Generator().manual_seed(seed)), splits=1).mean
    assert shifted == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize(("shape", "splits"), [((4, 3), 5), ((4, 3), 0), ((4,), 1), ((0, 3), 1)])
def test_shapes_are_checked(shape: tuple[int, ...], splits: int) -> None:
    with pytest.raises(ConfigError, match=r"`logits \(n >= splits >= 1, classes\)` must hold, but got \("):
        inception_score(torch.zeros(shape), splits=splits)
