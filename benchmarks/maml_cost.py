"""What one outer step costs: seconds and peak memory against the inner steps, for each algorithm.

    python benchmarks/maml_cost.py --out docs/results/maml_cost

The 32 x 32 DCGAN pair in colour (`--width` 64, group norm, R1 of 0.05), one episode (a stack of n takes n times as
much), batches of 16, on one thread. Each row is a process of its own: the median seconds of three outer gradients, and
the peak of its resident memory, less what it had before the first (torch, the networks and the images).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import torch

from metaopt.gan import LOSSES, PairSpec, make_pair
from metaopt.meta.maml import ALGORITHMS, Episode, Inner, MetaTraining
from metaopt.meta.maml.games import Round, all_but_heads, game_players, pair_weights
from metaopt.schedules import build_schedule
from metaopt.training.footprint import peak_memory_mb

STEPS, BATCH, Z_DIM, REPEATS = (1, 2, 5, 10), 16, 64, 3


def one(name: str, steps: int, width: int) -> dict[str, object]:
    """Outer steps of one algorithm, measured in this process."""
    torch.set_num_threads(1)
    spec = PairSpec(network="dcgan", size=32, channels=3, width=width, z_dim=Z_DIM, norm_g="group", norm_d="group")
    pair = make_pair(spec, torch.Generator().manual_seed(0))
    frozen = all_but_heads(pair) if ALGORITHMS[name].head_only else None
    players = game_players(pair, LOSSES["non_saturating"], r1=0.05, frozen=frozen)
    schedule = build_schedule("constant", {"lr_g": 0.01, "lr_d": 0.01, "update_ratio": 1.0})
    training = MetaTraining(
        players,
        pair_weights(pair),
        Inner(schedule=schedule, steps=steps),
        ALGORITHMS[name],
        lr=1e-4,
        iterations=REPEATS,
    )
    random = torch.Generator().manual_seed(1)
    rounds = [
        Round(
            2 * torch.rand(BATCH, 3, 32, 32, generator=random) - 1,
            torch.randn(BATCH, Z_DIM, generator=random),
            torch.rand(BATCH, 1, 1, 1, generator=random),
        )
        for _ in range(2 * steps)
    ]
    episode = Episode(support=rounds[:steps], query=rounds[steps:])
    before, seconds = peak_memory_mb(), []
    going = training.run(iter([[episode]] * REPEATS))
    for _ in range(REPEATS):
        started = time.perf_counter()
        next(going)
        seconds.append(time.perf_counter() - started)
    peak = peak_memory_mb()
    return {
        "algorithm": name,
        "inner_steps": steps,
        "seconds": statistics.median(seconds),
        "peak_mib": peak - before,
        "process_mib": peak,
    }


def main() -> None:
    """A process a row, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--out", type=Path, help="folder for cost.csv")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one[0], int(asked.one[1]), asked.width)))
        return
    rows = []
    for name in ALGORITHMS:
        for steps in (1,) if ALGORITHMS[name].joint else STEPS:
            command = [sys.executable, __file__, "--one", name, str(steps), "--width", str(asked.width)]
            rows.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    table = pd.DataFrame(rows)
    print(table.round(2).to_string(index=False))
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(asked.out / "cost.csv", index=False)


if __name__ == "__main__":
    main()
