"""The loop that the README shows, run as it stands there, follows a schedule file."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from metaopt.schedules import ScheduleArtifact, save_schedule

README = Path(__file__).parents[2] / "README.md"
RATES = {"lr_g": 2e-3, "lr_d": 1e-3, "update_ratio": 1.5}


def readme_loop() -> str:
    """The one code block of the README that follows a schedule file."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    (loop,) = [block for block in blocks if "ScheduleController(" in block]
    return loop


@pytest.fixture
def steps() -> Iterator[list[tuple[Optimizer, float]]]:
    """The rate in force at each step of any optimizer, read by PyTorch's own hook."""
    seen: list[tuple[Optimizer, float]] = []
    hook = register_optimizer_step_pre_hook(lambda opt, *_: seen.append((opt, opt.param_groups[0]["lr"])))
    yield seen
    hook.remove()


def run(folder: Path, artifact: ScheduleArtifact, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the loop next to a file of `artifact`; returns its variables."""
    save_schedule(artifact, folder / "best_schedule.json")
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(readme_loop(), README, "exec"), names)
    return names


def test_it_is_short() -> None:
    lines = [line for line in readme_loop().splitlines() if line.strip()]
    assert len(lines) <= 25


def test_it_follows_the_rates_and_turns_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[Optimizer, float]]
) -> None:
    params = RATES | {"final_share": 0.1}
    names = run(tmp_path, ScheduleArtifact(family="cosine", params=params), monkeypatch)
    assert len(steps) == 1000  # 500 iterations of two updates
    assert sum(opt is names["opt_d"] for opt, _ in steps) == 600
    for i, (opt, lr) in enumerate(steps):
        assert opt is names["opt_d" if "ddgdg"[i % 5] == "d" else "opt_g"]
        share = 0.1 + 0.9 * (1 + math.cos(math.pi * i / 1000)) / 2
        assert lr == pytest.approx(share * (1e-3 if opt is names["opt_d"] else 2e-3), rel=1e-12)
    assert names["controller"].progress == 1.0


def test_it_feeds_a_closed_loop_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[Optimizer, float]]
) -> None:
    params = RATES | {"h_min": 0.1, "f_max": 2.0, "x_min": 0.2, "x_max": 0.2}
    names = run(tmp_path, ScheduleArtifact(family="gap_aware", params=params), monkeypatch)
    rates_d = [lr for opt, lr in steps if opt is names["opt_d"]]
    assert {lr for opt, lr in steps if opt is names["opt_g"]} == {2e-3}
    assert len(set(rates_d)) >= 50
    assert 1e-4 <= min(rates_d) < max(rates_d) <= 2e-3
    for start in range(0, 600, 10):  # read once in ten updates of D, in force from the next one on
        assert len(set(rates_d[start : start + 10])) == 1
    signals = names["controller"].signals
    assert 0 <= signals.d_accuracy <= 1
    assert -1 <= signals.d_sign <= 1
    assert signals.d_accuracy != 0.5
    assert 0 not in (signals.d_sign, signals.loss_gap, signals.log_grad_ratio)
