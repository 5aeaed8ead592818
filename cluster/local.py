"""A Ray cluster of several nodes as processes on this machine, for trying what runs on a real one.

    python cluster/local.py --nodes 2 --cpus 1

Prints the address to set as RAY_ADDRESS, and runs until Ctrl-C or SIGTERM.
"""

import argparse
import signal
import threading

from ray.cluster_utils import Cluster


def main() -> None:
    """Start the nodes, wait to be ended, end the nodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=2, help="worker nodes beside the head, which runs no trials")
    parser.add_argument("--cpus", type=int, default=1, help="CPUs of each worker node")
    arguments = parser.parse_args()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(arguments.nodes):
            cluster.add_node(num_cpus=arguments.cpus)
        print(f"export RAY_ADDRESS={cluster.address}", flush=True)
        ended = threading.Event()
        for signal_ in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_, lambda *_: ended.set())
        ended.wait()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
