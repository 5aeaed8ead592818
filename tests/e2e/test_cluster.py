"""A search on a cluster of several nodes, as processes on this machine."""

import os
import subprocess
import sys
from pathlib import Path

from search_checks import check_whole
from studies import metaopt, tiny_study, write_study

LOCAL = Path(__file__).parents[2] / "cluster" / "local.py"


def test_search_runs_on_the_cluster_at_ray_address_and_leaves_it_running(tmp_path: Path) -> None:
    study = write_study(tmp_path, tiny_study())
    command = [sys.executable, LOCAL, "--nodes", "2", "--cpus", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as cluster:
        try:
            assert cluster.stdout
            line = next(line for line in cluster.stdout if line.startswith("export RAY_ADDRESS="))
            environment = os.environ | {"RAY_ADDRESS": line.strip().partition("=")[2], "RAY_AUTH_MODE": "token"}
            done = metaopt("search", study, "--out", tmp_path / "out", env=environment)
            assert done.returncode == 0, done.stdout + done.stderr
            assert cluster.poll() is None
        finally:
            cluster.terminate()
    check_whole(tmp_path / "out", "tiny", 6, n_points=21)
