"""initialisation.safetensors: read back bit for bit, refused where anything is wrong, and never run."""

import json
import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from schedule_strategies import families_with_params
from torch import Tensor

from metaopt.errors import ArtifactError, ConfigError, StorageError
from metaopt.gan import LOSSES, Pair, PairSpec, make_pair
from metaopt.meta.maml import (
    Initialisation,
    MetaTraining,
    Rates,
    adapt,
    find_algorithm,
    load_initialisation,
    load_into,
    save_initialisation,
)
from metaopt.meta.maml.games import Round, game_players, lower_half, pair_weights
from metaopt.meta.maml.initialisation_file import MAX_HEADER_BYTES
from metaopt.schedules import Family

SPEC = PairSpec(network="mlp", size=8, channels=1, width=3, z_dim=2, norm_g="none", norm_d="none", spectral_norm=False)
TTUR = {"lr_g": 5e-4, "lr_d": 1e-4}
ON_DISK = [HealthCheck.function_scoped_fixture]  # each example writes the file anew


def pair(spec: PairSpec = SPEC, seed: int = 0) -> Pair:
    return make_pair(spec, torch.Generator().manual_seed(seed))


def initialisation(**fields: Any) -> Initialisation:
    usual: dict[str, Any] = {
        "spec": SPEC,
        "loss": "lsgan",
        "r1": 0.5,
        "family": "ttur",
        "params": TTUR,
        "steps": 3,
        "batch": 4,
        "algorithm": "fomaml",
        "trained_on": ("digits-0", "glyphs"),
        "score": -0.25,
        "provenance": {"seed": 1, "of": "a test", "none": None, "rate": 0.1},
    }
    usual |= fields
    if "weights" not in usual:
        usual["weights"] = pair_weights(pair(usual["spec"]))
    return Initialisation(**usual)


def same_tensors(a: Mapping[Any, Mapping[str, Tensor]], b: Mapping[Any, Mapping[str, Tensor]]) -> bool:
    """Whether players, names, shapes and bits are the same."""
    return {p: set(of) for p, of in a.items()} == {p: set(of) for p, of in b.items()} and all(
        w.shape == b[p][n].shape and w.numpy().tobytes() == b[p][n].numpy().tobytes()
        for p, of in a.items()
        for n, w in of.items()
    )


def same(a: Initialisation, b: Initialisation) -> bool:
    plain = [{name: value for name, value in vars(one).items() if name not in ("weights", "rates")} for one in (a, b)]
    if (a.rates is None) != (b.rates is None) or plain[0] != plain[1]:
        return False
    if a.rates is not None and b.rates is not None:
        return (
            a.rates.per_step == b.rates.per_step
            and same_tensors(a.rates.values, b.rates.values)
            and same_tensors(a.weights, b.weights)
        )
    return same_tensors(a.weights, b.weights)


def learned_rates(algorithm: str, seed: int = 3) -> Rates:
    """Multipliers that meta-training starts with, made random."""
    start = initialisation()
    loop = start.inner()
    training = MetaTraining(
        start.players(pair()), start.weights, loop, find_algorithm(algorithm), lr=1e-3, iterations=1
    )
    assert training.rates is not None
    random = torch.Generator().manual_seed(seed)
    return replace(
        training.rates,
        values={
            p: {n: torch.rand(w.shape, generator=random) for n, w in of.items()}
            for p, of in training.rates.values.items()
        },
    )


# What is written is read back


@settings(max_examples=30, suppress_health_check=ON_DISK)
@given(
    schedule=families_with_params(),
    r1=st.floats(0, 1e6),
    steps=st.integers(1, 10**6),
    batch=st.integers(1, 4096),
    how=st.sampled_from(["sgd", "adam"]),
    trained_on=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    provenance=st.dictionaries(st.text(max_size=8), st.none() | st.text() | st.integers(-9, 9), max_size=3),
)
def test_what_is_saved_is_loaded(tmp_path: Path, schedule: tuple[Family, dict[str, float]], **fields: Any) -> None:
    init = initialisation(family=schedule[0].name, params=schedule[1], **fields)
    path = tmp_path / "a.safetensors"
    assert save_initialisation(init, path) == path
    assert same(load_initialisation(path), init)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("algorithm", ["meta_sgd", "maml_plus"])
