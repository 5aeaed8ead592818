"""What more than one test of commands starts from."""

from pathlib import Path

import pytest

from metaopt.schedules import ScheduleArtifact, save_schedule


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A schedule.json that a richer family departs from."""
    params = {"lr_g": 1e-3, "lr_d": 1e-3, "update_ratio": 1.0, "power": 0.5, "warmup": 0.0}
    return save_schedule(
        ScheduleArtifact(family="power_decay", params=params), tmp_path_factory.mktemp("start") / "decay.json"
    )
