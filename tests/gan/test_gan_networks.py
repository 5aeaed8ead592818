"""Networks: shapes, ranges, gradients, and weights that are a function of the generator alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from metaopt.errors import ConfigError
from metaopt.gan import LOSSES, NETWORKS, Pair, make_pair
from metaopt.gan.networks import check_network_size, halvings

CASES = [(name, size) for name, network in NETWORKS.items() for size in network.sizes]


def _pair(network: str, size: int = 8, channels: int = 1, *, seed: int = 0, width: int = 4) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    return make_pair(network, size=size, channels=channels, width=width, z_dim=5, generator=generator)


def _state(pair: Pair) -> dict[str, Tensor]:
    players = {"g": pair.generator, "d": pair.discriminator}
    return {f"{k}.{name}": value for k, player in players.items() for name, value in player.state_dict().items()}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("network", "size"), CASES)
def test_shapes_and_range(network: str, size: int, channels: int) -> None:
    pair = _pair(network, size, channels)
    images = pair.generator(torch.randn(3, pair.z_dim, generator=torch.Generator().manual_seed(1)))
    assert images.shape == (3, channels, size, size)
    assert images.abs().max() <= 1
    assert images.std() > 0
    assert pair.discriminator(images).shape == (3,)
    assert pair.discriminator.eval()(images[:1]).shape == (1,)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("network", "size"), CASES)
def test_every_parameter_gets_a_gradient(network: str, size: int, channels: int) -> None:
    pair, loss = _pair(network, size, channels), LOSSES["non_saturating"]
    real = torch.rand(4, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    fake = pair.generator(torch.randn(4, pair.z_dim, generator=torch.Generator().manual_seed(2)))
    loss.g_loss(pair.discriminator(fake)).backward()
    for name, parameter in pair.generator.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    pair.discriminator.zero_grad()
    loss.d_loss(pair.discriminator(real), pair.discriminator(fake.detach())).backward()
    for name, parameter in pair.discriminator.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@settings(max_examples=25, deadline=None)
@given(
    case=st.sampled_from(CASES),
    channels=st.sampled_from([1, 3]),
    width=st.integers(1, 9),
    seed=st.integers(0, 2**63 - 1),
)
def test_weights_are_a_function_of_the_generator(case: tuple[str, int], channels: int, width: int, seed: int) -> None:
    before = torch.random.get_rng_state()
    first, second = (_state(_pair(*case, channels, seed=seed, width=width)) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        assert value.isfinite().all(), name


@pytest.mark.parametrize("network", NETWORKS)
def test_other_seeds_give_other_weights(network: str) -> None:
    first, second = _state(_pair(network, seed=0)), _state(_pair(network, seed=1))
    assert all(not torch.equal(value, second[name]) for name, value in first.items() if name.endswith("0.weight"))


def test_weights_do_not_depend_on_the_global_seed() -> None:
    states = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            states.append(_state(_pair("dcgan")))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_dcgan_weights_follow_the_paper() -> None:
    pair = _pair("dcgan", size=32, width=16)
    for module in [*pair.generator.modules(), *pair.discriminator.modules()]:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.weight.numel() > 5000:
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert module.weight.mean().item() == pytest.approx(0.0, abs=0.002)
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1.0, abs=0.03)
            assert not module.bias.any()
            assert torch.equal(module.running_var, torch.ones_like(module.running_var))
            assert not module.running_mean.any()
            assert module.num_batches_tracked == 0


def test_mlp_weights_fill_their_interval() -> None:
    pair = _pair("mlp", size=28, width=64)
    for module in pair.discriminator.modules():
        if isinstance(module, nn.Linear) and module.weight.numel() > 1000:
            bound = module.in_features**-0.5
            assert 0.99 * bound < module.weight.abs().max() <= bound
            assert module.bias.abs().max() <= bound


def test_halvings_leave_two_to_seven_pixels() -> None:
    left = {size: size / 2 ** halvings(size) for size in NETWORKS["dcgan"].sizes}
    assert left == {8: 2, 12: 3, 16: 4, 20: 5, 24: 6, 28: 7, 32: 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "dcgam"}, r"no network 'dcgam'; did you mean 'dcgan'\? Known: mlp, dcgan"),
        (
            {"network": "dcgan", "size": 10},
            r"'dcgan' needs a `size` that is a multiple of 4 in \[8, 32\].*got 10",
        ),
        ({"size": 7}, r"'mlp' needs a `size` that is in \[8, 32\], but got 7"),
        ({"network": "dcgan", "size": 36}, "but got 36"),
        ({"channels": 2}, "`channels` must be 1 or 3, but got 2"),
        ({"width": 0}, "`width >= 1` must hold, but got width=0"),
        ({"z_dim": -1}, "`z_dim >= 1` must hold, but got z_dim=-1"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, object], message: str) -> None:
    good = {"network": "mlp", "size": 8, "channels": 1, "width": 4, "z_dim": 5}
    with pytest.raises(ConfigError, match=message):
        make_pair(**(good | change), generator=torch.Generator())  # type: ignore[arg-type]


def test_check_network_size_passes_what_can_be_built() -> None:
    for network, size in CASES:
        check_network_size(network, size)