def test_rates_and_what_is_frozen_are_loaded(tmp_path: Path, algorithm: str) -> None:
    rates = learned_rates(algorithm)
    assert rates.per_step == (algorithm == "maml_plus")
    frozen = {"d": frozenset(list(pair_weights(pair())["d"])[:2])}
    moving = {p: {n: w for n, w in of.items() if n not in frozen.get(p, ())} for p, of in rates.values.items()}
    init = initialisation(rates=replace(rates, values=moving), frozen=frozen, algorithm=algorithm)
    loaded = load_initialisation(save_initialisation(init, tmp_path / "new" / "a.safetensors"))
    assert same(loaded, init)
    assert loaded.rates is not None and same_tensors(loaded.rates.values, moving)
    assert loaded.frozen == frozen


def test_extreme_numbers_keep_their_bits(tmp_path: Path) -> None:
    weights = {p: {n: w.clone() for n, w in of.items()} for p, of in pair_weights(pair()).items()}
    odd = torch.tensor([-0.0, 1e-45, 3.4028235e38, -1.17549435e-38])
    weights["g"]["0.weight"].view(-1)[:4] = odd
    init = load_initialisation(save_initialisation(initialisation(weights=weights), tmp_path / "a"))
    assert init.weights["g"]["0.weight"].view(-1)[:4].numpy().tobytes() == odd.numpy().tobytes()


def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    one, two = (
        save_initialisation(initialisation(provenance=provenance), tmp_path / name)
        for name, provenance in (("a", {"x": 1, "y": 2}), ("b", {"y": 2, "x": 1}))
    )
    assert one.read_bytes() == two.read_bytes()
    with safe_open(one, "pt") as file:
        assert list(file.metadata()) == ["metaopt"]
        assert {"g.0.weight", "d.head.bias"} < set(file.keys())


def test_its_tensors_are_its_own() -> None:
    source = pair()
    init = initialisation(weights=pair_weights(source))
    before = init.weights["g"]["0.weight"].clone()
    with torch.no_grad():
        source.generator[0].weight.zero_()
    assert torch.equal(init.weights["g"]["0.weight"], before)


# What it is good for


def test_its_pair_has_its_weights() -> None:
    init = initialisation(weights=pair_weights(pair(seed=7)))
    assert same_tensors(pair_weights(init.pair()), pair_weights(pair(seed=7)))


def test_its_inner_loop_is_its_schedule() -> None:
    init = initialisation(family="constant", params={"lr_g": 0.5, "lr_d": 0.25, "update_ratio": 2.0})
    _, controls = init.inner().schedule.step(init.inner().schedule.init(), _signals())
    assert (controls.lr_g, controls.lr_d, controls.update_ratio) == (0.5, 0.25, 2.0)
    assert (init.inner().steps, init.inner(9).steps) == (3, 9)
    with pytest.raises(ConfigError, match="`steps >= 1` must hold, but got steps=0"):
        init.inner(0)


def _signals() -> Any:
    from metaopt.schedules import Signals

    return Signals(progress=0.0)


