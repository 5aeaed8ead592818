"""What the platform costs: the same trainings bare, through stock Ray Tune glue, and through `metaopt search`.

    python benchmarks/overhead.py --trials 150

Each of N short trainings (an MLP GAN on 8x8 digits, three FIDs, as many iterations as take 2 s on this machine) runs on
one thread, as many at once as there are workers. Printed for each way of running them:

- in training: seconds inside trainings (updates and FIDs; neither imports nor loading data), summed, over
  workers x wall seconds (start-up and wind-down included)
- overhead per trial: (workers x wall seconds - seconds inside trainings) / N
- wall seconds, and the median seconds of one training as measured inside it
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

WORKERS = len(os.sched_getaffinity(0))
AIM_S = 2.0
EVALUATIONS = 3


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One way of running the trainings."""

    name: str
    wall_s: float
    training_s: list[float]
    """Seconds inside each training."""

    @property
    def core_s(self) -> float:
        """Seconds of all workers together."""
        return WORKERS * self.wall_s

    @property
    def in_training(self) -> float:
        """Share of the workers' time spent inside trainings."""
        return sum(self.training_s) / self.core_s

    @property
    def overhead_s(self) -> float:
        """Seconds of a worker per training that are not training."""
        return (self.core_s - sum(self.training_s)) / len(self.training_s)


def bare_training(
    lr_g: float, lr_d: float, seed: int, iterations: int, n_samples: int = 1_000
) -> Iterator[dict[str, float]]:
    """A hand-written GAN loop: what one would write without metaopt. Yields losses and FID at each evaluation."""
    import torch

    from metaopt.gan import LOSSES, make_pair, pair_spec, sample_batch, task_from_spec, to_uint8, to_unit
    from metaopt.metrics import Moments, frechet_distance, small_features
    from metaopt.training.resources import resources

    torch.set_num_threads(1)
    task = task_from_spec("digits", n_samples=n_samples)
    shared = resources(task)
    random = torch.Generator().manual_seed(seed)
    pair = make_pair(pair_spec(task, shared.dataset), random)
    g, d, loss = pair.generator, pair.discriminator, LOSSES[task.loss]
    opt_g = torch.optim.Adam(g.parameters(), lr=lr_g, betas=(0.5, 0.999))
    opt_d = torch.optim.Adam(d.parameters(), lr=lr_d, betas=(0.5, 0.999))
    started = time.perf_counter()
    for evaluation in range(EVALUATIONS + 1):
        for _ in range(iterations // EVALUATIONS if evaluation else 0):
            real = to_unit(sample_batch(shared.dataset, task.batch, random))
            with torch.no_grad():
                fake = g(torch.randn(task.batch, task.z_dim, generator=random))
            loss_d = loss.d_loss(d(real), d(fake))
            opt_d.zero_grad()
            loss_d.backward()
            opt_d.step()
            loss_g = loss.g_loss(d(g(torch.randn(task.batch, task.z_dim, generator=random))))
            opt_g.zero_grad()
            loss_g.backward()
            opt_g.step()
        with torch.no_grad():
            moments = Moments.empty(64)
            n = min(n_samples, 250)
            for _ in range(n_samples // n):
                moments = moments.updated(small_features(to_uint8(g(torch.randn(n, task.z_dim)))))
        fid = frechet_distance(shared.real.statistics, moments)
        if evaluation:
            spent_s = time.perf_counter() - started
            yield {"fid": fid, "loss_d": loss_d.item(), "loss_g": loss_g.item(), "training_s": spent_s}


def _timed_bare(seed: int, iterations: int) -> float:
    return list(bare_training(1e-3, 1e-3, seed, iterations))[-1]["training_s"]


def iterations_in(aim_s: float) -> int:
    """Iterations that a bare training does in `aim_s` here, beside another on each core."""
    tried = 300
    seconds = run_bare(3 * WORKERS, Path(), tried).training_s[-WORKERS:]  # the first ones warm up
    return max(EVALUATIONS, 100 * round(tried * aim_s / statistics.median(seconds) / 100))


def run_bare(n: int, folder: Path, iterations: int) -> Measured:
    """(a) A pool of processes, one a core."""
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        training_s = pool.starmap(_timed_bare, [(seed, iterations) for seed in range(n)], chunksize=1)
    return Measured(name="bare PyTorch", wall_s=time.perf_counter() - started, training_s=training_s)


def run_stock(n: int, folder: Path, iterations: int, n_samples: int = 1_000) -> Measured:
    """(b) A Ray Tune function trainable with OptunaSearch and MLflowLoggerCallback, as their documentation shows."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    def trainable(config: dict[str, float]) -> None:
        for record in bare_training(config["lr_g"], config["lr_d"], 0, iterations, n_samples):
            tune.report(record)

    started = time.perf_counter()
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"lr_g": tune.loguniform(1e-4, 1e-2), "lr_d": tune.loguniform(1e-4, 1e-2)},
        tune_config=tune.TuneConfig(metric="fid", mode="min", search_alg=OptunaSearch(), num_samples=n),
        run_config=tune.RunConfig(
            storage_path=str(folder / "ray"),
            verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder / 'stock.db'}", experiment_name="stock")],
        ),
    )
    training_s = tuner.fit().get_dataframe()["training_s"].tolist()
    ray.shutdown()
    return Measured(name="stock Ray Tune glue", wall_s=time.perf_counter() - started, training_s=training_s)


STUDY = {
    "format": "metaopt.study/1",
    "name": "overhead",
    "evaluations": EVALUATIONS,
    "schedule": {"family": "constant", "ranges": {"lr_g": {"low": 1e-4, "high": 1e-2}, "update_ratio": 1.0}},
}


def run_metaopt(n: int, folder: Path, iterations: int) -> Measured:
    """(c) `metaopt search`, the command as a user types it."""
    from metaopt.search.optuna_space import read_rows

    study, out = folder / "overhead.yaml", folder / "overhead"
    asked = {"tasks": [{"data": "digits", "budget": iterations}], "search": {"trials": n, "workers": WORKERS}}
    study.write_text(json.dumps(STUDY | asked))
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out], check=True)
    wall_s = time.perf_counter() - started
    rows = read_rows(out, "overhead")
    training_s = [row.verdict.wall_s for row in rows if row.verdict]
    return Measured(name="metaopt search", wall_s=wall_s, training_s=training_s)


WAYS: dict[str, Callable[[int, Path, int], Measured]] = {
    "bare": run_bare,
    "stock": run_stock,
    "metaopt": run_metaopt,
}


def _print(found: list[Measured], iterations: int) -> None:
    print(f"\n{WORKERS} workers, {len(found[0].training_s)} trainings of {iterations} iterations")
    print(f"{'':<22}{'in training':>12}{'overhead/trial':>16}{'wall':>10}{'median training':>17}")
    for way in found:
        median_s = statistics.median(way.training_s)
        print(f"{way.name:<22}{way.in_training:>12.1%}{way.overhead_s:>14.3f} s{way.wall_s:>8.1f} s{median_s:>15.2f} s")
    by_name = {way.name: way for way in found}
    if {"stock Ray Tune glue", "metaopt search"} <= by_name.keys():
        ratio = by_name["metaopt search"].overhead_s / by_name["stock Ray Tune glue"].overhead_s
        print(f"overhead per trial, metaopt / stock: {ratio:.3f}")


def main() -> None:
    """Run the ways asked for, in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        iterations = iterations_in(AIM_S)
        _print([WAYS[way](arguments.trials, Path(folder), iterations) for way in arguments.ways], iterations)


if __name__ == "__main__":
    main()
