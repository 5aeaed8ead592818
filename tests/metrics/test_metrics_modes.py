"""Modes: a classifier that knows the classes, and counts that mean what they say."""

import math

import pytest
import torch
from torch import Generator, Tensor

from metaopt.errors import ConfigError
from metaopt.metrics import Classifier, fit_classifier, modes


def blobs(counts: list[int], seed: int = 0, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    """Class k around 4 e_k, shuffled."""
    random = Generator().manual_seed(seed)
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=random)]
    centres = 4 * torch.eye(len(counts) + 1)[labels]
    return centres + spread * torch.randn(centres.shape, generator=random), labels


def sure(shares: list[float]) -> Classifier:
    """Class of the largest feature."""
    exact = torch.tensor(shares, dtype=torch.float64)
    return Classifier(weight=torch.eye(len(shares)).double(), bias=torch.zeros_like(exact), shares=exact, accuracy=1.0)


def shown(counts: list[int]) -> Tensor:
    return torch.eye(len(counts))[torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])]


def test_learns_classes_that_can_be_told_apart() -> None:
    features, labels = blobs([100, 60, 40])
    found = fit_classifier(features, labels)
    assert found.accuracy == 1
    assert found.shares.tolist() == pytest.approx([0.5, 0.3, 0.2])
    other, other_labels = blobs([30, 30, 30], seed=1)
    assert torch.equal(found.classes(other), other_labels)


def test_accuracy_is_that_on_images_it_was_not_trained_on() -> None:
    """Labels by chance: learned by heart in 64 dimensions, and no better than chance on the fifth."""
    random = Generator().manual_seed(2)
    features, labels = torch.randn(250, 200, generator=random), torch.randint(0, 2, (250,), generator=random)
    found = fit_classifier(features, labels)
    held_out = torch.arange(250) % 5 == 4
    right = found.classes(features) == labels
    assert right[~held_out].double().mean() == 1
    assert found.accuracy == float(right[held_out].double().mean())
    assert 0.25 < found.accuracy < 0.75


def test_does_not_depend_on_the_scale_of_features() -> None:
    features, labels = blobs([60, 60], seed=3, spread=3)
    scales = torch.tensor([1e-3, 1.0, 1e3])
    first, second = fit_classifier(features, labels), fit_classifier(features * scales + 5, labels)
    assert torch.equal(first.classes(features), second.classes(features * scales + 5))
    assert 0.5 < first.accuracy < 1


def test_a_constant_feature_does_no_harm() -> None:
    features, labels = blobs([40, 40], seed=4)
    found = fit_classifier(torch.cat([features, torch.full((80, 1), 7.0)], dim=1), labels)
    assert found.accuracy == 1
    assert found.weight.isfinite().all()


def test_two_classes_are_told_apart_like_scikit_learn_does() -> None:
    from sklearn.linear_model import LogisticRegression

    features, labels = blobs([70, 50], seed=5, spread=2.5)
    train = torch.arange(120) % 5 != 4
    mean, std = features[train].mean(0), features[train].std(0)
    theirs = LogisticRegression(max_iter=1000).fit(((features - mean) / std)[train].numpy(), labels[train].numpy())
    expected = torch.from_numpy(theirs.predict(((features - mean) / std).numpy()))
    assert torch.equal(fit_classifier(features, labels).classes(features), expected)


def test_a_number_that_no_image_has_is_never_seen() -> None:
    features, labels = blobs([50, 50], seed=6)
    found = fit_classifier(features, 2 * labels)
    assert found.shares.tolist() == [0.5, 0, 0.5]
    assert set(found.classes(10 * features).tolist()) == {0, 2}
    assert modes(features, found).reached == 2


@pytest.mark.parametrize("labels", [torch.zeros(50), torch.tensor([1.0] * 50)])
def test_one_class_is_refused(labels: Tensor) -> None:
    with pytest.raises(ConfigError, match="`modes` needs labels of two classes or more, but got 1"):
        fit_classifier(torch.randn(50, 3), labels.long())


def test_survives_as_tensors() -> None:
    found = fit_classifier(*blobs([30, 40], seed=7))
    again = Classifier.from_tensors(found.as_tensors())
    for name in ("weight", "bias", "shares"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    assert again.accuracy == found.accuracy


def test_the_shares_of_the_data_are_in_balance() -> None:
    found = modes(shown([50, 30, 20]), sure([0.5, 0.3, 0.2]))
    assert (found.reached, found.balance) == (3, pytest.approx(1))


def test_one_class_alone_of_even_ones_has_no_balance() -> None:
    found = modes(shown([7, 0, 0, 0]), sure([0.25] * 4))
    assert (found.reached, found.balance) == (1, pytest.approx(0, abs=1e-12))


def test_half_of_even_classes() -> None:
    """KL = ln 2, of ln 4."""
    found = modes(shown([5, 5, 0, 0]), sure([0.25] * 4))
    assert (found.reached, found.balance) == (2, pytest.approx(0.5))


def test_balance_of_even_classes_is_the_entropy_over_its_maximum() -> None:
    p = [0.6, 0.3, 0.1]
    entropy = -sum(x * math.log(x) for x in p)
    assert modes(shown([6, 3, 1]), sure([1 / 3] * 3)).balance == pytest.approx(entropy / math.log(3))


def test_a_rare_class_alone_is_cut_to_zero() -> None:
    assert modes(shown([0, 9]), sure([0.9, 0.1])).balance == 0


def test_a_class_is_reached_from_a_tenth_of_its_share() -> None:
    """Shares 0.5 each: of 100 images, 5 are enough and 4 are not."""
    assert modes(shown([95, 5]), sure([0.5, 0.5])).reached == 2
    assert modes(shown([96, 4]), sure([0.5, 0.5])).reached == 1
    assert modes(shown([99, 1]), sure([0.9, 0.1])).reached == 2
