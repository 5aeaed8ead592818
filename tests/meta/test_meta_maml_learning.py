"""Initialisations that are learned: what the paper saw, the families of tasks, and a meta-training that goes on."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from metaopt.errors import ConfigError, DataError
from metaopt.meta.maml import ALGORITHMS, Episode, Inner, MetaTraining, find_algorithm, stacked
from metaopt.meta.maml.families import Pairs, first_weights, n_way, predictions, single_player, sinusoids
from metaopt.schedules import build_schedule

N = 10


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(1, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 1))


def inner(steps: int) -> Inner:
    return Inner(schedule=build_schedule("constant", {"lr_g": 0.02, "lr_d": 0.02, "update_ratio": 1.0}), steps=steps)


def episodes(seed: int = 0) -> Iterator[Sequence[Episode[Pairs]]]:
    random = torch.Generator().manual_seed(seed)
    while True:
        yield [sinusoids(N, 10, random)]


def meta_training(name: str, iterations: int, lr: float = 3e-3) -> MetaTraining[Pairs]:
    module = network()
    body = frozenset(dict(module[:4].named_parameters())) if name == "anil" else frozenset[str]()
    players = stacked(single_player(module, mse_loss, frozen=body), N)
    loop = inner(2)
    return MetaTraining(players, first_weights(module), loop, find_algorithm(name), lr=lr, iterations=iterations)


def unseen_error(training: MetaTraining[Pairs], steps: int) -> list[float]:
    """Mean over 200 unseen sinusoids, on points that were not adapted to, after each step."""
    drawn = sinusoids(200, 30, torch.Generator().manual_seed(99))
    x, y = drawn.support[0]
    episode = Episode(support=[Pairs(x[:, :10], y[:, :10])], query=[Pairs(x[:, 10:], y[:, 10:])])
    player = single_player(network(), mse_loss)
    said = predictions(network(), player, training.weights, episode, inner(steps), rates=training.rates)
    return [mse_loss(one, episode.query[0].y).item() for one in said]


@pytest.mark.parametrize("name", ["maml", "fomaml", "reptile", "meta_sgd", "maml_plus"])
def test_what_is_learned_adapts_better_than_where_it_started(name: str) -> None:
    training = meta_training(name, 150)
    before = unseen_error(training, 4)
    records = list(training.run(episodes()))
    after = unseen_error(training, 4)
    assert [record.iteration for record in records] == list(range(1, 151))
    assert after[4] < after[2] < after[0]
    assert after[2] < 0.9 * before[2]


def test_heads_alone_move_in_anil() -> None:
    training = meta_training("anil", 3)
    list(training.run(episodes()))
    assert training.players.frozen["g"] == {f"{i}.{of}" for i in (0, 2) for of in ("weight", "bias")}
    assert any(
        not torch.equal(w, training.weights["g"][n]) for n, w in first_weights(network())["g"].items() if n[0] == "0"
    )
    with pytest.raises(ConfigError, match="moves the head alone must have players that freeze the rest"):
        MetaTraining(
            single_player(network(), mse_loss),
            first_weights(network()),
            inner(1),
            ALGORITHMS["anil"],
            lr=1,
            iterations=1,
        )


@pytest.mark.parametrize("name", ["maml_plus", "reptile"])
def test_a_meta_training_goes_on_where_it_was_saved(name: str) -> None:
    whole, first, second = (meta_training(name, 6) for _ in range(3))
    expected = list(whole.run(episodes()))
    drawn = islice(episodes(), 6)
    started = list(islice(first.run(drawn), 3))
    second.load_state_dict(first.state_dict())
    assert started + list(second.run(drawn)) == expected
    for name_of, weight in whole.weights["g"].items():
        assert torch.equal(weight, second.weights["g"][name_of])


def test_divergence_is_a_value() -> None:
    training = meta_training("maml", 5)
    drawn = sinusoids(N, 10, torch.Generator().manual_seed(0))
    far = Pairs(drawn.support[0].x, drawn.support[0].y * 1e30)
    records = list(training.run(iter([[Episode(support=[far], query=[far])]])))
    assert [record.diverged for record in records] == [True]
    for name, weight in first_weights(network())["g"].items():
        assert torch.equal(training.weights["g"][name], weight)


def test_sinusoids_are_those_of_the_paper() -> None:
    drawn = sinusoids(500, 50, torch.Generator().manual_seed(1))
    (x, y), (x_query, _) = drawn.support[0], drawn.query[0]
    assert x.shape == y.shape == (500, 50, 1)
    assert -5 <= x.min() < -4.9 and 4.9 < x.max() <= 5
    assert not torch.equal(x, x_query)
    largest = y.abs().amax((1, 2))
    assert 4.7 < largest.max() <= 5 and largest.min() < 0.4
    for i in range(20):  # each is A sin(x - p): a combination of sin and cos, with p in [0, pi]
        base = torch.stack([x[i, :, 0].sin(), x[i, :, 0].cos()], 1).double()
        a, b = torch.linalg.lstsq(base, y[i].double()).solution.flatten().tolist()
        assert torch.allclose(base @ torch.tensor([a, b], dtype=torch.float64), y[i, :, 0].double(), atol=1e-4)
        assert 0 <= math.atan2(-b, a) <= math.pi and 0.1 <= math.hypot(a, b) <= 5.001


def test_n_way_episodes_share_no_image_and_number_classes_anew() -> None:
    classes = torch.arange(6).repeat(7)
    images = torch.arange(42.0).reshape(-1, 1, 1, 1)
    drawn = n_way(images, classes, ways=3, shots=2, n=50, random=torch.Generator().manual_seed(0))
    support, query = drawn.support[0], drawn.query[0]
    assert support.x.shape == (50, 6, 1, 1, 1) and support.y.tolist() == [[0, 0, 1, 1, 2, 2]] * 50
    orders = set()
    for i in range(50):
        shown, asked = support.x[i].flatten().long(), query.x[i].flatten().long()
        assert not set(shown.tolist()) & set(asked.tolist())
        assert torch.equal(classes[shown], classes[asked])
        names = classes[shown][::2].tolist()
        assert torch.equal(classes[shown], torch.tensor(names).repeat_interleave(2)) and len(set(names)) == 3
        orders.add(tuple(names))
    assert len(orders) > 20


def test_too_few_images_or_classes_are_refused() -> None:
    images, classes = torch.zeros(5, 1, 8, 8), torch.tensor([0, 0, 0, 1, 1])
    with pytest.raises(DataError, match="at least 3 classes for 3 ways, but there are 2"):
        n_way(images, classes, ways=3, shots=1, n=1, random=torch.Generator())
    with pytest.raises(DataError, match=r"at least 4 images, 2 to adapt to and 2 to be judged on, but class 0 has 3"):
        n_way(images, classes, ways=2, shots=2, n=1, random=torch.Generator())


def test_names_and_numbers_are_checked() -> None:
    with pytest.raises(ConfigError, match="no algorithm 'mamal'; did you mean 'maml'"):
        find_algorithm("mamal")
    with pytest.raises(ConfigError, match="`lr > 0` and `iterations >= 1` must hold, but got lr=0"):
        meta_training("maml", 1, lr=0)


def test_options_of_maml_plus_go_with_others() -> None:
    plus, by_hand = find_algorithm("maml_plus"), find_algorithm("maml+multi_step+step_rates")
    assert replace(by_hand, source=plus.source) == plus
    first = find_algorithm("fomaml+step_rates")
    assert (first.derivatives, first.rates, first.multi_step) == ("first", "steps", False)
    assert find_algorithm("meta_sgd+multi_step").rates == "weights"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "reptile+multi_step",
            "`multi_step` goes with algorithms that differentiate a query loss, not with .reptile",
        ),
        ("joint+step_rates", "a query loss, not with .joint"),
        ("meta_sgd+step_rates", "`step_rates` goes with algorithms that learn no rates, but 'meta_sgd' learns them"),
        ("maml+multistep", "There is no option of 'maml' called 'multistep'; did you mean 'multi_step'"),
        ("mamml+multi_step", "There is no algorithm 'mamml'; did you mean 'maml'"),
    ],
)
def test_options_that_do_not_fit_are_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        find_algorithm(name)
