"""Nodes of a cluster that go, and that come, while trials run."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
from clusters import LocalCluster, local_cluster, n_training, one_more_node
from search_checks import check_whole
from studies import tiny_study, write_study

from metaopt.search.optuna_space import read_rows


def _search(folder: Path, cluster: LocalCluster, n_trials: int) -> "subprocess.Popen[str]":
    tasks = [{"data": "digits", "budget": 2000, "n_samples": 100, "width": 16}]
    study = tiny_study(tasks=tasks, search={"trials": n_trials, "seed": 1, "sampler": "random"})
    command = [sys.executable, "-m", "metaopt.cli.main", "search", write_study(folder, study), "--out", folder / "out"]
    return subprocess.Popen(command, env=cluster.client, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _wait_for(out: Path, search: "subprocess.Popen[str]", n_ended: int) -> None:
    while not (out / "study.json").exists() or sum(row.verdict is not None for row in read_rows(out, "tiny")) < n_ended:
        assert search.poll() is None, search.stdout and search.stdout.read()
        time.sleep(0.1)


def test_a_node_that_is_lost_loses_no_trial_and_one_that_comes_is_used(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with local_cluster(tmp_path, nodes=1) as cluster, one_more_node(cluster) as node:
        search = _search(tmp_path, cluster, 8)
        _wait_for(out, search, 1)
        here = psutil.Process(node.pid)
        assert n_training(node), "nothing ran on the node that is to be lost"
        for process in [here, *here.children(recursive=True)]:
            process.kill()
        with one_more_node(cluster) as another:
            ended = sum(row.verdict is not None for row in read_rows(out, "tiny"))
            used = False
            while search.poll() is None:
                used = used or n_training(another) > 0
                time.sleep(0.1)
            said = search.stdout.read() if search.stdout else ""
            assert search.returncode == 0, said
            assert ended < 7, "the new node came too late to be used"
            assert used, "nothing ran on the node that came"
    rows = check_whole(out, "tiny", 8, n_points=21)
    assert {row.verdict.status for row in rows if row.verdict} == {"finished"}
