"""Sinusoid regression as in the MAML paper: error over inner steps, beside a network pretrained on all sinusoids.

    python benchmarks/maml_sinusoid.py --iterations 20000 --out docs/results/maml_sinusoid

Finn et al. 2017, section 5.1: a network of two hidden layers of 40 ReLUs adapts to 10 points of a sinusoid by gradient
steps of rate 0.01; learned with one step on 25 sinusoids an iteration, Adam at 1e-3. Printed: mean squared error on 100
other points of 600 unseen sinusoids, after 0 to 10 steps, with the half width of its 95 % interval. The baseline is
the same network trained on the same numbers of points of as many sinusoids, all as one problem.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import mse_loss

from metaopt.meta.maml import ALGORITHMS, Episode, Inner, MetaTraining, Players, Rates, Weights, find_algorithm, stacked
from metaopt.meta.maml.families import Pairs, first_weights, predictions, single_player, sinusoids
from metaopt.schedules import build_schedule

LR, META_BATCH, SHOTS, STEPS, N_TEST = 0.01, 25, 10, 10, 600


def network(seed: int) -> nn.Sequential:
    """1-40-40-1 with ReLU."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))


def inner(steps: int) -> Inner:
    """Plain gradient steps at 0.01."""
    return Inner(schedule=build_schedule("constant", {"lr_g": LR, "lr_d": LR, "update_ratio": 1.0}), steps=steps)


def episodes(seed: int) -> Iterator[Sequence[Episode[Pairs]]]:
    """25 sinusoids an iteration."""
    random = torch.Generator().manual_seed(seed)
    while True:
        yield [sinusoids(META_BATCH, SHOTS, random)]


def players(name: str, module: nn.Sequential) -> Players[Pairs]:
    """The network as a player; in ANIL the head alone adapts."""
    frozen = frozenset(dict(module[:4].named_parameters())) if name == "anil" else frozenset[str]()
    return single_player(module, mse_loss, frozen=frozen)


def learned(name: str, iterations: int, seed: int) -> MetaTraining[Pairs]:
    """An initialisation by one of the algorithms; those that learn rates by step, or adapt for long, take 5 steps."""
    module, algorithm = network(seed), find_algorithm(name)
    steps = 5 if algorithm.rates == "steps" or algorithm.derivatives == "none" else 1
    stack = stacked(players(name, module), META_BATCH)
    training = MetaTraining(stack, first_weights(module), inner(steps), algorithm, lr=1e-3, iterations=iterations)
    for record in training.run(episodes(seed)):
        if record.diverged:
            print(f"{name} diverged at iteration {record.iteration}")
    return training


def errors(name: str, weights: Weights, rates: Rates | None) -> list[tuple[float, float]]:
    """Mean squared error on unseen sinusoids after 0 to 10 inner steps, and the half width of its 95 % interval."""
    drawn = sinusoids(N_TEST, SHOTS + 100, torch.Generator().manual_seed(10**6))  # a seed of no meta-training
    x, y = drawn.support[0]
    episode = Episode(support=[Pairs(x[:, :SHOTS], y[:, :SHOTS])], query=[Pairs(x[:, SHOTS:], y[:, SHOTS:])])
    module = network(0)
    found = []
    for said in predictions(module, players(name, module), weights, episode, inner(STEPS), rates=rates):
        each = (said - episode.query[0].y).square().mean((1, 2))
        found.append((each.mean().item(), 1.96 * each.std().item() / math.sqrt(N_TEST)))
    return found


def main() -> None:
    """Learn with each algorithm, adapt, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for errors.csv and errors.png")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in ALGORITHMS:
        started = time.perf_counter()
        training = learned(name, asked.iterations, asked.seed)
        seconds = time.perf_counter() - started
        for step, (error, half) in enumerate(errors(name, training.weights, training.rates)):
            rows.append({"start": name, "step": step, "error": error, "half_width": half, "learning_s": seconds})
    table = pd.DataFrame(rows)
    wide = table.pivot_table(index="start", columns="step", values="error").loc[list(ALGORITHMS)]
    print(wide.to_string(float_format="{:.3g}".format))
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(asked.out / "errors.csv", index=False)
        draw(asked.out / "errors.png", table)


def draw(path: Path, table: pd.DataFrame) -> None:
    """Error over inner steps, a line a start."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axis = figure.subplots()
    for name, part in table.groupby("start", sort=False):
        told = part[part["half_width"] < part["error"]]  # of the others, some adaptations diverge
        axis.errorbar(told["step"], told["error"], yerr=told["half_width"], label=str(name), capsize=2)
    axis.set_xlabel("inner steps of rate 0.01 on 10 points")
    axis.set_ylabel("mean squared error on 100 others")
    axis.set_yscale("log")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper right", ncols=2)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
