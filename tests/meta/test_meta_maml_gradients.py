"""Outer gradients against finite differences in float64, and against closed forms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.meta.maml import (
    Episode,
    Inner,
    Outer,
    Players,
    Rates,
    Weights,
    adapt,
    maml_gradient,
    multi_step_weights,
    reptile_gradient,
    stacked,
)
from metaopt.schedules import build_schedule

F64 = torch.float64
STEP = 1e-5
Pairs = tuple[Tensor, Tensor]


def inner(steps: int, *, lr_g: float = 0.1, lr_d: float = 0.2, ratio: float = 1.0) -> Inner:
    params = {"lr_g": lr_g, "lr_d": lr_d, "update_ratio": ratio, "power": 1.0, "warmup": 0.0}
    return Inner(schedule=build_schedule("power_decay", params), steps=steps)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def regression(weights: Weights, batch: Pairs) -> Tensor:
    x, y = batch
    own = weights["g"]
    hidden = torch.tanh(x @ own["first"] + own["bias"])
    return (hidden @ own["head"] - y).square().mean()


ONE = Players[Pairs](losses={"g": regression})
ONE_WEIGHTS: Weights = {"g": {"first": random(2, 3), "bias": random(3, seed=1), "head": random(3, 1, seed=2)}}


def pairs(seed: int) -> Pairs:
    return random(5, 2, seed=seed), random(5, 1, seed=seed + 50)


def logits(weights: Weights, images: Tensor) -> Tensor:
    return torch.tanh(images @ weights["d"]["first"]) @ weights["d"]["head"]


def generated(weights: Weights, z: Tensor) -> Tensor:
    return torch.tanh(z @ weights["g"]["map"]) + weights["g"]["bias"]


def loss_d(weights: Weights, batch: Pairs) -> Tensor:
    real, z = batch
    fake = logits(weights, generated(weights, z))
    return torch.nn.functional.softplus(-logits(weights, real)).mean() + torch.nn.functional.softplus(fake).mean()


def loss_g(weights: Weights, batch: Pairs) -> Tensor:
    return torch.nn.functional.softplus(-logits(weights, generated(weights, batch[1]))).mean()


TWO = Players[Pairs](losses={"g": loss_g, "d": loss_d})
TWO_WEIGHTS: Weights = {
    "g": {"map": random(2, 3), "bias": random(3, seed=1)},
    "d": {"first": random(3, 4, seed=2), "head": random(4, seed=3)},
}


def games(seed: int) -> Pairs:
    return random(6, 3, seed=seed) + 1, random(6, 2, seed=seed + 50)


def differences(value: Callable[[Tensor], float], at: Tensor) -> Tensor:
    """Central differences of `value` by each element."""
    found = torch.zeros_like(at)
    for i in range(at.numel()):
        up, down = at.clone(), at.clone()
        up.view(-1)[i] += STEP
        down.view(-1)[i] -= STEP
        found.view(-1)[i] = (value(up) - value(down)) / (2 * STEP)
    return found


def close(found: Tensor, expected: Tensor, relative: float = 1e-6) -> bool:
    return bool((found - expected).norm() <= relative * expected.norm())


def with_weight(weights: Weights, player: str, name: str, value: Tensor) -> Weights:
    return {p: {n: value if (p, n) == (player, name) else w for n, w in of.items()} for p, of in weights.items()}


def adapted(
    players: Players[Pairs], weights: Weights, support: Sequence[Pairs], loop: Inner, rates: Rates | None = None
) -> Weights:
    *_, last = adapt(players, weights, support, loop, rates, derivatives="none")
    return last


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("learned", ["", "of each weight", "of each step"])
def test_maml_with_one_player_is_finite_differences(steps: int, learned: str) -> None:
    support, query, loop = [pairs(1), pairs(2)], [pairs(3)], inner(steps)
    rates = {
        "": None,
        "of each weight": Rates(values={"g": {n: 1 + 0.3 * random(*w.shape) for n, w in ONE_WEIGHTS["g"].items()}}),
        "of each step": Rates(values={"g": {n: 1 + 0.3 * random(steps) for n in ONE_WEIGHTS["g"]}}, per_step=True),
    }[learned]
    found = maml_gradient(ONE, ONE_WEIGHTS, Episode(support=support, query=query), loop, rates)

    def value(weights: Weights, rates: Rates | None) -> float:
        return regression(adapted(ONE, weights, support, loop, rates), query[0]).item()

    assert found.losses == {"g": pytest.approx(value(ONE_WEIGHTS, rates), rel=1e-12)}
    for name, weight in ONE_WEIGHTS["g"].items():
        expected = differences(lambda w, n=name: value(with_weight(ONE_WEIGHTS, "g", n, w), rates), weight)
        assert close(found.gradients["g"][name], expected)
    if rates is not None:
        assert found.rate_gradients is not None
        for name, rate in rates.values["g"].items():
            expected = differences(
                lambda r, n=name: value(ONE_WEIGHTS, replace(rates, values=with_weight(rates.values, "g", n, r))),
                rate,
            )
            assert close(found.rate_gradients["g"][name], expected)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("ratio", [1.0, 0.5, 2.0])
def test_maml_with_two_players_is_finite_differences(steps: int, ratio: float) -> None:
    support, query, loop = [games(1), games(2), games(3)], [games(4), games(5)], inner(steps, ratio=ratio)
    found = maml_gradient(TWO, TWO_WEIGHTS, Episode(support=support, query=query), loop)
    last = adapted(TWO, TWO_WEIGHTS, support, loop)
    alone = Players[Pairs](losses=TWO.losses, frozen={"g": frozenset(last["g"])})
    follower = adapted(alone, last, query, loop)["d"]

    def of_d(weights: Weights) -> float:
        return loss_d({"d": adapted(TWO, weights, support, loop)["d"], "g": last["g"]}, query[0]).item()

    def of_g(weights: Weights) -> float:
        return loss_g({"d": follower, "g": adapted(TWO, weights, support, loop)["g"]}, query[0]).item()

    for player, value in (("d", of_d), ("g", of_g)):
        assert found.losses[player] == pytest.approx(value(TWO_WEIGHTS), rel=1e-12)
        for name, weight in TWO_WEIGHTS[player].items():
            expected = differences(lambda w, of=value, p=player, n=name: of(with_weight(TWO_WEIGHTS, p, n, w)), weight)
            assert expected.norm() > 1e-3
            assert close(found.gradients[player][name], expected)


@pytest.mark.parametrize("multiplier", [0.0, 2.5])
def test_the_follower_of_g_adapts_at_its_learned_rates(multiplier: float) -> None:
    support, query, loop = [games(1), games(2)], [games(4)], inner(2)
    rates = Rates(values={p: {n: torch.ones_like(w) for n, w in of.items()} for p, of in TWO_WEIGHTS.items()})
    for weight in rates.values["d"].values():
        weight.fill_(multiplier)
    found = maml_gradient(TWO, TWO_WEIGHTS, Episode(support=support, query=query), loop, rates)
    last = adapted(TWO, TWO_WEIGHTS, support, loop, rates)
    alone = Players[Pairs](losses=TWO.losses, frozen={"g": frozenset(last["g"])})
    follower = adapted(alone, last, query, loop, rates)["d"]
    assert multiplier or all(torch.equal(follower[name], weight) for name, weight in last["d"].items())
    assert found.losses["g"] == pytest.approx(loss_g({"d": follower, "g": last["g"]}, query[0]).item(), rel=1e-12)


def test_the_follower_of_g_has_adapted_to_the_query_set() -> None:
    """Another query set for D to follow on changes G's gradient and not D's."""
    support, loop = [games(1)], inner(2)
    first, second = (
        maml_gradient(TWO, TWO_WEIGHTS, Episode(support=support, query=[games(4), other]), loop)
        for other in (games(5), games(6))
    )
    assert all(torch.equal(first.gradients["d"][n], second.gradients["d"][n]) for n in TWO_WEIGHTS["d"])
    assert not torch.allclose(first.gradients["g"]["map"], second.gradients["g"]["map"])


@pytest.mark.parametrize("steps", [1, 4])
def test_first_order_is_the_gradient_where_the_inner_loop_ends(steps: int) -> None:
    support, query, loop = [pairs(1), pairs(2)], [pairs(3)], inner(steps)
    found = maml_gradient(ONE, ONE_WEIGHTS, Episode(support=support, query=query), loop, derivatives="first")
    last = adapted(ONE, ONE_WEIGHTS, support, loop)
    expected = torch.autograd.grad(regression(last, query[0]), list(last["g"].values()))
    for name, gradient in zip(last["g"], expected, strict=True):
        assert torch.equal(found.gradients["g"][name], gradient)
    exact = maml_gradient(ONE, ONE_WEIGHTS, Episode(support=support, query=query), loop).gradients
    assert not close(found.gradients["g"]["first"], exact["g"]["first"], 1e-2)


def test_first_order_is_maml_with_second_derivatives_stopped() -> None:
    """The same outer loss written by hand, where the inner gradients are constants by `detach`."""
    support, query, loop = [games(1), games(2)], [games(3)], inner(2)
    start: Weights = {p: {n: w.clone().requires_grad_() for n, w in of.items()} for p, of in TWO_WEIGHTS.items()}
    weights: dict[str, Mapping[str, Tensor]] = dict(start)
    for step, (player, loss, lr) in enumerate(
        (("d", loss_d, 0.2), ("g", loss_g, 0.1), ("d", loss_d, 0.1), ("g", loss_g, 0.05))
    ):
        own = weights[player]
        found = torch.autograd.grad(loss(weights, support[step // 2]), list(own.values()))
        weights[player] = {n: w - lr * g.detach() for (n, w), g in zip(own.items(), found, strict=True)}
    held = {n: w.detach() for n, w in weights["g"].items()}
    value = loss_d({"d": weights["d"], "g": held}, query[0])
    expected = torch.autograd.grad(value, list(start["d"].values()))
    outer = maml_gradient(TWO, TWO_WEIGHTS, Episode(support=support, query=query), loop, derivatives="first")
    for name, gradient in zip(start["d"], expected, strict=True):
        assert close(outer.gradients["d"][name], gradient, 1e-12)


def test_weights_that_inner_loops_leave_alone_still_have_an_outer_gradient() -> None:
    """ANIL: the body is learned outside, and only the head moves inside."""
    players = Players[Pairs](losses={"g": regression}, frozen={"g": frozenset(("first", "bias"))})
    support, query, loop = [pairs(1)], [pairs(3)], inner(3)
    last = adapted(players, ONE_WEIGHTS, support, loop)
    assert torch.equal(last["g"]["first"], ONE_WEIGHTS["g"]["first"])
    assert not torch.equal(last["g"]["head"], ONE_WEIGHTS["g"]["head"])
    found = maml_gradient(players, ONE_WEIGHTS, Episode(support=support, query=query), loop)
    expected = differences(
        lambda w: regression(
            adapted(players, with_weight(ONE_WEIGHTS, "g", "first", w), support, loop), query[0]
        ).item(),
        ONE_WEIGHTS["g"]["first"],
    )
    assert close(found.gradients["g"]["first"], expected)


def test_reptile_on_a_quadratic_is_its_closed_form() -> None:
    """``L = a (w - c)^2 / 2``: after k steps of rate lr, ``w_k = c + (1 - lr a)^k (w - c)``."""
    a, c, lr, k, first = torch.tensor([1.0, 3.0], dtype=F64), random(2, seed=9), 0.1, 7, random(2)

    def quadratic(weights: Weights, batch: Tensor) -> Tensor:
        return (a * (weights["g"]["w"] - batch).square() / 2).sum()

    loop = Inner(schedule=build_schedule("constant", {"lr_g": lr, "lr_d": lr, "update_ratio": 1.0}), steps=k)
    found = reptile_gradient(Players(losses={"g": quadratic}), {"g": {"w": first}}, [c], loop)
    assert torch.allclose(found.gradients["g"]["w"], (1 - (1 - lr * a) ** k) * (first - c), rtol=1e-12)
    assert found.losses["g"] == pytest.approx(float((a * ((1 - lr * a) ** k * (first - c)) ** 2 / 2).sum()))


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("derivatives", ["second", "first"])
def test_stacked_episodes_give_the_mean_of_each_alone(derivatives: Literal["second", "first"], n: int) -> None:
    loop, steps = inner(3, ratio=2.0), 3
    rates = Rates(values={p: {m: 1 + 0.1 * random(steps) for m in of} for p, of in TWO_WEIGHTS.items()}, per_step=True)
    alone = [Episode(support=[games(i), games(i + 10)], query=[games(i + 20)]) for i in range(n)]
    together = Episode(
        support=[tuple(map(torch.stack, zip(*(one.support[k] for one in alone), strict=True))) for k in range(2)],
        query=[tuple(map(torch.stack, zip(*(one.query[0] for one in alone), strict=True)))],
    )
    parts = [maml_gradient(TWO, TWO_WEIGHTS, one, loop, rates, derivatives=derivatives) for one in alone]
    found = maml_gradient(stacked(TWO, n), TWO_WEIGHTS, together, loop, rates, derivatives=derivatives)
    reptile = reptile_gradient(stacked(TWO, n), TWO_WEIGHTS, together.support, loop)
    of_reptile = [reptile_gradient(TWO, TWO_WEIGHTS, one.support, loop) for one in alone]
    for player, of in TWO_WEIGHTS.items():
        assert found.losses[player] == pytest.approx(sum(part.losses[player] for part in parts) / n)
        assert reptile.losses[player] == pytest.approx(sum(part.losses[player] for part in of_reptile) / n)
        for name in of:
            for whole, each in ((found, parts), (reptile, of_reptile)):
                mean = torch.stack([part.gradients[player][name] for part in each]).mean(0)
                assert close(whole.gradients[player][name], mean, 1e-10)
            assert found.rate_gradients is not None
            mean = torch.stack([(part.rate_gradients or {})[player][name] for part in parts]).mean(0)
            assert close(found.rate_gradients[player][name], mean, 1e-10)


def test_losses_of_several_steps_add_up() -> None:
    """MAML++: the gradient of a weighted sum is the weighted sum of MAML's gradients after fewer steps."""
    support, query, steps = [pairs(1)], [pairs(3)], 3
    constant = build_schedule("constant", {"lr_g": 0.1, "lr_d": 0.1, "update_ratio": 1.0})
    weights = [0.2, 0.3, 0.5]

    def outer(n: int, step_weights: Sequence[float] | None = None) -> Outer:
        loop = Inner(schedule=constant, steps=n)
        return maml_gradient(ONE, ONE_WEIGHTS, Episode(support=support, query=query), loop, step_weights=step_weights)

    together, parts = outer(steps, weights), [outer(n) for n in (1, 2, 3)]
    for name in ONE_WEIGHTS["g"]:
        expected = sum(v * part.gradients["g"][name] for v, part in zip(weights, parts, strict=True))
        assert isinstance(expected, Tensor) and close(together.gradients["g"][name], expected, 1e-12)


