"""A training that eats memory: it is run once more, and then an error that says memory; the search goes on."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory
from search_checks import check_whole, n_ended, wait_until
from studies import tiny_study, write_study

from metaopt.search.optuna_space import read_rows

NETWORKS = """\
import os
import torch
from my_networks import make_pair as sound

EATEN = []


def eat(*_):
    while os.path.exists("HUNGRY"):
        EATEN.append(torch.ones(PORTION, dtype=torch.uint8))
        assert len(EATEN) < 1000, "nobody has ended this process"


def make_pair(**shape):
    g, d = sound(**shape)
    d.register_forward_pre_hook(eat)
    return g, d
"""
N_TRIALS = 12


def _ray_kills_at(share: float) -> dict[str, str]:
    """Ray's own watch over memory, with its limit at a share of what is free now."""
    total = get_system_memory()
    used = get_used_memory()
    limit = (used + share * min(total - used, psutil.virtual_memory().available)) / total
    return {"RAY_memory_usage_threshold": f"{limit:.4f}", "RAY_memory_monitor_refresh_ms": "100"}


@pytest.mark.parametrize("kind", ["refused", "killed"])
def test_what_eats_memory_is_named_and_the_search_goes_on(tmp_path: Path, kind: str) -> None:
    out, hungry = tmp_path / "out", tmp_path / "hungry"
    portion = "2**50" if kind == "refused" else "2**28"
    (tmp_path / "eating.py").write_text(NETWORKS.replace("HUNGRY", str(hungry)).replace("PORTION", portion))
    tasks = [{"data": "digits", "budget": 60, "n_samples": 100, "network": "eating:make_pair"}]
    search = {"trials": N_TRIALS, "seed": 1, "sampler": "random", "workers": 1}
    study = write_study(tmp_path, tiny_study(tasks=tasks, search=search))
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1] / "gan")])
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out, "--allow-import"]
    environment = os.environ | {"PYTHONPATH": paths} | (_ray_kills_at(0.5) if kind == "killed" else {})
    log = tmp_path / "log"
    with log.open("w") as said, subprocess.Popen(command, env=environment, stdout=said, stderr=said) as process:
        wait_until(process, log.read_text, lambda: n_ended(out, status="finished") > 0)
        hungry.touch()
        wait_until(process, log.read_text, lambda: n_ended(out, status="error") > 0)
        hungry.unlink()
        assert process.wait(600) == 0, log.read_text()
    errors = [row.verdict.reason for row in read_rows(out, "tiny") if row.verdict and row.verdict.status == "error"]
    rows = check_whole(out, "tiny", N_TRIALS, n_points=21, n_errors=len(errors))
    assert all(reason.startswith("out of memory: ") for reason in errors), errors
    assert 1 <= len(errors) <= 2, "the next trial may have begun to eat, too"
    assert sum(row.verdict is not None and row.verdict.status == "finished" for row in rows) == N_TRIALS - len(errors)
    assert "out of memory: " in log.read_text()