def test_its_players_have_its_loss_r1_and_frozen_weights() -> None:
    frozen = lower_half(pair())
    init = initialisation(frozen=frozen, family="constant", params={"lr_g": 0.1, "lr_d": 0.1, "update_ratio": 1.0})
    random = torch.Generator().manual_seed(5)
    shape = (4, 1, 8, 8)
    rounds = [
        Round(
            real=torch.rand(shape, generator=random),
            z=torch.randn(4, 2, generator=random),
            u=torch.rand(4, 1, 1, 1, generator=random),
        )
    ]
    direct = game_players(pair(), LOSSES["lsgan"], r1=0.5, frozen=frozen)
    mine, theirs = (
        list(adapt(players, init.weights, rounds, init.inner(), derivatives="none"))[-1]
        for players in (init.players(init.pair()), direct)
    )
    assert all(torch.equal(w, theirs[p][n]) for p, of in mine.items() for n, w in of.items())
    moved = {n for n, w in mine["d"].items() if not torch.equal(w, init.weights["d"][n])}
    assert moved and moved.isdisjoint(frozen["d"])


def test_weights_are_copied_into_networks_of_ones_own() -> None:
    mine = pair(seed=4)
    mine.generator.double()
    load_into(initialisation(), mine)
    for name, weight in mine.generator.named_parameters():
        assert weight.dtype == torch.float64 and weight.requires_grad
        assert torch.equal(weight.float(), initialisation().weights["g"][name])
    assert same_tensors({"d": pair_weights(mine)["d"]}, {"d": initialisation().weights["d"]})


def test_all_that_does_not_fit_ones_own_networks_is_listed_and_nothing_is_copied() -> None:
    mine = pair(replace(SPEC, width=5))
    before = {p: {n: w.clone() for n, w in of.items()} for p, of in pair_weights(mine).items()}
    with pytest.raises(ArtifactError) as caught:
        load_into(initialisation(), mine)
    for name, there, needed in (
        ("g.0.weight", (3, 2), (5, 2)),
        ("g.0.bias", (3,), (5,)),
        ("g.2.weight", (3, 3), (5, 5)),
        ("g.4.weight", (64, 3), (64, 5)),
        ("d.body.1.weight", (3, 64), (5, 64)),
        ("d.head.weight", (1, 3), (1, 5)),
    ):
        assert f"{name}: {there} is there, {needed} is needed" in str(caught.value)
    assert "g.4.bias" not in str(caught.value)  # (64,) in both
    assert "d.head.bias" not in str(caught.value)
    assert same_tensors(pair_weights(mine), before)


def test_networks_with_buffers_are_none_that_it_fits() -> None:
    group = replace(SPEC, norm_g="group", norm_d="none")
    batch = pair(replace(group, norm_g="batch"))
    with pytest.raises(ArtifactError, match=r"g.1.running_mean: nothing is there, a buffer \(3,\) is needed"):
        load_into(initialisation(spec=group), batch)