def test_weights_of_steps_move_to_the_last() -> None:
    assert multi_step_weights(4, 0.0) == [0.25] * 4
    assert multi_step_weights(4, 1.0) == [0.0, 0.0, 0.0, 1.0]
    assert sum(multi_step_weights(5, 0.3)) == pytest.approx(1.0)


def test_nothing_that_comes_in_is_changed() -> None:
    before = {p: {n: w.clone() for n, w in of.items()} for p, of in TWO_WEIGHTS.items()}
    maml_gradient(TWO, TWO_WEIGHTS, Episode(support=[games(1)], query=[games(2)]), inner(2))
    reptile_gradient(TWO, TWO_WEIGHTS, [games(1)], inner(2))
    for player, of in TWO_WEIGHTS.items():
        for name, weight in of.items():
            assert torch.equal(weight, before[player][name]) and not weight.requires_grad


def test_rules_are_stated() -> None:
    with pytest.raises(ConfigError, match=r"`steps >= 1` must hold, but got steps=0"):
        inner(0)
    with pytest.raises(ConfigError, match=r"`losses` must have the player 'g', but has \['d'\]"):
        Players(losses={"d": loss_d})
    with pytest.raises(ConfigError, match=r"`step_weights` must have 2 numbers, one a step, but have 1"):
        maml_gradient(ONE, ONE_WEIGHTS, Episode(support=[pairs(1)], query=[pairs(2)]), inner(2), step_weights=[1.0])
    with pytest.raises(ConfigError, match=r"`derivatives` must be 'second' or 'first'"):
        maml_gradient(ONE, ONE_WEIGHTS, Episode(support=[pairs(1)], query=[pairs(2)]), inner(2), derivatives="none")
