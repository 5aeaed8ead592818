"""The metrics beside torchmetrics' and torch-fidelity's, on the same features: values, differences, seconds.

    python benchmarks/metrics.py [--rounds 3]

KID is given the same subsets, the Inception Score the same order and parts. Each implementation is called as its
package has it. The last rows time the Frechet distance alone at 2048 features with the real side prepared, the
packages in turns, and the features themselves.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaopt.gan import load_dataset
from metaopt.metrics import (
    Moments,
    RealStatistics,
    find_features,
    frechet_distance,
    inception_score,
    kernel_distance_of,
    precision_recall,
    small_features,
)

Values = tuple[float, ...]
KID_SEED = 2020
N_SUBSETS, SUBSET_SIZE = 20, 500


def timed(call: Callable[[], Values]) -> tuple[Values, float]:
    """Values and seconds."""
    start = time.perf_counter()
    values = call()
    return values, time.perf_counter() - start


def subsets(n_first: int, n_second: int) -> tuple[Tensor, Tensor]:
    """Those that torch-fidelity draws from its seed."""
    random = np.random.RandomState(KID_SEED)
    pairs = [[random.choice(n, SUBSET_SIZE, replace=False) for n in (n_first, n_second)] for _ in range(N_SUBSETS)]
    return tuple(torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))  # type: ignore[return-value]


def fid_rows(real: Tensor, fake: Tensor) -> dict[str, Callable[[], Values]]:
    """FID from features to number."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    def torchmetrics() -> Values:
        real64, fake64 = real.double(), fake.double()
        return (float(_compute_fid(real64.mean(0), real64.T.cov(), fake64.mean(0), fake64.T.cov())),)

    def fidelity() -> Values:
        stats = [fid_features_to_statistics(x.double()) for x in (real, fake)]
        return (float(fid_statistics_to_metric(*stats, verbose=False)[KEY_METRIC_FID]),)

    def ours() -> Values:
        return (frechet_distance(RealStatistics.from_moments(Moments.of(real)), Moments.of(fake)),)

    return {"metaopt": ours, "torchmetrics": torchmetrics, "torch-fidelity": fidelity}


def kid_rows(real: Tensor, fake: Tensor) -> dict[str, Callable[[], Values]]:
    """KID, mean and standard deviation over the same subsets."""
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
    from torchmetrics.image.kid import poly_mmd

    first, second = subsets(len(real), len(fake))

    def ours() -> Values:
        found = kernel_distance_of(real, fake, first, second)
        return found.mean, found.std

    def torchmetrics() -> Values:
        pairs = zip(first, second, strict=True)
        values = torch.stack([poly_mmd(real[i].double(), fake[j].double()) for i, j in pairs])
        return float(values.mean()), float(values.std(correction=0))

    def fidelity() -> Values:
        options = {"kid_subsets": N_SUBSETS, "kid_subset_size": SUBSET_SIZE, "rng_seed": KID_SEED, "verbose": False}
        found = kid_features_to_metric(real.double(), fake.double(), **options)
        return found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]

    return {"metaopt": ours, "torchmetrics": torchmetrics, "torch-fidelity": fidelity}


def is_rows(logits: Tensor) -> dict[str, Callable[[], Values]]:
    """Inception Score, its mean over 10 parts in the order given."""
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    def torchmetrics() -> Values:
        """torchmetrics.image.inception.InceptionScore.compute, which shuffles: undone here by seed."""
        from torchmetrics.image.inception import InceptionScore

        metric = InceptionScore(feature=torch.nn.Identity(), splits=10)
        torch.manual_seed(0)
        order = torch.randperm(len(logits))
        metric.features = [logits.double()[order.argsort()]]
        torch.manual_seed(0)
        return (float(metric.compute()[0]),)

    return {
        "metaopt": lambda: (inception_score(logits, splits=10).mean,),
        "torchmetrics": torchmetrics,
        "torch-fidelity": lambda: (
            isc_features_to_metric(logits.double(), splits=10, shuffle=False)[KEY_METRIC_ISC_MEAN],
        ),
    }


def pr_rows(real: Tensor, fake: Tensor) -> dict[str, Callable[[], Values]]:
    """Precision and recall, k = 3; torchmetrics has none on features."""
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    def ours() -> Values:
        found = precision_recall(real, fake)
        return found.precision, found.recall

    def fidelity() -> Values:
        options: dict[str, Any] = {"prc_neighborhood": 3, "prc_batch_size": 10000}
        found = prc_features_to_metric(fake.double(), real.double(), **options, save_cpu_ram=False, verbose=False)
        return found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]

    return {"metaopt": ours, "torch-fidelity": fidelity}


