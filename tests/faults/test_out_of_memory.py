"""Trials that find no memory: run once more with a larger share of their node."""

import os
import subprocess
import sys
from pathlib import Path

from search_checks import check_whole
from studies import tiny_study, write_study

NETWORKS = """\
import ray
import torch
from my_networks import make_pair as sound


def make_pair(**shape):
    if ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE:
        given = ray.get_runtime_context().get_assigned_resources()["memory"] / 2**20
        with open("SEEN", "a") as seen:
            print(given, file=seen)
        if given < 500:
            torch.empty(2**46)
    return sound(**shape)
"""


def test_what_finds_no_memory_gets_a_larger_share(tmp_path: Path) -> None:
    folder, seen = tmp_path, tmp_path / "seen"
    (folder / "greedy.py").write_text(NETWORKS.replace("SEEN", str(seen)))
    tasks = [{"data": "digits", "budget": 60, "n_samples": 100, "network": "greedy:make_pair"}]
    search = {"trials": 4, "seed": 1, "sampler": "random", "workers": 2, "resources": {"memory_mb": 300.0}}
    study = write_study(folder, tiny_study(tasks=tasks, search=search))
    paths = os.pathsep.join([str(folder), str(Path(__file__).parents[1] / "gan")])
    run = subprocess.run(
        [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", folder / "out", "--allow-import"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rows = check_whole(folder / "out", "tiny", 4, n_points=21)
    assert {row.verdict.status for row in rows if row.verdict} == {"finished"}
    assert set(seen.read_text().split()) == {"300.0", "600.0"}