# What must hold at birth


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "`steps >= 1` must hold, but got steps=0"),
        ({"batch": 0}, "`1 <= batch <= 4096` must hold, but got batch=0"),
        ({"batch": 4097}, "`1 <= batch <= 4096` must hold, but got batch=4097"),
        ({"steps": True}, "`steps` must be of type int, but got True"),
        ({"batch": 1.0}, "`batch` must be of type int, but got 1.0"),
        ({"r1": -1.0}, "`r1` must be a finite number >= 0, but got -1.0"),
        ({"r1": math.nan}, "`r1` must be a finite number >= 0, but got nan"),
        ({"score": math.inf}, "`score` must be a finite number or None, but got inf"),
        ({"loss": "wgan"}, "There is no `loss` of an initialisation 'wgan'; did you mean 'wgan_gp'?"),
        ({"loss": ["lsgan"]}, "`loss` must be of type str"),
        ({"how": "rmsprop"}, "There is no `how` of an initialisation 'rmsprop'"),
        ({"algorithm": "fomal"}, "There is no algorithm 'fomal'; did you mean 'fomaml'?"),
        ({"family": "tur"}, "There is no family 'tur'; did you mean 'ttur'?"),
        ({"params": {"lr_g": 1e-3}}, "Family 'ttur' needs `params.lr_d`"),
        ({"params": {"lr_g": 1e-3, "lr_d": math.inf}}, "`params.lr_d` must be a finite number, but got inf"),
        ({"trained_on": "digits"}, "`trained_on` must be of type tuple, but got 'digits'"),
        ({"trained_on": (1,)}, "`trained_on` must be names"),
        ({"provenance": {"x": math.nan}}, "but got 'x': nan"),
        ({"provenance": {"x": [1]}}, "but got 'x': [1]"),
        ({"provenance": {1: 1}}, "but got 1: 1"),
        ({"frozen": {"d": frozenset({"nothing"})}}, "`frozen` must name weights of 'd', but names ['nothing']"),
        ({"frozen": {"e": frozenset()}}, "`frozen` must be of the players 'g' and 'd', but has 'e'"),
        ({"weights": {"g": {}}}, "`weights` must be of the players 'g' and 'd', but are of ['g']"),
        ({"weights": {"g": {}, "d": {"a": torch.tensor([0.0, math.nan])}}}, "d.a must be finite, but has NaN"),
        ({"weights": {"g": {"a": torch.tensor([1])}, "d": {}}}, "g.a must be of float32, but is of torch.int64"),
        ({"rates": Rates(values={"g": {}, "d": {}})}, "`rates` must be of all weights of 'g' that move, but differ in"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        initialisation(**fields)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_classes": 3}, "`n_classes == 0` must hold for an initialisation, but got 3"),
        ({"norm_g": "batch"}, "group norm or none, and no spectral norm, but got norm_g=batch"),
        ({"network": "dcgan", "norm_g": None, "norm_d": None}, "got norm_g=batch, norm_d=batch, spectral_norm=False"),
        ({"spectral_norm": True}, "spectral_norm=True"),
        ({"width": 10**9}, "`width <= 65536` must hold, but got width=1000000000"),
        ({"z_dim": 10**9}, "`z_dim <= 65536` must hold"),
        ({"network": "os.path:a b"}, "must be package.module:function, of names as Python has them"),
        ({"network": "a.b:f", "size": 65}, "`size` must be a whole number from 8 to 64 pixels"),
    ],
)
def test_a_spec_that_cannot_be_adapted_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        initialisation(spec=replace(SPEC, **changes), weights=pair_weights(pair()))


@pytest.mark.parametrize(("algorithm", "shape", "needed"), [("meta_sgd", (3, 9), (3, 2)), ("maml_plus", (2,), (3,))])
def test_rates_of_another_shape_are_refused(algorithm: str, shape: tuple[int, ...], needed: tuple[int, ...]) -> None:
    rates = learned_rates(algorithm)
    values = {p: dict(of) for p, of in rates.values.items()}
    values["g"]["0.weight"] = torch.ones(shape)
    with pytest.raises(ConfigError, match=re.escape(f"rate.g.0.weight: {shape} is there, {needed} is needed")):
        initialisation(rates=replace(rates, values=values))


# Files that are wrong. A digest of ours, as docs/initialisations.md has it, so that only what is forged is wrong.


def forge(path: Path, header: object = None, tensors: Mapping[str, Tensor] | None = None, **changes: Any) -> Path:
    """A file with another header (changed, or as it is given) or other tensors (None: removed), and their digest."""
    save_initialisation(initialisation(), path)
    with safe_open(path, "pt") as file:
        content = {name: file.get_tensor(name) for name in file.keys() if name != "digest"}  # noqa: SIM118
        own = json.loads(file.metadata()["metaopt"])
    content = {name: w for name, w in (content | dict(tensors or {})).items() if w is not None}
    own = {key: value for key, value in (own | changes).items() if value is not ...}
    text = header if isinstance(header, str) else json.dumps(own if header is None else header)
    digest = sha256(text.encode())
    for name in sorted(content):
        digest.update(f"\n{name} {tuple(content[name].shape)}\n".encode() + content[name].numpy().tobytes())
    content["digest"] = torch.tensor(list(digest.digest()), dtype=torch.uint8)
    save_file(content, path, metadata={"metaopt": text})
    return path


