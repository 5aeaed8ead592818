"""Nodes that leave in order, as machines that are preempted do, and one that is cut off and comes back."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from clusters import LocalCluster, local_cluster, one_more_node
from search_checks import check_whole, n_ended, wait_until
from studies import tiny_study, write_study

_NODES = """
import ray
ray.init(log_to_driver=False, logging_level="ERROR")
print(*(node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")))
"""


def _python(cluster: LocalCluster, *arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=cluster.client, capture_output=True, text=True, check=True, timeout=600).stdout


def _nodes(cluster: LocalCluster) -> list[str]:
    """Ids of the nodes that run trials."""
    return _python(cluster, "-c", _NODES).split()


def _preempt(cluster: LocalCluster, node: "subprocess.Popen[str]") -> None:
    """As a cloud does, with a notice to the cluster before."""
    with _held(node):
        (name,) = _nodes(cluster)
        reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
        ray = ["-m", "ray.scripts.scripts", "drain-node", "--address", cluster.address, "--node-id", name]
        _python(cluster, *ray, *reason, "--deadline-remaining-seconds", "1")
        node.send_signal(signal.SIGTERM)
        node.wait(300)


def _terminate(cluster: LocalCluster, node: "subprocess.Popen[str]") -> None:
    with _held(node):
        node.send_signal(signal.SIGTERM)
        node.wait(300)


def _lose(_: LocalCluster, node: "subprocess.Popen[str]") -> None:
    """As where the power fails."""
    for process in (psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    node.wait()


@contextmanager
def _held(node: "subprocess.Popen[str]") -> Iterator[None]:
    """What trains there must not come to its end while the node takes its seconds to leave; it is gone afterwards."""
    trainings = [process for process in psutil.Process(node.pid).children(recursive=True) if _trains(process)]
    for training in trainings:
        training.suspend()
    yield
    for training in trainings:
        with suppress(psutil.NoSuchProcess):
            training.kill()


def _training(node: "subprocess.Popen[str]") -> bool:
    return any(map(_trains, psutil.Process(node.pid).children(recursive=True)))


def _trains(process: psutil.Process) -> bool:
    return process.name().startswith("ray::") and ".train" in process.name()


def test_a_trial_whose_nodes_are_taken_away_ends_on_the_last_one(tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    tasks = [{"data": "digits", "budget": 5000, "n_samples": 100, "width": 16}]
    study = tiny_study(tasks=tasks, search={"trials": 2, "seed": 1, "sampler": "random"})
    command = [sys.executable, "-m", "metaopt.cli.main", "search", write_study(tmp_path, study), "--out", out]
    leave: tuple[Callable[[LocalCluster, subprocess.Popen[str]], None], ...] = (_terminate, _preempt, _lose, _lose)
    with local_cluster(tmp_path, nodes=0) as cluster, log.open("w") as said:
        search: subprocess.Popen[bytes] | None = None
        for end in leave:
            with one_more_node(cluster) as node:
                search = search or subprocess.Popen(command, env=cluster.client, stdout=said, stderr=said)
                running = search
                wait_until(running, log.read_text, lambda node=node: _training(node))
                end(cluster, node)
            time.sleep(20 if end is leave[0] else 1)  # nothing can run anywhere
            assert running.poll() is None, log.read_text()
        with one_more_node(cluster):
            assert search and search.wait(600) == 0, log.read_text()
    assert "no node has room for a trial now: waiting for one" in log.read_text()
    rows = check_whole(out, "tiny", 2, n_points=21)
    assert {row.verdict.status for row in rows if row.verdict} == {"finished"}


def test_a_node_that_is_cut_off_and_comes_back_doubles_nothing(tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    tasks = [{"data": "digits", "budget": 2000, "n_samples": 100, "width": 16}]
    study = tiny_study(tasks=tasks, search={"trials": 6, "seed": 1, "sampler": "random"})
    command = [sys.executable, "-m", "metaopt.cli.main", "search", write_study(tmp_path, study), "--out", out]
    with (
        local_cluster(tmp_path, nodes=1) as cluster,
        one_more_node(cluster) as node,
        log.open("w") as said,
        subprocess.Popen(command, env=cluster.client, stdout=said, stderr=said) as search,
    ):
        wait_until(search, log.read_text, lambda: n_ended(out) > 1 and _training(node))
        frozen = psutil.Process(node.pid).children(recursive=True)
        for process in frozen:
            process.suspend()
        wait_until(search, log.read_text, lambda: len(_nodes(cluster)) == 1)
        for process in frozen:
            process.resume()
        assert search.wait(600) == 0, log.read_text()
    rows = check_whole(out, "tiny", 6, n_points=21)
    assert {row.verdict.status for row in rows if row.verdict} == {"finished"}
