"""Every loss with every network on two data sets, and the bench's own honesty check, as Markdown.

    python benchmarks/gan_bench.py > docs/results/gan_bench.md
    python benchmarks/gan_bench.py --check-only --r1 0.05       # the last part alone, with another weight of R1

Each pair trains for a short budget with one schedule; a row shows the FID of the untrained and of the trained generator
beside the floor: what images drawn from the data themselves would get. The last part trains a DCGAN on 28 x 28 digits.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing.pool import Pool

import torch

from metaopt.gan import LOSSES, NETWORKS, Task
from metaopt.metrics import evaluate
from metaopt.schedules import build_schedule
from metaopt.training import Training
from metaopt.training.resources import floor, resources

WORKERS = len(os.sched_getaffinity(0))
SIZES = {"mlp": (64, 2000), "dcgan": (16, 800), "sngan": (16, 800)}
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


def check_task(conditional: bool, r1: float = 1.0) -> Task:
    """A DCGAN on 28 x 28 digits with the non-saturating loss, R1 and an averaged generator."""
    return Task(
        name="conditional" if conditional else "unconditional",
        data="mnist5k",
        network="dcgan",
        width=32,
        z_dim=64,
        conditional=conditional,
        r1=r1,
        beta1=0.0,
        beta2=0.99,
        ema=0.1,
        budget=4000 if conditional else 16000,
        evaluations=4 if conditional else 8,
        metrics=("fid", "kid", "precision_recall", "density_coverage", "modes"),
    )


CHECK_RATES = {"lr_g": 1e-3, "lr_d": 1e-3, "update_ratio": 1.0, "power": 1.0}


def checked(task: Task) -> list[str]:
    """The course of one training as rows, and its last generator on other features."""
    torch.set_num_threads(1)
    training, lowest, rows = Training(task, build_schedule("power_decay", CHECK_RATES), 0), floor(task), []
    for record in training.run():
        if record.fid is not None:
            rows.append(
                f"| {task.name} | {record.iteration:.0f} | {record.fid:.2f} | {record.fid / lowest:.1f}"
                f" | {record.kid:.4f} | {record.precision:.2f} | {record.recall:.2f} | {record.density:.2f}"
                f" | {record.coverage:.2f} | {record.modes:.0f} | {record.mode_balance:.3f} |"
            )
    other = replace(task, features="lite0", metrics=("fid",))
    shared = resources(other)
    sample = training.sample(task.n_samples)
    fid = evaluate([sample], shared.real, shared.extractor, ("fid",), torch.Generator())["fid"]
    lowest_other = floor(other)
    rows.append(f"| {task.name}, on `lite0` | {task.budget} | {fid:.1f} | {fid / lowest_other:.1f} | | | | | | | |")
    return rows


def print_check(first: Task, found: Iterable[list[str]]) -> None:
    """Two longer trainings against the floor: the first one's task, and the rows of both."""
    print(
        f"\n## Honesty check: DCGAN on mnist5k at 28 x 28\n\nNon-saturating loss, width {first.width},"
        f" rates {CHECK_RATES['lr_g']:g} falling linearly to 0, R1 of {first.r1:g}, Adam"
        f" betas {first.beta1:g} and {first.beta2:g}, averaged generator (memory {first.ema:g} of the budget).\n"
    )
    lowest, classifier = floor(first), resources(first).real.classifier
    accuracy = 0.0 if classifier is None else classifier.accuracy
    print(
        f"Floor {lowest:.3f} on `small` features; three times that is {3 * lowest:.2f}. The classifier that counts"
        f" modes is right on {accuracy:.1%} of real images that it has not seen.\n"
    )
    print("| GAN | iterations | FID | FID / floor | KID | precision | recall | density | coverage | modes | balance |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for rows in found:
        print("\n".join(rows), flush=True)


def print_pairs(pool: Pool) -> None:
    """Each loss with each network."""
    print("# The GAN bench: each loss with each network\n\n    python benchmarks/gan_bench.py\n")
    print(
        f"torch {torch.__version__}, one CPU thread a training, {WORKERS} at once. Constant rates of"
        f" {RATES['lr_g']:g} for both players, one D update per G update, batch 64, seed 0, FID of 1,000 images on"
        " `small` features.\n"
    )
    print("| data | network | loss | iterations | untrained FID | FID | floor | seconds | outcome |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    tasks = [pair_task(data, size, network, loss) for (data, size), network, loss in product(DATA, NETWORKS, LOSSES)]
    for row in pool.imap(trained, tasks):
        task = row.task
        print(
            f"| {task.data} {task.size}x{task.size} | {task.network} | {task.loss} | {task.budget}"
            f" | {row.untrained:.1f} | {row.fid:.1f} | {floor(task):.2f} | {row.seconds:.0f} | {row.outcome} |",
            flush=True,
        )


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check-only", action="store_true", help="the honesty check alone")
    parser.add_argument("--r1", type=float, default=1.0, help="weight of R1 in the honesty check")
    options = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        tasks = [check_task(conditional, options.r1) for conditional in (False, True)]
        found = pool.imap(checked, tasks)  # these first, as they take longest
        if not options.check_only:
            print_pairs(pool)
        print_check(tasks[0], found)


if __name__ == "__main__":
    main()
