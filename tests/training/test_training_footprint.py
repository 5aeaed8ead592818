"""What a training takes of memory, measured."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from metaopt.errors import ConfigError
from metaopt.training.footprint import cap_gpu_memory

_MEASURE = """
import json, sys
from dataclasses import asdict, replace
from metaopt.gan import task_from_spec
from metaopt.schedules import build_schedule
from metaopt.errors import ConfigError
from metaopt.training.footprint import footprint
task = task_from_spec("digits", width=int(sys.argv[1]), n_samples=100)
schedule = build_schedule("constant", {"lr_g": 2e-4, "lr_d": 2e-4, "update_ratio": 1.0})
print(json.dumps(asdict(footprint(task, schedule))))
"""


def _measured(width: int) -> dict[str, float]:
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(width)], capture_output=True, text=True, timeout=600, check=True
    )
    found: dict[str, float] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize(("share", "fraction"), [(0.25, 0.25 - 0.05), (1.0, 0.95)])
def test_the_cap_leaves_the_context_out(monkeypatch: pytest.MonkeyPatch, share: float, fraction: float) -> None:
    capped = _gpu_of(10_000, monkeypatch)
    cap_gpu_memory(share, context_mb=500)
    assert capped == [(pytest.approx(fraction), 3)]


def test_a_share_without_room_for_the_context_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _gpu_of(10_000, monkeypatch)
    with pytest.raises(ConfigError, match=r"more than the 500 MiB of a CUDA context, but 0.05 of this GPU is 500 MiB"):
        cap_gpu_memory(0.05, context_mb=500)


def _gpu_of(memory_mb: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """A GPU, the third, as far as PyTorch's own functions need one; the caps that it is told."""
    capped: list[tuple[float, int]] = []
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=memory_mb * 2**20))
    monkeypatch.setattr(
        torch._C, "_cuda_setMemoryFraction", lambda fraction, device: capped.append((fraction, device)), raising=False
    )
    return capped


def test_the_peak_of_a_process_is_not_that_of_its_parent() -> None:
    child = "from metaopt.training.footprint import peak_memory_mb as peak; print(peak())"
    parent = f"import subprocess, sys; held = b'x' * 1_000_000_000; subprocess.run([sys.executable, '-c', {child!r}])"
    run = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, timeout=600, check=True)
    assert 100 < float(run.stdout) < 950


def test_a_footprint_grows_by_what_larger_networks_hold() -> None:
    small, large = _measured(16), _measured(2048)
    # weights, gradients and Adam's two moments of the hidden layers of both networks
    least_mb = 2 * 4 * 4 * 2048 * 2048 / 2**20
    assert large["memory_mb"] - small["memory_mb"] > 0.9 * least_mb
    assert large["memory_mb"] < small["memory_mb"] + 6 * least_mb
    assert large["process_mb"] == pytest.approx(small["process_mb"], rel=0.2)
