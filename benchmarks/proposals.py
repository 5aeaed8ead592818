"""What a proposal costs the driver after so many trials: to ask for one and to tell its score.

    python benchmarks/proposals.py --sizes 1000 5000

No training: a study of a schedule with five parameters, whose trials get random scores, is driven through the driver's
own record of proposals. Printed is the median of the last 20 proposals before each size, in ms, and what the record
takes on disk.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from metaopt.search.optuna_space import JOURNAL, Proposals, Verdict
from metaopt.search.study import load_study

SAMPLERS = ("random", "tpe", "cmaes", "es")
LAST = 20


def measured(sampler: str, sizes: Sequence[int], folder: Path) -> list[tuple[float, float]]:
    """Milliseconds of a proposal, and kB of the journal per trial, at each size."""
    study = folder / "study.yaml"
    search = {"trials": max(sizes), "sampler": sampler, "seed": 1}
    content = {
        "name": "proposals",
        "tasks": [{"data": "digits"}],
        "schedule": {"family": "power_decay"},
        "search": search,
    }
    study.write_text(json.dumps(content), encoding="utf-8")
    proposals, scores, times, found = Proposals(folder, load_study(str(study))), random.Random(0), [], []
    for n in range(1, max(sizes) + 1):
        began = time.perf_counter()
        proposal = proposals.ask(str(n))
        assert proposal is not None
        score = scores.random()
        proposals.tell(proposal.number, Verdict(status="finished", score=score, scores=[score]))
        times.append(1000 * (time.perf_counter() - began))
        if n in sizes:
            found.append((statistics.median(times[-LAST:]), (folder / JOURNAL).stat().st_size / 1000 / n))
    return found


def main() -> None:
    """Print a row for each sampler."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 5_000])
    sizes = sorted(parser.parse_args().sizes)
    print("| sampler | " + " | ".join(f"after {n:,} trials" for n in sizes) + " | journal, kB a trial |")
    print("| --- |" + " ---: |" * (len(sizes) + 1))
    for sampler in SAMPLERS:
        with tempfile.TemporaryDirectory() as folder:
            found = measured(sampler, sizes, Path(folder))
        print(
            f"| `{sampler}` | " + " | ".join(f"{ms:.0f} ms" for ms, _ in found) + f" | {found[-1][1]:.1f} |", flush=True
        )


if __name__ == "__main__":
    main()
