"""Trials that are measured, on nodes of different kinds: each node gets as many as it has room for."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from clusters import local_cluster, n_training, one_more_node
from search_checks import check_whole
from studies import tiny_study, write_study

N_TRIALS = 8


def test_a_node_with_many_cpus_and_little_memory_gets_what_its_memory_holds(tmp_path: Path) -> None:
    tasks = [{"data": "digits", "budget": 1500, "n_samples": 100, "width": 16}]
    search = {"trials": N_TRIALS, "seed": 1, "sampler": "random", "resources": "auto"}
    study, out = write_study(tmp_path, tiny_study(tasks=tasks, search=search)), tmp_path / "out"
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out]
    many_cpus, log = ("--num-cpus=6", f"--memory={1500 * 2**20}"), tmp_path / "log"
    with (
        local_cluster(tmp_path, nodes=1) as cluster,
        one_more_node(cluster, resources=many_cpus) as node,
        log.open("w") as output,
        subprocess.Popen(command, env=cluster.client, stdout=output, stderr=output) as process,
    ):
        seen = set()
        while process.poll() is None:
            seen.add(n_training(node))
            time.sleep(0.2)
    said = log.read_text()
    assert process.returncode == 0, said
    takes = re.search(r"a trial takes 1 CPU, (\d+) MiB", said)
    assert takes, said
    (measured,) = json.loads((out / "footprints.json").read_text())["trainings"].values()
    assert int(takes[1]) >= measured["process_mb"] + measured["memory_mb"]
    assert 750 < int(takes[1]) < 1500, "one such trial, and not two, must fit into the node"
    assert max(seen) == 1
    rows = check_whole(out, "tiny", N_TRIALS, n_points=21)
    assert {row.verdict.status for row in rows if row.verdict} == {"finished"}
