"""What a training takes of memory, measured."""

import json
import subprocess
import sys

import pytest

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


def test_a_footprint_grows_by_what_larger_networks_hold() -> None:
    small, large = _measured(16), _measured(2048)
    # weights, gradients and Adam's two moments of the hidden layers of both networks
    least_mb = 2 * 4 * 4 * 2048 * 2048 / 2**20
    assert large["memory_mb"] - small["memory_mb"] > 0.9 * least_mb
    assert large["memory_mb"] < small["memory_mb"] + 6 * least_mb
    assert large["process_mb"] == pytest.approx(small["process_mb"], rel=0.2)
