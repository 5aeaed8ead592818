"""One's own networks by import path: what is taken, and a message for each way to break the contract."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metaopt.errors import ConfigError
from metaopt.gan import PairSpec, Task, check_dataset, load_dataset, make_pair

sys.path.insert(0, str(Path(__file__).parent))
GOOD = "my_networks:make_pair"


def _spec(function: str, n_classes: int = 0) -> PairSpec:
    network = function if ":" in function else f"my_networks:{function}"
    return PairSpec(network=network, size=9, channels=3, width=6, z_dim=4, n_classes=n_classes)


@pytest.mark.parametrize("n_classes", [0, 3])
def test_a_pair_that_keeps_the_contract_is_taken_as_it_is_drawn(n_classes: int) -> None:
    first, second = (make_pair(_spec(GOOD, n_classes), torch.Generator().manual_seed(1)) for _ in range(2))
    for mine, again in zip(first.generator.parameters(), second.generator.parameters(), strict=True):
        assert torch.equal(mine, again) and mine.grad is None
    import my_networks

    shape = {"size": 9, "channels": 3, "width": 6, "z_dim": 4, "n_classes": n_classes}
    bare, _ = my_networks.make_pair(generator=torch.Generator().manual_seed(1), **shape)
    assert torch.equal(next(bare.parameters()), next(first.generator.parameters()))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("no_such_package.nets:make_pair", "no module 'no_such_package'; put its folder on PYTHONPATH"),
        ("my_networks:nothing", "must be package.module:function, but: .*no attribute 'nothing'"),
        ("not_callable", "must be a function, but is int"),
        ("only_a_size", "must take the keywords size, channels, width, z_dim, n_classes, generator, but"),
        ("one_network", r"must return two torch modules \(G, D\)"),
        ("from_the_global_state", "weights must be drawn from `generator` alone, but hidden.weight of G differs"),
        ("too_bright", r"images of G must lie in \[-1, 1\], but lie in \[-[12]"),
        ("a_column_of_logits", r"D must give the shape \(4,\), but gave \(4, 1\)"),
        ("not_a_number", "D must give finite numbers"),
        ("an_idle_layer", "gradients must reach every parameter of D, but none reaches idle.weight"),
        ("cut_off", "gradients must reach every parameter of G, but none reaches net.hidden.weight"),
        ("upside_down", r"G must take inputs \(4, 4\), but"),
    ],
)
def test_each_broken_rule_is_named(function: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_pair(_spec(function), torch.Generator().manual_seed(0))


def test_the_contract_is_checked_before_a_task_is_trained() -> None:
    task = Task(name="own", data="digits", network=GOOD, budget=10)
    check_dataset(task, load_dataset("digits"))
    with pytest.raises(ConfigError, match="must give finite numbers"):
        check_dataset(replace(task, network="my_networks:not_a_number"), load_dataset("digits"))


def test_a_changed_source_file_is_another_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = []
    for number in (1, 2):
        (tmp_path / f"nets_{number}.py").write_text(f"from my_networks import *\nnumber = {number}\n\ndef f(): ...\n")
        import importlib

        importlib.invalidate_caches()
        keys.append(Task(name="own", data="digits", network=f"nets_{number}:f", budget=10).key())
    (tmp_path / "nets_1.py").write_text("def f(): ...  # changed\n")
    keys.append(Task(name="own", data="digits", network="nets_1:f", budget=10).key())
    assert len(set(keys)) == 3
