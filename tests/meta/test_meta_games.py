"""GANs as players: their losses are those of ordinary trainings, and fine-tuning is torch's own Adam."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.gan import LOSSES, Pair, PairSpec, make_pair
from metaopt.meta.maml import Episode, Inner, Weights, adapt, fine_tune, joint_gradient, maml_gradient, stacked
from metaopt.meta.maml.games import Round, all_but_heads, game_players, images_of, lower_half, pair_weights
from metaopt.schedules import build_schedule
from metaopt.training.game import Game


def pair(network: str = "mlp", **changes: object) -> Pair:
    fields: dict[str, object] = {"norm_g": "none", "norm_d": "none", "spectral_norm": False, "width": 8, **changes}
    spec = PairSpec(network=network, size=8, channels=1, z_dim=4, **fields)  # type: ignore[arg-type]
    return make_pair(spec, torch.Generator().manual_seed(3))


def drawn(seed: int, n: int = 6) -> Round:
    random = torch.Generator().manual_seed(seed)
    real = 2 * torch.rand(n, 1, 8, 8, generator=random) - 1
    return Round(real, torch.randn(n, 4, generator=random), torch.rand(n, 1, 1, 1, generator=random))


def inner(steps: int, lr: float = 0.05, ratio: float = 1.0) -> Inner:
    params = {"lr_g": lr, "lr_d": 2 * lr, "update_ratio": ratio}
    return Inner(schedule=build_schedule("constant", params), steps=steps)


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
@pytest.mark.parametrize(
    ("loss", "r1"), [("non_saturating", 0.0), ("non_saturating", 0.7), ("hinge", 0.3), ("lsgan", 0)]
)
def test_losses_are_those_of_an_ordinary_training(network: str, loss: str, r1: float) -> None:
    networks, batch = pair(network), drawn(0)
    players = game_players(networks, LOSSES[loss], r1=r1)
    game = Game(loss=LOSSES[loss], r1=r1)
    fake = networks.generator(batch.z)
    d = game.d_loss(networks.discriminator, batch.real.clone(), fake.detach(), (), None)
    g = game.g_loss(networks.discriminator, fake, (), None)
    weights = pair_weights(networks)
    torch.testing.assert_close(players.losses["d"](weights, batch), d.objective)
    torch.testing.assert_close(players.losses["g"](weights, batch), g)


def test_gradient_penalty_is_that_of_wgan_gp_at_the_places_of_the_batch() -> None:
    networks, batch = pair(), drawn(1)
    players = game_players(networks, LOSSES["wgan_gp"])
    between = (batch.u * batch.real + (1 - batch.u) * networks.generator(batch.z)).detach().requires_grad_()
    (slope,) = torch.autograd.grad(networks.discriminator(between).sum(), between)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    fake = networks.discriminator(networks.generator(batch.z)).mean()
    expected = fake - networks.discriminator(batch.real).mean() + 10 * penalty
    torch.testing.assert_close(players.losses["d"](pair_weights(networks), batch), expected)


def test_gradient_penalty_has_a_gradient_where_d_is_flat() -> None:
    networks, batch = pair(), drawn(1)
    with torch.no_grad():
        networks.discriminator.get_parameter("head.weight").zero_()
    weights = {p: {n: w.clone().requires_grad_() for n, w in of.items()} for p, of in pair_weights(networks).items()}
    loss = game_players(networks, LOSSES["wgan_gp"]).losses["d"](weights, batch)
    gradients = torch.autograd.grad(loss, list(weights["d"].values()), materialize_grads=True)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_penalties_reach_the_weights_through_inner_steps_as_finite_differences_say() -> None:
    networks = pair(width=3)
    for network in (networks.generator, networks.discriminator):
        network.double()
    players = game_players(networks, LOSSES["non_saturating"], r1=0.5)
    rounds = [Round(*(x.double() for x in drawn(seed))) for seed in (2, 3)]
    weights = pair_weights(networks)
    episode = Episode(support=rounds[:1], query=rounds[1:])
    found = maml_gradient(players, weights, episode, inner(2)).gradients["d"]["head.weight"]

    def value(at: Tensor) -> Tensor:
        moved: Weights = {**weights, "d": {**weights["d"], "head.weight": at}}
        *_, last = adapt(players, moved, episode.support, inner(2), derivatives="none")
        *_, held = adapt(players, weights, episode.support, inner(2), derivatives="none")
        return players.losses["d"]({"d": last["d"], "g": held["g"]}, rounds[1])

    step, at = 1e-5, weights["d"]["head.weight"]
    for i in range(at.numel()):
        nudge = torch.zeros_like(at).view(-1)
        nudge[i] = step
        up, down = (value(at + sign * nudge.view_as(at)).item() for sign in (1, -1))
        assert found.view(-1)[i].item() == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "named"), [({"network": "dcgan", "norm_g": "batch"}, "G has"), ({"spectral_norm": True}, "D has")]
)
def test_networks_with_state_are_refused(changes: Mapping[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=f"must have no buffers .*{named}"):
        game_players(pair(**changes), LOSSES["hinge"])


def test_losses_that_cut_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="cuts no weights, but got 'wgan'; try 'wgan_gp'"):
        game_players(pair(), LOSSES["wgan"])


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_heads_and_lower_halves_are_whole_layers_on_the_right_side(network: str) -> None:
    networks = pair(network, norm_g="group", norm_d="group")
    heads, lower = all_but_heads(networks), lower_half(networks)
    weights = pair_weights(networks)
    assert set(weights["d"]) - heads["d"] == {"head.weight", "head.bias"}
    left = set(weights["g"]) - heads["g"]
    assert {name.rpartition(".")[0] for name in left} == {list(weights["g"])[-1].rpartition(".")[0]}
    assert set(lower) == {"d"}
    assert next(iter(weights["d"])) in lower["d"] and "head.weight" not in lower["d"]
    assert lower["d"] == set(list(weights["d"])[: len(lower["d"])])  # all of them next to the image


def test_frozen_weights_stay_and_the_others_move() -> None:
    networks = pair()
    players = game_players(networks, LOSSES["non_saturating"], frozen=lower_half(networks))
    weights, rounds = pair_weights(networks), [drawn(4)]
    for steps in (
        adapt(players, weights, rounds, inner(2), derivatives="none"),
        fine_tune(players, weights, rounds, inner(2)),
    ):
        *_, after = steps
        for name, before in weights["d"].items():
            assert torch.equal(after["d"][name], before) == (name in players.frozen["d"])
        assert not any(torch.equal(after["g"][name], before) for name, before in weights["g"].items())


def test_fine_tuning_is_adam_on_the_modules() -> None:
    networks, rounds = pair(), [drawn(seed) for seed in range(5)]
    *_, found = fine_tune(game_players(networks, LOSSES["hinge"]), pair_weights(networks), rounds, inner(3, 1e-3, 1.5))
    own = pair()
    adam_g = torch.optim.Adam(own.generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    adam_d = torch.optim.Adam(own.discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    game, numbers = Game(loss=LOSSES["hinge"]), {"d": 0, "g": 0}
    for turn in "ddgdgddg":  # 1.5 updates of D to one of G, by error diffusion
        batch = rounds[numbers[turn] % 5]
        numbers[turn] += 1
        adam_g.zero_grad()
        adam_d.zero_grad()
        fake = own.generator(batch.z)
        if turn == "d":
            game.d_loss(own.discriminator, batch.real, fake.detach(), (), None).objective.backward()
            adam_d.step()
        else:
            game.g_loss(own.discriminator, fake, (), None).backward()
            adam_g.step()
    for player, of in pair_weights(own).items():
        for name, weight in of.items():
            torch.testing.assert_close(found[player][name], weight)


def test_joint_gradient_is_that_of_the_losses_on_both_sets() -> None:
    networks, batches = pair(), [drawn(7), drawn(8)]
    players = game_players(networks, LOSSES["non_saturating"])
    episode = Episode(support=batches[:1], query=batches[1:])
    found = joint_gradient(players, pair_weights(networks), episode)
    game = Game(loss=LOSSES["non_saturating"])
    loss = sum(
        game.d_loss(networks.discriminator, b.real, networks.generator(b.z).detach(), (), None).objective
        for b in batches
    )
    loss = loss / 2
    expected = torch.autograd.grad(loss, list(networks.discriminator.parameters()))
    assert found.losses["d"] == pytest.approx(loss.item())
    for gradient, own in zip(found.gradients["d"].values(), expected, strict=True):
        torch.testing.assert_close(gradient, own)


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_side_by_side_is_one_after_the_other(network: str) -> None:
    networks = pair(network)
    players, weights = game_players(networks, LOSSES["non_saturating"], r1=0.1), pair_weights(networks)
    alone = []
    for seed in (10, 11):
        *_, last = adapt(players, weights, [drawn(seed)], inner(3), derivatives="none")
        alone.append(last)
    together = [Round(*map(torch.stack, zip(drawn(10), drawn(11), strict=True)))]
    first: Weights = {p: {n: w.expand(2, *w.shape) for n, w in of.items()} for p, of in weights.items()}
    *_, both = adapt(stacked(players, 2), first, together, inner(3), derivatives="none")
    for i, last in enumerate(alone):
        for player, of in last.items():
            for name, weight in of.items():
                torch.testing.assert_close(both[player][name][i], weight, rtol=1e-4, atol=1e-6)


def test_images_are_those_of_the_weights_given() -> None:
    one, other = pair(), pair()
    with torch.no_grad():
        for weight in other.generator.parameters():
            weight.mul_(1.5)
    z = drawn(0).z
    torch.testing.assert_close(images_of(one, pair_weights(other)["g"], z), other.generator(z).detach())