def test_a_forged_file_without_changes_is_loaded(tmp_path: Path) -> None:
    """Else the tests below would refuse it for its digest alone."""
    assert same(load_initialisation(forge(tmp_path / "a")), initialisation())


SPEC_JSON = asdict(SPEC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"header": "{"}, "the header must be JSON, but it is not"),
        ({"header": "[" * 200_000}, "the header must be JSON, but it is not"),
        ({"header": "1" * 5000}, "the header must be JSON, but it is not"),
        ({"header": [1]}, "the header must be a JSON object, but got list"),
        ({"header": {}}, "`format` must be 'metaopt.initialisation/1', but got None"),
        ({"format": "metaopt.initialisation/2"}, "'metaopt.initialisation/1', but got 'metaopt.initialisation/2'"),
        ({"more": 1}, "the header must have no other keys than format, spec, loss"),
        ({"steps": ...}, "the header must have `steps`, but it is missing"),
        ({"steps": "3"}, "`steps` must be of type int, but got '3'"),
        ({"steps": 0}, "`steps >= 1` must hold, but got steps=0"),
        ({"r1": math.nan}, "`r1` must be a finite number >= 0, but got nan"),
        ({"loss": {}}, "`loss` must be of type str, but got {}"),
        ({"family": []}, "`family` must be of type str, but got []"),
        ({"params": [1]}, "`params` must be of type Mapping, but got [1]"),
        ({"params": {"lr_g": 1e400, "lr_d": 1.0}}, "`params.lr_g` must be a finite number, but got inf"),
        ({"provenance": {"x": {}}}, "but got 'x': {}"),
        ({"trained_on": "digits"}, "`trained_on` must be a list of strings, but got 'digits'"),
        ({"frozen": []}, "`frozen` must be an object, but got []"),
        ({"frozen": {"g": "0.weight"}}, "`frozen.g` must be a list of strings, but got '0.weight'"),
        ({"frozen": {"x": []}}, "`frozen` must be of the players 'g' and 'd', but has 'x'"),
        ({"rates_per_step": True}, "`rates` must be of all weights of 'g' that move"),
        ({"rates_per_step": 1}, "`rates_per_step` must be true or false where there are rates, but got 1"),
        ({"tensors": {"rate.g.0.bias": torch.ones(3)}}, "`rates_per_step` must be true or false"),
        ({"spec": 1}, "`spec` must be an object, but got 1"),
        ({"spec": {}}, "`spec` must have `network`, but it is missing"),
        ({"spec": SPEC_JSON | {"code": "1"}}, "`spec` must have no other keys than network, size"),
        ({"spec": SPEC_JSON | {"size": "8"}}, "`spec.size` must be int, but got '8'"),
        ({"spec": SPEC_JSON | {"width": True}}, "`spec.width` must be int, but got True"),
        ({"spec": SPEC_JSON | {"norm_g": "layer"}}, "`norm_g` must be one of batch, group, none, but got 'layer'"),
        ({"spec": SPEC_JSON | {"spectral_norm": 0}}, "`spec.spectral_norm` must be bool or null, but got 0"),
        ({"spec": SPEC_JSON | {"network": "mpl"}}, "There is no network 'mpl'; did you mean 'mlp'?"),
        ({"spec": SPEC_JSON | {"width": 10**12}}, "`width <= 65536` must hold"),
        ({"tensors": {"g.0.bias": torch.tensor([0.0, math.inf, 0.0])}}, "g.0.bias must be finite, but has NaN or inf"),
        ({"tensors": {"g.0.bias": torch.zeros(3).double()}}, "g.0.bias must be of float32, but is of torch.float64"),
        ({"tensors": {"e.0.bias": torch.zeros(3)}}, "names of tensors must start with one of g., d., rate.g., rate.d."),
    ],
)  # fmt: skip
def test_a_file_with_something_wrong_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = forge(tmp_path / "a", **changes)
    with pytest.raises(ArtifactError, match=re.escape(message)) as caught:
        load_initialisation(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_all_that_does_not_fit_the_files_own_networks_is_listed(tmp_path: Path) -> None:
    changes = {
        "g.0.weight": torch.zeros(3, 7),
        "g.2.bias": None,
        "d.body.1.weight": torch.zeros(64, 3),
        "d.more.weight": torch.zeros(5),
        "g.\x1b[2J": torch.zeros(()),
    }
    path = forge(tmp_path / "a", tensors=changes)
    with pytest.raises(ArtifactError) as caught:
        load_initialisation(path)
    assert str(caught.value) == (
        f"{path}: weights must fit the networks, but 5 do not: "
        f"g.0.weight: (3, 7) is there, (3, 2) is needed; g.2.bias: nothing is there, (3,) is needed; "
        f"g.\\x1b[2J: () is there, nothing is needed; "
        f"d.body.1.weight: (64, 3) is there, (3, 64) is needed; d.more.weight: (5,) is there, nothing is needed."
    )


def test_a_long_list_is_whole(tmp_path: Path) -> None:
    wide = replace(SPEC, width=4, network="dcgan", norm_g="group", norm_d="group", size=64)
    path = forge(tmp_path / "a", spec=asdict(wide))
    with pytest.raises(ArtifactError) as caught:
        load_initialisation(path)
    needed = pair_weights(pair(wide))
    for player, of in needed.items():
        for name, weight in of.items():
            if weight.shape != initialisation().weights[player].get(name, torch.empty(0)).shape:
                assert f"{player}.{name}: " in str(caught.value)
    assert len(str(caught.value)) > 1000


def test_what_would_be_refused_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"g.0.weight: \(3, 2\) is there, \(5, 2\) is needed"):
        save_initialisation(replace(initialisation(), spec=replace(SPEC, width=5)), tmp_path / "a")
    with pytest.raises(ArtifactError, match=f"the header must have at most {MAX_HEADER_BYTES} bytes, but has"):
        save_initialisation(initialisation(provenance={"x": "x" * MAX_HEADER_BYTES}), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_other_tensors_is_none_of_ours(tmp_path: Path) -> None:
    save_file({"g.0.weight": torch.zeros(2)}, tmp_path / "a")
    with pytest.raises(ArtifactError, match="an initialisation must have `metaopt` in its metadata"):
        load_initialisation(tmp_path / "a")


def test_a_header_that_is_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a", metadata={"metaopt": "[" * MAX_HEADER_BYTES})
    with pytest.raises(ArtifactError, match=f"the header must have at most {MAX_HEADER_BYTES} bytes, but has 1000"):
        load_initialisation(tmp_path / "a")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="none: the file cannot be read: No such file or directory"):
        load_initialisation(tmp_path / "none")
    with pytest.raises(ArtifactError, match="an initialisation must be a file, but this is a folder or a device"):
        load_initialisation(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="an initialisation must be a file"):
        load_initialisation(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**30 + 1)  # takes no room
    with pytest.raises(ArtifactError, match="at most 1073741824 bytes, but it has 1073741825"):
        load_initialisation(tmp_path / "large")
    with pytest.raises(ArtifactError, match="the home folder of '~nobody-of-that-name/a' must exist"):
        load_initialisation("~nobody-of-that-name/a")


# Damage


@cache
def content() -> bytes:
    """A file's."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        return save_initialisation(initialisation(), Path(folder) / "a").read_bytes()


def header_end() -> int:
    return 8 + int.from_bytes(content()[:8], "little")


def refused_or_equal(path: Path, raw: bytes) -> bool:
    """Whether it is refused; if not, it is as it was."""
    path.write_bytes(raw)
    try:
        loaded = load_initialisation(path)
    except ArtifactError:
        return True
    assert same(loaded, initialisation())
    return False


def test_every_torn_file_is_refused(tmp_path: Path) -> None:
    ends = {*range(0, header_end() + 40, 7), *range(header_end(), len(content()), 101), len(content()) - 1}
    for end in sorted(ends):
        assert refused_or_equal(tmp_path / "a", content()[:end]), end


def test_more_at_the_end_is_refused(tmp_path: Path) -> None:
    assert refused_or_equal(tmp_path / "a", content() + b"\0")


def test_a_flipped_byte_anywhere_in_the_header_is_seen(tmp_path: Path) -> None:
    """All but those in the padding, which mean nothing."""
    padded = len(content()[: header_end()]) - len(content()[: header_end()].rstrip(b" "))
    for at in range(header_end()):
        raw = bytearray(content())
        raw[at] ^= 1
        assert refused_or_equal(tmp_path / "a", bytes(raw)) or at >= header_end() - padded, at


@settings(max_examples=300, suppress_health_check=ON_DISK)
@given(data=st.data())
def test_damage_is_refused_or_means_nothing(tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(content())
    for at in data.draw(
        st.lists(st.integers(0, len(raw) - 1) | st.integers(0, header_end() - 1), min_size=1, max_size=4)
    ):
        raw[at] = data.draw(st.integers(0, 255))
    refused_or_equal(tmp_path / "a", bytes(raw))


@settings(max_examples=200, suppress_health_check=ON_DISK)
@given(raw=st.binary(max_size=200))
def test_noise_is_refused(tmp_path: Path, raw: bytes) -> None:
    assert refused_or_equal(tmp_path / "a", raw)


def test_a_flipped_weight_is_seen(tmp_path: Path) -> None:
    """safetensors itself would load it."""
    raw = bytearray(content())
    raw[-3] ^= 1
    (tmp_path / "a").write_bytes(bytes(raw))
    with pytest.raises(ArtifactError, match="must have the digest that is stored with it: the file is damaged"):
        load_initialisation(tmp_path / "a")


# Nothing is run


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def _torch_saved(evil: Evil, path: Path) -> None:
    torch.save({"weights": evil}, path)


def _torch_saved_of_old(evil: Evil, path: Path) -> None:
    torch.save({"weights": evil}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    "write",
    [
        _torch_saved,
        _torch_saved_of_old,
        *(lambda evil, path, p=p: path.write_bytes(pickle.dumps(evil, protocol=p)) for p in range(2, 6)),
    ],
)
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, write: Callable[[Evil, Path], None]) -> None:
    ran = tmp_path / "ran"
    write(Evil(ran), tmp_path / "a")
    with pytest.raises(ArtifactError, match="the file holds a pickle, which could run code: refused"):
        load_initialisation(tmp_path / "a")
    assert not ran.exists()
    torch.load(tmp_path / "a", weights_only=False) if "torch" in write.__name__ else pickle.loads(
        (tmp_path / "a").read_bytes()
    )
    assert ran.exists()  # the pickle does what it should not


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_pickle_of_old_is_refused_too(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps(Evil(tmp_path / "ran"), protocol=protocol))
    with pytest.raises(ArtifactError, match="the file must be whole, and of safetensors, but is not"):
        load_initialisation(tmp_path / "a")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_inside_is_refused(tmp_path: Path) -> None:
    evil = pickle.dumps(Evil(tmp_path / "ran"))
    tensor = torch.tensor(list(evil), dtype=torch.uint8)
    path = forge(tmp_path / "a", tensors={"g.0.weight": tensor})
    with pytest.raises(ArtifactError, match=r"g.0.weight must be of float32, but is of torch.uint8"):
        load_initialisation(path)
    forge(path, header=evil.decode("latin-1"))
    with pytest.raises(ArtifactError, match="the header must be JSON"):
        load_initialisation(path)
    assert not (tmp_path / "ran").exists()


def test_a_good_file_that_starts_as_a_pickle_does_is_loaded(tmp_path: Path) -> None:
    """The first bytes are the length of the header, which may be anything."""
    note = "x" * 60_000
    for _ in range(2):
        path = save_initialisation(initialisation(provenance={"note": note}), tmp_path / "a")
        note += "x" * (0x10480 - int.from_bytes(path.read_bytes()[:8], "little"))
    assert path.read_bytes().startswith(b"\x80\x04")
    assert load_initialisation(path).provenance["note"] == note


NETWORKS_CODE = """
import pathlib
import torch
pathlib.Path({ran!r}).touch()

def build(*, size, channels, width, z_dim, n_classes, generator):
    from metaopt.gan import PairSpec, make_pair
    made = make_pair(
        PairSpec(network="mlp", size=size, channels=channels, width=width + {wider}, z_dim=z_dim), generator
    )
    return made.generator, made.discriminator
"""


def test_networks_of_ones_own_are_imported_by_pair_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, wider in (("nets_that_fit", 0), ("nets_too_wide", 2)):
        ran = tmp_path / f"{name}_ran"
        (tmp_path / f"{name}.py").write_text(NETWORKS_CODE.format(ran=str(ran), wider=wider))
        spec = replace(SPEC, network=f"{name}:build", norm_g=None, norm_d=None, spectral_norm=None)
        path = save_initialisation(initialisation(spec=spec, weights=pair_weights(pair())), tmp_path / name)
        loaded = load_initialisation(path)
        assert name not in sys.modules and not ran.exists()
        if wider:
            with pytest.raises(ArtifactError, match=r"g.0.weight: \(3, 2\) is there, \(5, 2\) is needed"):
                loaded.pair()
        else:
            assert same_tensors(pair_weights(loaded.pair()), pair_weights(pair()))
        assert ran.exists()


def test_networks_that_cannot_be_imported_are_said(tmp_path: Path) -> None:
    spec = replace(SPEC, network="not_installed_here.nets:build")
    path = save_initialisation(initialisation(spec=spec, weights=pair_weights(pair())), tmp_path / "a")
    with pytest.raises(ConfigError, match="no module 'not_installed_here'; put its folder on PYTHONPATH"):
        load_initialisation(path).pair()


# A disk that is full


SCRIPT = """
mount -t tmpfs -o size=64k tmpfs {disk}
{python} - <<'END'
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_meta_initialisation import SPEC, StorageError, initialisation, replace, same
from metaopt.meta.maml import load_initialisation, save_initialisation
file = Path({disk!r}) / "a.safetensors"
small, large = initialisation(), initialisation(spec=replace(SPEC, width=100))
save_initialisation(small, file)
try:
    save_initialisation(large, file)
except StorageError as error:
    print(error)
assert same(load_initialisation(file), small)
print([path.name for path in file.parent.iterdir()])
END
"""


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    here = Path(__file__)
    script = SCRIPT.format(disk=str(disk), python=sys.executable, path=[str(here.parent), str(here.parents[1])])
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        check=False, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, files = done.stdout.splitlines()
    assert said == f"{disk}/a.safetensors could not be written: No space left on device."
    assert files == "['a.safetensors']"


def test_a_place_that_is_none_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"could not be written: (Not a directory|File exists)\."):
        save_initialisation(initialisation(), tmp_path / "file" / "a")


def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = Path(__file__).parents[2] / "docs" / "initialisations.md"
    (code,) = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert not names["last"].diverged and names["last"].iteration == 20
    assert names["made"].shape == (16, 1, 8, 8)
    loaded = load_initialisation(tmp_path / "initialisation.safetensors")
    assert loaded.trained_on == tuple(f"digits-{c}" for c in range(7))
    assert not same_tensors(loaded.weights, names["start"].weights)
    described = set(re.findall(r"`(\w+)`", guide.read_text(encoding="utf-8").partition("| key |")[2]))
    with safe_open(tmp_path / "initialisation.safetensors", "pt") as file:
        assert set(json.loads(file.metadata()["metaopt"])) <= described
