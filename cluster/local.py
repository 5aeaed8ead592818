"""A Ray cluster of several nodes as processes on this machine, for trying what runs on a real one.

    python cluster/local.py --nodes 2 --cpus 1

Listens on 127.0.0.1 only and asks every client for Ray's token. Prints what a client has to set, and runs until Ctrl-C
or SIGTERM. With RAY_REDIS_ADDRESS (host:port) and RAY_REDIS_PASSWORD, Ray keeps the state of its control store in that
Redis, and a control store that dies is started anew. Whoever is on this machine can see that password.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray._private.node import Node

_LOOKS_S = 2
LOOPBACK = "127.0.0.1"  # at any other address, be it 127.0.0.2, Ray listens on all


def main() -> None:
    """Start the nodes, wait to be ended, end the nodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=2, help="worker nodes beside the head, which runs no trials")
    parser.add_argument("--cpus", type=int, default=1, help="CPUs of each worker node")
    arguments = parser.parse_args()
    _set_up()
    from ray.cluster_utils import Cluster  # after the token: Ray reads its settings when it is imported

    node = {"node_ip_address": LOOPBACK, "dashboard_agent_listen_port": 0}  # 0: a free one, as all have one address
    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_host": LOOPBACK, "dashboard_port": _free_port()}
    if "RAY_REDIS_PASSWORD" in os.environ:
        head["redis_password"] = os.environ["RAY_REDIS_PASSWORD"]
    cluster = Cluster(initialize_head=True, head_node_args=node | head)
    try:
        for i in range(arguments.nodes):
            # a job's files have a folder of their own on each node, as they have on as many machines
            cluster.add_node(num_cpus=arguments.cpus, runtime_env_dir_name=f"runtime_resources_{i}", **node)
        port = cluster.address.rpartition(":")[2]
        print(f"# a head and {arguments.nodes} nodes, listening on {LOOPBACK} only; set this where the client runs:")
        # in capitals, as Ray takes "localhost" and "127.0.0.1" for the outer address, where nothing listens
        print(f"export RAY_AUTH_MODE=token\nexport RAY_ADDRESS=LOCALHOST:{port}")
        print(f"export RAY_API_SERVER_ADDRESS=http://{cluster.head_node.webui_url}", flush=True)
        ended = threading.Event()
        for signal_ in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_, lambda *_: ended.set())
        while not ended.wait(_LOOKS_S):
            if "RAY_REDIS_ADDRESS" in os.environ:
                _revive_control_store(cluster.head_node)
    finally:
        cluster.shutdown()


def _revive_control_store(head: "Node") -> None:
    (store,) = head.all_processes["gcs_server"]
    if store.process.poll() is not None:
        print("# the control store has died and is started anew", flush=True)
        head.kill_gcs_server(check_alive=False)  # forgets it
        head.start_gcs_server()


def _free_port() -> int:
    """Of its own for each cluster of this machine: Ray gives up where its usual one is taken."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _set_up() -> None:
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # as there, nodes reach each other at 127.0.0.1
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # jobs start `python`
    os.environ.setdefault("RAY_external_storage_namespace", uuid.uuid4().hex)  # no other cluster's state in that Redis
    os.umask(0o077)  # Ray writes the file as the umask says, and whoever reads it may run code here
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    subprocess.run([*ray, "get-auth-token", "--generate"], stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
