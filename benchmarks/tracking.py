"""What a call to the tracker costs the search, whatever the store does.

    python benchmarks/tracking.py

Each call hands in the 20 points of an evaluation, a hundred calls a second for ten seconds, as a search with a hundred
workers would; the sender works beside it, in the same process. The store: a SQLite file; an address where nobody
listens; one that takes connections and never answers.
"""

import argparse
import logging
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from metaopt.tracking import Point, open_tracker

RATE, SECONDS, N_POINTS = 100, 10.0, 20


@contextmanager
def _store(kind: str, folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:  # its backlog takes connections, and nobody reads them
        port = server.getsockname()[1]
        if kind == "refuses":
            server.close()
        yield f"sqlite:///{folder / 'mlflow.db'}" if kind == "answers" else f"http://127.0.0.1:{port}"


def measured(kind: str, folder: Path) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Seconds of each call."""
    seconds = []
    with _store(kind, folder) as uri:
        tracker = open_tracker(uri, "tracking", folder / "spool")
        tracker.start_study(params={}, tags={})
        tracker.start_trial("a", name="a", params={}, tags={})
        began = time.perf_counter()
        for call in range(int(RATE * SECONDS)):
            time.sleep(max(0.0, began + call / RATE - time.perf_counter()))
            now_ms = time.time_ns() // 1_000_000
            points = [Point(key=f"k{i}", value=float(call), step=call, timestamp_ms=now_ms) for i in range(N_POINTS)]
            started = time.perf_counter()
            tracker.log("a", points)
            seconds.append(time.perf_counter() - started)
        tracker.close(timeout_s=1.0)
    return np.array(seconds)


def main() -> None:
    """Print a row for each store."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    logging.disable(logging.WARNING)
    print("| the store | median | 99 of 100 calls within | the longest |\n| --- | ---: | ---: | ---: |")
    for kind in ("answers", "refuses", "never answers"):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            ms = 1000 * measured(kind, Path(folder))
        print(f"| {kind} | {np.median(ms):.2f} ms | {np.quantile(ms, 0.99):.2f} ms | {ms.max():.1f} ms |", flush=True)


if __name__ == "__main__":
    main()
