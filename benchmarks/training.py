"""Iterations per second of metaopt's trainings beside a hand-written loop of the same networks, the limit.

    python benchmarks/training.py [--device cuda] [--seconds 1.5] [--rounds 7]

Both run in turns in one process on one thread; the share is the median over rounds of the ratio within a round.
On a GPU it first checks that no step of the loop waits for the device.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn.functional import softplus
from torch.optim import Adam

from metaopt.gan import Task, make_pair, pair_spec
from metaopt.schedules import build_schedule
from metaopt.training import Training

PAIRS = (
    ("mlp 8x8", {"data": "digits", "network": "mlp", "width": 64, "z_dim": 16}),
    ("mlp 12x12", {"data": "mnist5k", "size": 12, "network": "mlp", "width": 128}),
    ("dcgan 16x16", {"data": "mnist5k", "size": 16, "network": "dcgan", "width": 16}),
    ("dcgan 28x28", {"data": "mnist5k", "network": "dcgan", "width": 32}),
    ("sngan 16x16", {"data": "mnist5k", "size": 16, "network": "sngan", "width": 16}),
)
LR = 2e-4
RATES = {"lr_g": LR, "lr_d": LR, "update_ratio": 1.0}
FOREVER = 1_000_000
"""A budget whose first evaluation is never reached."""


def measured(task: Task, device: str) -> Callable[[int], None]:
    """metaopt's own loop, as a function that runs some iterations."""
    schedule = build_schedule("constant", RATES)
    training = Training(task, schedule, 0, device=device)
    next(training.run())  # the record of the untrained networks, with its FID

    def iterations(n: int) -> None:
        until = training.controller.iteration + n
        training._advance(until / task.budget)

    return iterations


def by_hand(task: Task, device: str) -> Callable[[int], None]:
    """What one would write without metaopt: no signals, no schedule, no checks."""
    training = Training(task, build_schedule("constant", RATES), 0, device=device)
    images = training.shared.dataset.x
    pair = make_pair(pair_spec(task, training.shared.dataset), torch.Generator().manual_seed(0))
    g, d = pair.generator.to(device), pair.discriminator.to(device)
    weights_g, weights_d = list(g.parameters()), list(d.parameters())
    opt_g = Adam(weights_g, LR, (task.beta1, task.beta2), fused=True)
    opt_d = Adam(weights_d, LR, (task.beta1, task.beta2), fused=True)

    def iterations(n: int) -> None:
        for _ in range(n):
            real = images[torch.randint(len(images), (task.batch,), device=device)].float() / 127.5 - 1
            with torch.no_grad():
                fake = g(torch.randn(task.batch, task.z_dim, device=device))
            loss = softplus(-d(real)).mean() + softplus(d(fake)).mean()
            opt_d.zero_grad()
            torch.autograd.backward(loss, inputs=weights_d)
            opt_d.step()
            loss = softplus(-d(g(torch.randn(task.batch, task.z_dim, device=device)))).mean()
            opt_g.zero_grad()
            torch.autograd.backward(loss, inputs=weights_g)
            opt_g.step()

    return iterations


def per_second(iterations: Callable[[int], None], n: int, device: str) -> float:
    """Speed over `n` iterations, the device's own work included."""
    start = time.perf_counter()
    iterations(n)
    if device != "cpu":
        torch.cuda.synchronize(device)
    return n / (time.perf_counter() - start)


def check_no_sync(task: Task, device: str) -> None:
    """Fails where an update between two readings of the signals waits for the GPU."""
    training = Training(task, build_schedule("constant", RATES), 0, device=device)
    next(training.run())
    for n in (20, 9):  # the first updates allocate, and the signals are read at every tenth update of D
        torch.cuda.set_sync_debug_mode("error" if n < 10 else "default")
        try:
            for _ in range(n):
                training._update_d()
                training._update_g()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each loop in each round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    where = "1 CPU thread" if args.device == "cpu" else torch.cuda.get_device_name(args.device)
    print(f"torch {torch.__version__}, {where}, batch 64, iterations/s: medians of {args.rounds} rounds")
    print(f"{'pair':<14}{'metaopt':>10}{'by hand':>10}{'share':>8}")
    for name, fields in PAIRS:
        task = Task(name="bench", budget=FOREVER, evaluations=1, **fields)  # type: ignore[arg-type]
        if args.device != "cpu":
            check_no_sync(task, args.device)
        ours, hand = measured(task, args.device), by_hand(task, args.device)
        n = max(10, int(per_second(hand, 30, args.device) * args.seconds))
        rows = [(per_second(ours, n, args.device), per_second(hand, n, args.device)) for _ in range(args.rounds)]
        mine, theirs = (statistics.median(column) for column in zip(*rows, strict=True))
        share = statistics.median(a / b for a, b in rows)
        print(f"{name:<14}{mine:>10.1f}{theirs:>10.1f}{share:>8.3f}", flush=True)


if __name__ == "__main__":
    main()
