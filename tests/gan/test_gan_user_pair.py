"""One's own networks by import path: what is taken, and a message for each way to break the contract."""

import os
import subprocess
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
        ("my_networks:nothing", "must be there, but module 'my_networks' has no 'nothing'"),
        ("with_dropout", "D must be a function of its inputs alone, but two calls differ"),
        ("a_frozen_layer", "every parameter of G must be trained, but hidden.weight is frozen"),
        ("the_same_again", "must build new networks at each call, but G came twice"),
        ("breaks_down", "must build two networks, but: TypeError: nothing to do with keywords"),
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


def _key_in_a_new_process(folder: Path, network: str) -> str:
    code = f"from metaopt.gan import Task; print(Task(name='a', data='digits', network={network!r}, budget=9).key())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, check=True
    )
    return done.stdout.decode()


def test_a_changed_source_file_of_the_package_is_another_task(tmp_path: Path) -> None:
    package = tmp_path / "own_nets"
    package.mkdir()
    (package / "__init__.py").write_text("from own_nets.blocks import f\n")
    (package / "blocks.py").write_text("def f(): ...\n")
    before, again = (_key_in_a_new_process(tmp_path, "own_nets:f") for _ in range(2))
    (package / "blocks.py").write_text("def f(): ...  # changed\n")
    assert before == again != _key_in_a_new_process(tmp_path, "own_nets:f")


def test_a_module_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_nets.py").write_text("def f(:\n")
    with pytest.raises(ConfigError, match="`network` 'broken_nets:f' must be importable, but: SyntaxError"):
        make_pair(_spec("broken_nets:f"), torch.Generator())
