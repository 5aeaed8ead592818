"""Every loss with every network on two data sets, and the bench's own honesty check, as Markdown.

    python benchmarks/gan_bench.py > docs/results/gan_bench.md

Each pair trains for a short budget with one schedule; a row shows the FID of the untrained and of the trained generator
beside the floor: what images drawn from the data themselves would get. The last part trains a DCGAN on 28 x 28 digits.
"""

import multiprocessing
import os
import time
from dataclasses import dataclass
from itertools import product

import torch

from metaopt.gan import LOSSES, NETWORKS, Task
from metaopt.schedules import build_schedule
from metaopt.training import Training
from metaopt.training.resources import floor

WORKERS = len(os.sched_getaffinity(0))
SIZES = {"mlp": (64, 2000), "dcgan": (16, 800), "sngan": (16, 400)}
"""Width and budget of each network."""
DATA = (("digits", 8), ("mnist5k", 16))
RATES = {"lr_g": 1e-3, "lr_d": 1e-3, "update_ratio": 1.0}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One training."""

    task: Task
    untrained: float
    fid: float
    seconds: float
    outcome: str


def pair_task(data: str, size: int, network: str, loss: str) -> Task:
    """The task of one row."""
    width, budget = SIZES[network]
    return Task(
        name=f"{data}-{network}-{loss}",
        data=data,
        size=size,
        network=network,
        loss=loss,
        width=width,
        budget=budget,
        evaluations=4,
    )


def trained(task: Task) -> Row:
    """Train with constant rates and seed 0."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    records = list(Training(task, build_schedule("constant", RATES), 0).run())
    fids = [record.fid for record in records if record.fid is not None]
    return Row(
        task=task,
        untrained=fids[0],
        fid=fids[-1] if len(fids) > 1 else float("nan"),
        seconds=time.perf_counter() - start,
        outcome=str(records[-1].outcome),
    )


SANITY = Task(
    name="mnist5k-28x28",
    data="mnist5k",
    network="dcgan",
    width=32,
    z_dim=64,
    budget=3000,
    evaluations=6,
    ema=0.1,
    metrics=("fid", "kid", "precision_recall", "density_coverage", "modes"),
)
SANITY_RATES = {"lr_g": 1e-3, "lr_d": 1e-3, "update_ratio": 1.0, "power": 1.0}


def print_sanity() -> None:
    """The course of one longer training."""
    torch.set_num_threads(1)
    training = Training(SANITY, build_schedule("power_decay", SANITY_RATES), 0)
    lowest = floor(SANITY)
    classifier = training.shared.real.classifier
    accuracy = 0.0 if classifier is None else classifier.accuracy
    print(
        f"\nFloor {lowest:.2f}; three times that is {3 * lowest:.2f}. The classifier that counts modes is right on"
        f" {accuracy:.1%} of held-out real images.\n"
    )
    print("| iterations | FID | FID / floor | KID | precision | recall | density | coverage | modes | balance |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for record in training.run():
        if record.fid is not None:
            print(
                f"| {record.iteration:.0f} | {record.fid:.2f} | {record.fid / lowest:.1f} | {record.kid:.4f}"
                f" | {record.precision:.2f} | {record.recall:.2f} | {record.density:.2f} | {record.coverage:.2f}"
                f" | {record.modes:.0f} | {record.mode_balance:.3f} |",
                flush=True,
            )


def main() -> None:
    """Train and print."""
    print("# The GAN bench: each loss with each network\n\n    python benchmarks/gan_bench.py\n")
    print(
        f"torch {torch.__version__}, one CPU thread a training, {WORKERS} at once. Constant rates of"
        f" {RATES['lr_g']:g} for both players, one D update per G update, batch 64, seed 0, FID of 1,000 images on"
        " `small` features.\n"
    )
    print("| data | network | loss | iterations | untrained FID | FID | floor | seconds | outcome |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    tasks = [pair_task(data, size, network, loss) for (data, size), network, loss in product(DATA, NETWORKS, LOSSES)]
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        for row in pool.imap(trained, tasks):
            task = row.task
            print(
                f"| {task.data} {task.size}x{task.size} | {task.network} | {task.loss} | {task.budget}"
                f" | {row.untrained:.1f} | {row.fid:.1f} | {floor(task):.2f} | {row.seconds:.0f} | {row.outcome} |",
                flush=True,
            )
    print(
        f"\n## Honesty check: DCGAN on mnist5k at 28 x 28\n\nNon-saturating loss, width {SANITY.width},"
        f" {SANITY.budget} iterations, rates {SANITY_RATES['lr_g']:g} falling linearly to 0, averaged generator"
        f" (memory {SANITY.ema:g} of the budget)."
    )
    print_sanity()


if __name__ == "__main__":
    main()
