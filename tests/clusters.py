"""A Ray cluster of real processes on this machine, by cluster/local.py."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from metaopt.search.packed_data import place_of

_LOCAL = Path(__file__).parents[1] / "cluster" / "local.py"


@dataclass(frozen=True, kw_only=True)
class LocalCluster:
    """What a test needs of it."""

    process: subprocess.Popen[str]
    client: dict[str, str]
    """The environment of a client that may come in."""
    address: str
    dashboard: str
    token: Path


@contextmanager
def local_cluster(home: Path, *, nodes: int, **settings: str) -> Iterator[LocalCluster]:
    """A head and nodes of one CPU each, whose token lies in `home`; they end with the block."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # Ray's sockets need a short path, and a Ray of this machine's user must not find this one as its own
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as scratch:
        environment = outside | {"HOME": str(home), "RAY_TMPDIR": scratch}
        command = [sys.executable, _LOCAL, "--nodes", str(nodes), "--cpus", "1"]
        with subprocess.Popen(
            command, env=environment | settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                assert process.stdout
                printed = dict(re.findall(r"export (\w+)=(\S+)", "".join(_until_dashboard(process.stdout))))
                assert set(printed) == {"RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"}
                yield LocalCluster(
                    process=process,
                    client=environment | printed,
                    address=printed["RAY_ADDRESS"],
                    dashboard=printed["RAY_API_SERVER_ADDRESS"],
                    token=home / ".ray" / "auth_token",
                )
            finally:
                process.terminate()
        remove_links(Path(scratch))


@contextmanager
def one_more_node(
    cluster: LocalCluster, *, resources: Sequence[str] = ("--num-cpus=1",), **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    """A node that joins the cluster, and leaves it with the block."""
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        f"--address={cluster.address}",
        "--block",
        *resources,
    ]
    with subprocess.Popen(
        command, env=cluster.client | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as node:  # fmt: skip
        try:
            assert node.stdout
            assert any("Ray runtime started" in line for line in node.stdout)
            yield node
        finally:
            node.send_signal(signal.SIGTERM)


def n_training(node: "subprocess.Popen[str]") -> int:
    """Processes that train, below a node's."""
    n = 0
    for process in psutil.Process(node.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            n += "Train" in process.name()
    return n


def remove_links(folder: Path) -> None:
    """Remove what jobs, whose files were in `folder`, have left where they found their data."""
    for link in place_of("").parent.glob("metaopt-*"):
        if link.is_symlink() and link.readlink().is_relative_to(folder):
            link.unlink()


def _until_dashboard(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.startswith("export RAY_API_SERVER_ADDRESS="):
            return
