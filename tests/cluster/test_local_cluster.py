"""A cluster of real processes: whom its token keeps out, where it listens, what `metaopt doctor` says of its nodes."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest
from clusters import LocalCluster, local_cluster, one_more_node
from studies import metaopt

from metaopt import __version__

_CONNECT = (
    "import os, ray; ray.init(address=os.environ['RAY_ADDRESS'], log_to_driver=False); print('nodes', len(ray.nodes()))"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("home"), nodes=1) as started:
        yield started


def _connect(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _CONNECT], env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def test_token_is_for_its_owner_alone(cluster: LocalCluster) -> None:
    assert cluster.token.stat().st_mode & 0o777 == 0o600
    assert len(cluster.token.read_text()) == 64


def test_client_with_the_token_comes_in(cluster: LocalCluster) -> None:
    done = _connect(cluster.client)
    assert "nodes 2" in done.stdout, done.stderr


def test_client_without_the_token_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    elsewhere = cluster.client | {"HOME": str(tmp_path)}
    no_mode = _connect({name: value for name, value in elsewhere.items() if name != "RAY_AUTH_MODE"})
    no_token = _connect(elsewhere)
    wrong = _connect(elsewhere | {"RAY_AUTH_TOKEN": "0" * 64})
    for done, says in (
        (no_mode, "InvalidAuthToken"),
        (no_token, "no authentication token"),
        (wrong, "InvalidAuthToken"),
    ):
        assert done.returncode != 0
        assert "nodes" not in done.stdout
        assert says in done.stderr


def test_nothing_listens_beyond_loopback(cluster: LocalCluster) -> None:
    listening = _listening(psutil.Process(cluster.process.pid).children(recursive=True))
    assert len(listening) > 2
    assert set(listening) == {"127.0.0.1"}


def _listening(processes: Iterable[psutil.Process]) -> list[str]:
    """Addresses that they listen on."""
    return [
        connection.laddr.ip.removeprefix("::ffff:")
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]


OWN_RAY = """
import ray
from metaopt.search.ray_start import started
with started():
    assert ray.get(ray.remote(lambda: 3).remote()) == 3
    print(ray.get_runtime_context().gcs_address, flush=True)
    input()
"""


def test_a_ray_of_this_machine_alone_listens_on_loopback_only_and_asks_for_its_token() -> None:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with subprocess.Popen(
        [sys.executable, "-c", OWN_RAY], env=outside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as own:
        address = own.stdout.readline().strip() if own.stdout else ""
        assert address.startswith("127.0.0.1:")
        itself = psutil.Process(own.pid)
        listening = _listening([itself, *itself.children(recursive=True)])
        for change in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
            there = address.replace("127.0.0.1", "LOCALHOST")  # which Ray does not take for the outer address
            refused = _connect(outside | change | {"RAY_ADDRESS": there})
            assert refused.returncode != 0 and "InvalidAuthToken" in refused.stderr
        own.communicate("\n", timeout=300)
    assert len(listening) > 4
    assert set(listening) == {"127.0.0.1"}


def test_doctor_says_that_all_nodes_agree(cluster: LocalCluster) -> None:
    done = metaopt("doctor", "--address", cluster.address, env=cluster.client)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"2 nodes at {cluster.address}; this client has Python " in done.stdout
    assert len(re.findall(r"ok   ray       node 127.0.0.1 \(\w{8}\) agrees", done.stdout)) == 2


def test_doctor_names_the_node_and_the_version_that_differ(cluster: LocalCluster, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow" / "metaopt"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text('__version__ = "9.9.9"\n')
    with one_more_node(cluster, PYTHONPATH=str(shadow.parent)):
        # not from a checkout: Ray puts the client's folder first where the nodes look for modules
        done = metaopt("doctor", "--address", cluster.address, env=cluster.client, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"3 nodes at {cluster.address}" in done.stdout
    (bad,) = re.findall(r"^BAD  (.*)$", done.stdout, re.MULTILINE)
    assert re.match(rf"ray       node \S+ \(\w{{8}}\) has metaopt 9.9.9, but this client has {__version__}; ", bad)
    assert f"type there, in a checkout of metaopt {__version__}: python -m pip install ." in bad
    assert done.stdout.count(" agrees") == 2


def test_doctor_says_why_it_was_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    refused = metaopt("doctor", "--address", cluster.address, env=cluster.client | {"RAY_AUTH_TOKEN": "0" * 64})
    assert refused.returncode == 1
    assert "the token is missing or wrong" in refused.stdout
    assert "RAY_AUTH_TOKEN_PATH=FILE" in refused.stdout


def test_doctor_says_that_nothing_answers(cluster: LocalCluster) -> None:
    closed = metaopt("doctor", "--address", "127.0.0.2:9", env=cluster.client)
    assert closed.returncode == 1
    assert "BAD  ray       nothing answers at 127.0.0.2:9" in closed.stdout
    nonsense = metaopt("doctor", "--address", "here", env=cluster.client)
    assert nonsense.returncode == 2
    assert "`--address` must be HOST:PORT, as in 10.0.0.5:6379, but got 'here'" in nonsense.stderr
