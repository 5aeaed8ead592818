"""Ray is shut down while another thread drops references to its objects, as a garbage collection there may."""

import subprocess
import sys

SCRIPT = """
import threading, time
import ray
from metaopt.search.ray_start import started

class Cycle:
    pass

def discard():  # references that only the cyclic garbage collection of this thread finds
    while references:
        cycle = Cycle()
        cycle.itself, cycle.reference = cycle, references.pop()
        del cycle
        containers = [[] for _ in range(800)]
        time.sleep(0.0005)

with started():
    references = [ray.put(i) for i in range(3000)]
    thread = threading.Thread(target=discard)
    thread.start()
thread.join()
print("went on")
"""


def test_the_process_outlives_its_ray() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