def print_rows(name: str, rows: dict[str, Callable[[], Values]]) -> None:
    """One line an implementation; the difference is relative to metaopt's value."""
    ours: Values = ()
    for package, call in rows.items():
        values, seconds = timed(call)
        ours = ours or values
        difference = max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(values, ours, strict=True))
        shown = " ".join(f"{value:.8g}" for value in values)
        print(f"{name:<26}{package:<16}{shown:<28}{difference:>10.1e}{seconds:>10.3f}", flush=True)


def print_distance(real: Tensor, fake: Tensor, rounds: int) -> None:
    """The distance alone, the real side prepared: medians, and ratios within a round.

    metaopt is given features where they are no more than their dimension, as its trainings are, else moments.
    """
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    prepared = RealStatistics.from_moments(Moments.of(real))
    moments = Moments.of(fake)
    given = fake if len(fake) <= fake.shape[1] else moments
    mean, covariance = moments.mean, moments.covariance
    stats = [
        {"mu": a.numpy(), "sigma": b.numpy()} for a, b in ((prepared.mean, prepared.covariance), (mean, covariance))
    ]
    calls: dict[str, Callable[[], float]] = {
        "metaopt": lambda: frechet_distance(prepared, given),
        "torchmetrics": lambda: float(_compute_fid(prepared.mean, prepared.covariance, mean, covariance)),
        "torch-fidelity": lambda: float(next(iter(fid_statistics_to_metric(*stats, verbose=False).values()))),
    }
    seconds: dict[str, list[float]] = {package: [] for package in calls}
    values: dict[str, float] = {}
    for _ in range(rounds):
        for package, call in calls.items():
            start = time.perf_counter()
            values[package] = call()
            seconds[package].append(time.perf_counter() - start)
    for package, mine in seconds.items():
        ratio = statistics.median(b / a for a, b in zip(seconds["metaopt"], mine, strict=True))
        name = f"distance, d = {real.shape[1]}, n = {len(fake)}"
        time_s = statistics.median(mine)
        print(f"{name:<32}{package:<16}{values[package]:<14.8g}{time_s:>8.3f} s{ratio:>8.1f} x", flush=True)


def print_features() -> None:
    """Seconds of 1,000 images of 32 x 32 through each extractor that needs no download."""
    images = torch.randint(0, 256, (1000, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for name in ("small", "lite0"):
        extractor = find_features(name)
        extractor(images[:10])
        _, seconds = timed(lambda extractor=extractor: (float(extractor(images).sum()),))  # type: ignore[misc]
        print(f"{'1,000 images':<26}{name:<16}{seconds:>8.3f} s", flush=True)


def synthetic(n: int, dim: int, seed: int, shift: float) -> Tensor:
    """Correlated float32 features, non-negative as pooled ones are."""
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=torch.Generator().manual_seed(7)) / dim**0.5
    features: Tensor = (torch.randn(n, dim, generator=random) @ mixing + shift).relu()
    return features


def main() -> None:
    """Measure and print."""
    from threadpoolctl import threadpool_limits

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", module="torchmetrics")
    torch.set_num_threads(1)
    with threadpool_limits(1):  # numpy's threads too, which torch-fidelity uses
        print_all(args.rounds)


def print_all(rounds: int) -> None:
    """All tables."""
    print(f"torch {torch.__version__}, one thread")
    print(f"{'features':<26}{'package':<16}{'value':<28}{'difference':>10}{'seconds':>10}")
    x = load_dataset("mnist5k").x
    noisy = (x.float() + 25 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 255)
    real, fake = small_features(x[::2]), small_features(noisy[1::2].to(torch.uint8))
    wide_real, wide_fake = synthetic(5000, 2048, 0, 0.3), synthetic(5000, 2048, 1, 0.35)
    for label, a, b in (("mnist5k small, d = 64", real, fake), ("synthetic, d = 2048", wide_real, wide_fake)):
        print_rows(f"FID {label}", fid_rows(a, b))
        print_rows(f"KID {label}", kid_rows(a, b))
        print_rows(f"P/R {label}", pr_rows(a, b))
    print_rows("IS  1,000 classes", is_rows(4 * synthetic(5000, 1000, 2, 0.0)))
    for n in (500, 1000, 2000, len(wide_fake)):
        print_distance(wide_real, wide_fake[:n], rounds)
    print_features()


if __name__ == "__main__":
    main()
