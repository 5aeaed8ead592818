"""Networks: shapes, ranges, gradients, and weights that are a function of the generator alone."""

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from metaopt.errors import ConfigError
from metaopt.gan import LOSSES, NETWORKS, Pair, PairSpec, make_pair
from metaopt.gan.networks import check_network_size, halvings, resolved

CASES = [(name, size) for name, network in NETWORKS.items() for size in network.sizes if size % 8 == 0 or size < 16]


def _spec(network: str, size: int = 8, channels: int = 1, *, width: int = 4, **options: Any) -> PairSpec:
    return PairSpec(network=network, size=size, channels=channels, width=width, z_dim=5, **options)


def _pair(network: str, size: int = 8, channels: int = 1, *, seed: int = 0, width: int = 4, **options: Any) -> Pair:
    spec = _spec(network, size, channels, width=width, **options)
    return make_pair(spec, torch.Generator().manual_seed(seed))


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
    drawn = [name for name, value in first.items() if value.is_floating_point() and value.dim() > 1]
    assert len(drawn) >= 4 and all(not torch.equal(first[name], second[name]) for name in drawn)


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
    assert left == {8: 2, 12: 3, 16: 4, 20: 5, 24: 6, 28: 7, 32: 4, 40: 5, 48: 6, 56: 7, 64: 4}


OPTIONS = [
    dict(zip(("network", "norm_g", "norm_d", "spectral_norm", "n_classes"), values, strict=True))
    for values in product(NETWORKS, ("batch", "group", "none"), ("batch", "group", "none"), (False, True), (0, 3))
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(str(value) for value in o.values()))
def test_every_option_gives_images_and_logits_and_gradients_for_all(options: dict[str, Any]) -> None:
    pair = _pair(size=16, channels=3, **options)
    classes = (torch.tensor([0, 1, 2, 0]),) if options["n_classes"] else ()
    images = pair.generator(torch.randn(4, 5, generator=torch.Generator().manual_seed(1)), *classes)
    logits = pair.discriminator(images, *classes)
    assert images.shape == (4, 3, 16, 16) and images.abs().max() <= 1
    assert logits.shape == (4,)
    (logits * torch.arange(1.0, 5.0)).sum().backward()
    for module in (pair.generator, pair.discriminator):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_the_named_normalisation_is_there_and_no_other(network: str) -> None:
    kinds = {"batch": (nn.BatchNorm1d, nn.BatchNorm2d), "group": (nn.GroupNorm,), "none": ()}
    for norm_g, norm_d in product(kinds, kinds):
        pair = _pair(network, size=16, norm_g=norm_g, norm_d=norm_d)
        for kind, player in ((norm_g, pair.generator), (norm_d, pair.discriminator)):
            found = [m for m in player.modules() if isinstance(m, sum(kinds.values(), ()))]
            assert bool(found) == (kind != "none")
            assert all(isinstance(m, kinds[kind]) for m in found)


@pytest.mark.parametrize("network", NETWORKS)
def test_spectral_norm_bounds_every_weight_of_d_by_one(network: str) -> None:
    pair = _pair(network, size=16, width=8, spectral_norm=True, n_classes=3)
    x = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for _ in range(30):  # one step of power iteration each
        pair.discriminator(x, torch.arange(8) % 3)
    weights = [m.weight for m in pair.discriminator.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Embedding)]
    assert len(weights) >= 3
    for weight in weights:
        assert torch.linalg.matrix_norm(weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_the_projection_discriminator_adds_the_product_of_class_and_features() -> None:
    pair = _pair("mlp", n_classes=3)
    d: Any = pair.discriminator
    x, y = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([2, 0, 1, 2])
    features = d.body(x)
    expected = features @ d.head.weight[0] + d.head.bias + (d.classes.weight[y] * features).sum(1)
    torch.testing.assert_close(d(x, y), expected)
    assert not torch.allclose(d(x, y), d(x, (y + 1) % 3))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_conditional_generator_depends_on_the_class(network: str) -> None:
    pair = _pair(network, n_classes=3)
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    zeros = torch.zeros(4, dtype=torch.int64)
    assert not torch.allclose(pair.generator(z, zeros), pair.generator(z, zeros + 1), atol=1e-6)


def test_resnet_blocks_double_and_halve_as_the_plain_formula_says() -> None:
    """Doubling and the 1 x 1 shortcut are swapped for speed: the same function."""
    pair = _pair("sngan", size=16, norm_g="none", norm_d="none", spectral_norm=False)
    block: Any = pair.generator[2]
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    up = torch.nn.Upsample(scale_factor=2)
    expected = block.second(torch.relu(block.first(up(torch.relu(x))))) + block.shortcut(up(x))
    torch.testing.assert_close(block(x), expected)
    first: Any = pair.discriminator.body[0]  # type: ignore[union-attr]
    pool = torch.nn.AvgPool2d(2)
    x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    expected = pool(first.conv2(torch.relu(first.conv1(x)))) + first.shortcut(pool(x))
    torch.testing.assert_close(first(x), expected)


def test_a_gradient_penalty_takes_batch_norm_out_of_d() -> None:
    assert resolved(_spec("dcgan")).norm_d == "batch"
    assert resolved(_spec("dcgan"), gradient_penalty=True).norm_d == "group"
    assert resolved(_spec("dcgan"), gradient_penalty=True).norm_g == "batch"
    assert resolved(_spec("mlp"), gradient_penalty=True).norm_d == "none"
    with pytest.raises(ConfigError, match="`norm_d` must be group or none where the loss penalises D's gradient"):
        resolved(_spec("dcgan", norm_d="batch"), gradient_penalty=True)


def test_weight_clipping_takes_spectral_norm_out_of_d() -> None:
    assert resolved(_spec("sngan")).spectral_norm
    assert not resolved(_spec("sngan"), weight_clip=True).spectral_norm
    with pytest.raises(ConfigError, match="`spectral_norm` must be false where the loss cuts D's weights"):
        resolved(_spec("dcgan", spectral_norm=True), weight_clip=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "dcgam"}, r"no network 'dcgam'; did you mean 'dcgan'\? Known: mlp, dcgan, sngan, package"),
        (
            {"network": "dcgan", "size": 10},
            r"'dcgan' needs a `size` that is a multiple of 4 in \[8, 28\], a multiple of 8 in .*got 10",
        ),
        ({"size": 7}, r"'mlp' needs a `size` that is in \[8, 64\], but got 7"),
        ({"network": "dcgan", "size": 36}, "but got 36"),
        ({"channels": 2}, "`channels` must be 1 or 3, but got 2"),
        ({"width": 0}, "`width >= 1` must hold, but got width=0"),
        ({"z_dim": -1}, "`z_dim >= 1` must hold, but got z_dim=-1"),
        ({"n_classes": -1}, "`n_classes >= 0` must hold, but got n_classes=-1"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, object], message: str) -> None:
    good = {"network": "mlp", "size": 8, "channels": 1, "width": 4, "z_dim": 5}
    with pytest.raises(ConfigError, match=message):
        PairSpec(**(good | change))  # type: ignore[arg-type]


def test_check_network_size_passes_what_can_be_built() -> None:
    for network, size in CASES:
        check_network_size(network, size)
