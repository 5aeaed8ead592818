"""Few-shot tasks of images: what is adapted to and what is judged on never mix; corruption hits the former alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from metaopt.errors import ConfigError, DataError
from metaopt.gan import Corruption, Dataset, PairSpec, load_dataset, to_uint8
from metaopt.meta.maml.groups import Group, Shots, check_groups, draw, groups_of, image_episode, rounds_of
from metaopt.meta.maml.meta_task import GroupSpec, MetaTask, meta_groups

SHOTS = Shots(shots=4, query=6, batch=5, rounds=3, z_dim=2)


def numbered(n: int, first: int = 0) -> Group:
    """Images that are their own numbers."""
    x = (first + torch.arange(n)).to(torch.uint8)[:, None, None, None].expand(n, 1, 8, 8)
    return Group(name=f"from {first}", x=x, identity=f"{first}")


def numbers(images: torch.Tensor) -> set[int]:
    return set(to_uint8(images)[..., 0, 0, 0].flatten().tolist())


def test_images_to_adapt_to_and_to_judge_on_are_of_one_group_and_never_the_same() -> None:
    groups = [numbered(12), numbered(12, first=100)]
    random = torch.Generator().manual_seed(0)
    kinds = set()
    for _ in range(40):
        episode = image_episode(groups, SHOTS, 3, random)
        assert len(episode.support) == len(episode.query) == 3
        assert episode.support[0].real.shape == (3, 5, 1, 8, 8)
        assert episode.support[0].z.shape == (3, 5, 2)
        for i in range(3):
            support, query = (set().union(*(numbers(b.real[i]) for b in of)) for of in (episode.support, episode.query))
            assert not support & query
            assert len(support) <= 4 and len(query) <= 6
            assert len({number >= 100 for number in support | query}) == 1
            kinds.add(min(support) >= 100)
    assert kinds == {True, False}


def test_corruption_hits_what_is_adapted_to_and_leaves_the_rest_clean() -> None:
    group = groups_of(load_dataset("digits"), [3], channels=1)[0]
    known = {image.numpy().tobytes() for image in group.x}
    noisy = Shots(shots=10, query=10, batch=5, rounds=1, z_dim=2, corruptions=(Corruption(missing_pixels=0.5),))
    drawn = draw(group, noisy, torch.Generator().manual_seed(1))
    assert not any(image.numpy().tobytes() in known for image in drawn.support)
    assert ((drawn.support == 128).float().mean() - 0.5).abs() < 0.05
    assert all(image.numpy().tobytes() in known for image in drawn.rest)
    assert len(drawn.rest) == len(group.x) - 10
    mixed = Shots(
        shots=10, query=10, batch=5, rounds=1, z_dim=2, corruptions=(Corruption(), Corruption(missing_pixels=0.5))
    )
    random = torch.Generator().manual_seed(1)
    clean = [draw(group, mixed, random).support[0].numpy().tobytes() in known for _ in range(40)]
    assert 8 <= sum(clean) <= 32  # one of two strengths an episode


def test_same_generator_same_episode() -> None:
    group = groups_of(load_dataset("digits"), [0, 1], channels=1)
    first, again = (image_episode(group, SHOTS, 2, torch.Generator().manual_seed(5)) for _ in range(2))
    for one, other in zip((*first.support, *first.query), (*again.support, *again.query), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_rounds_are_images_of_the_set_in_unit_range() -> None:
    found = rounds_of(numbered(3).x, SHOTS, torch.Generator().manual_seed(0), n=7)
    assert len(found) == 7
    assert set().union(*(numbers(one.real) for one in found)) == {0, 1, 2}


def test_groups_are_classes_or_whole_sets_gray_or_colour() -> None:
    digits = load_dataset("digits")
    zero, nine = groups_of(digits, [0, 9], channels=3)
    assert (zero.name, nine.name) == ("digits-0", "digits-9")
    assert zero.x.shape == (178, 3, 8, 8) and torch.equal(zero.x[:, 0], digits.x[digits.y == 0][:, 0])
    (whole,) = groups_of(digits, None, channels=1)
    assert torch.equal(whole.x, digits.x)
    assert len({zero.identity, nine.identity, whole.identity}) == 3


@pytest.mark.parametrize(("n", "passes"), [(10, True), (9, False), (1, False)])
def test_group_too_small_for_an_episode_is_named(n: int, passes: bool) -> None:
    if passes:
        return check_groups([numbered(n)], SHOTS)
    with pytest.raises(DataError, match=f"from 0: a group must have at least 10 images, 4 to adapt .* but has {n}"):
        check_groups([numbered(20), numbered(n)], SHOTS)
    return None


def test_class_without_images_and_set_without_classes_are_named() -> None:
    with pytest.raises(DataError, match="`classes` must be of its 10 classes, but got 10"):
        groups_of(load_dataset("digits"), [10], channels=1)
    plain = Dataset(name="plain", x=torch.zeros(4, 1, 8, 8, dtype=torch.uint8), y=None, content_hash="")
    with pytest.raises(DataError, match="plain: images must have classes to be grouped by"):
        groups_of(plain, [0], channels=1)


@pytest.mark.parametrize("field", ["shots", "query", "batch", "rounds", "z_dim"])
def test_numbers_below_1_are_refused(field: str) -> None:
    fields = {"shots": 1, "query": 1, "batch": 1, "rounds": 1, "z_dim": 1} | {field: 0}
    with pytest.raises(ConfigError, match=f"`{field} >= 1` must hold, but got {field}=0"):
        Shots(**fields)


def task(train: list[GroupSpec], validation: list[GroupSpec], **changes: object) -> MetaTask:
    spec = PairSpec(network="mlp", size=8, channels=1, width=4, z_dim=2)
    fields: dict[str, object] = {"name": "t", "spec": spec, "budget": 2, "shots": 5, "query": 5, **changes}
    return MetaTask(train=tuple(train), validation=tuple(validation), **fields)  # type: ignore[arg-type]


def test_what_is_learned_on_and_judged_on_share_no_class() -> None:
    digits = [GroupSpec(data="digits", classes=(0, 1, 2)), GroupSpec(data="digits", classes=(3, 4))]
    found = meta_groups(task([digits[0]], [digits[1]]))
    assert [group.name for group in found.train] == ["digits-0", "digits-1", "digits-2"]
    assert [group.name for group in found.validation] == ["digits-3", "digits-4"]
    with pytest.raises(ConfigError, match="must not share images, but 'digits' of class 2 is there twice"):
        task([digits[0]], [GroupSpec(data="digits", classes=(5, 2))])
    with pytest.raises(ConfigError, match="must not share images, but 'digits' is there twice"):
        task([digits[0]], [GroupSpec(data="digits")])
    with pytest.raises(ConfigError, match="`classes` of validation must be different ones"):
        task([digits[0]], [GroupSpec(data="digits", classes=(4, 4))])


def test_too_few_images_to_judge_on_are_named() -> None:
    few = task([GroupSpec(data="digits", classes=(0,))], [GroupSpec(data="digits", classes=(1,))], shots=177, query=1)
    with pytest.raises(DataError, match="digits-1: a group to judge on must have at least 183 images, 177 to adapt"):
        meta_groups(few)


def test_key_is_of_all_but_the_name() -> None:
    of = [GroupSpec(data="digits", classes=(0,))], [GroupSpec(data="digits", classes=(1,))]
    assert task(*of).key() == task(*of, name="other").key()
    keys = {
        task(*of, **change).key()
        for change in ({}, {"r1": 0.1}, {"budget": 3}, {"corruptions": (Corruption(noise=0.1),)})
    }
    assert len(keys) == 4


def test_images_that_were_learned_on_are_found_by_any_name(tmp_path: Path) -> None:
    digits = load_dataset("digits")
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", x=digits.x.numpy(), y=digits.y.numpy())  # type: ignore[union-attr]
    a, b = (f"npz:{tmp_path / name}.npz" for name in ("a", "b"))
    apart = GroupSpec(data=a, classes=(0, 1)), GroupSpec(data=b, classes=(2,))
    assert len(meta_groups(task([apart[0]], [apart[1]])).train) == 2
    with pytest.raises(DataError, match=r"-1: images to judge on must not be learned on, but 182 of 182 are"):
        meta_groups(task([apart[0]], [GroupSpec(data=b, classes=(1,))]))
    with pytest.raises(DataError, match="digits-2: images to judge on must not be learned on"):
        meta_groups(task([apart[0]], [apart[1]], test=(GroupSpec(data="digits", classes=(2,)),)))


@pytest.mark.parametrize(
    ("corruption", "said"),
    [
        (Corruption(n_kept=3), "`corruption.n_kept` must be left out"),
        (Corruption(label_noise=0.3), "`corruption.label_noise` must be left out"),
        (
            Corruption(foreign=0.5, foreign_data="glyphs"),
            "`corruption.foreign_data` must not be judged on, but 'glyphs'",
        ),
    ],
)
def test_corruption_that_an_episode_cannot_have_is_refused(corruption: Corruption, said: str) -> None:
    of = [GroupSpec(data="digits", classes=(0,))], [GroupSpec(data="glyphs", classes=(1,))]
    with pytest.raises(ConfigError, match=said):
        task(*of, corruptions=(corruption,))


def test_features_that_do_not_exist_are_refused_before_anything_is_learned() -> None:
    of = [GroupSpec(data="digits", classes=(0,))], [GroupSpec(data="digits", classes=(1,))]
    with pytest.raises(ConfigError, match="nope"):
        meta_groups(task(*of, features="nope"))
