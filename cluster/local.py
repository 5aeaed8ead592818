"""A Ray cluster of several nodes as processes on this machine, for trying what runs on a real one.

    python cluster/local.py --nodes 2 --cpus 1

Listens on 127.0.0.1 only and asks every client for Ray's token. Prints what a client has to set, and runs until Ctrl-C
or SIGTERM.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading

LOOPBACK = "127.0.0.1"


def main() -> None:
    """Start the nodes, wait to be ended, end the nodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=2, help="worker nodes beside the head, which runs no trials")
    parser.add_argument("--cpus", type=int, default=1, help="CPUs of each worker node")
    arguments = parser.parse_args()
    _require_token()
    from ray.cluster_utils import Cluster  # after the token: Ray reads its settings when it is imported

    head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": LOOPBACK}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(arguments.nodes):
            cluster.add_node(num_cpus=arguments.cpus, node_ip_address=LOOPBACK)
        port = cluster.address.rpartition(":")[2]
        print(f"# a head and {arguments.nodes} nodes, listening on {LOOPBACK} only; set this where the client runs:")
        # in capitals, as Ray takes "localhost" and "127.0.0.1" for the outer address, where nothing listens
        print(f"export RAY_AUTH_MODE=token\nexport RAY_ADDRESS=LOCALHOST:{port}", flush=True)
        ended = threading.Event()
        for signal_ in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_, lambda *_: ended.set())
        ended.wait()
    finally:
        cluster.shutdown()


def _require_token() -> None:
    os.environ["RAY_AUTH_MODE"] = "token"
    os.umask(0o077)  # Ray writes the file as the umask says, and whoever reads it may run code here
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    subprocess.run([*ray, "get-auth-token", "--generate"], stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
