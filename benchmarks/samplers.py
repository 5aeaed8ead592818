"""Which sampler wins at equal compute: the same number of trials, proposed and recorded as `metaopt search` does.

    python benchmarks/samplers.py --trials 100 --repeats 20
    python benchmarks/samplers.py --study search_spaces/transfer_static.yaml --trials 60 --seeds 3

Without `--study`, a synthetic objective in the space of a schedule family, F(u) = c sum_j w_j (u_j - u*_j)^2 - 1/2 with
u the parameters in the unit cube of their search ranges (of their logarithms where those are searched). The hidden
optimum u* is uniform in [0.1, 0.9]^d and w_j log-uniform in [0.1, 10], drawn anew for each repeat, and c is such that
F is 0 at the reference schedule, which is trial 0 of all samplers, and -1/2 at the optimum. A trial's score is F plus
normal noise of standard deviation `--noise`, the same for all samplers. Printed: quartiles, over the repeats, of the
noise-free F of the trial with the best score.

With `--study`, real searches of that file in temporary folders, with `search.sampler`, `.trials` and `.seed`
overridden: the best score in each search, seed by seed, as trained, so one that was lucky counts as good.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from metaopt.search.optuna_space import Proposal, Proposals, Verdict
from metaopt.search.search import opened
from metaopt.search.study import Study, load_study

SAMPLERS = ("tpe", "cmaes", "gp", "es", "random")
Params = Mapping[str, float]


def synthetic_study(folder: Path, *, family: str, sampler: str, trials: int, seed: int) -> Study:
    """A study whose space is a family's; its task is never trained."""
    content = {
        "name": "samplers",
        "tasks": [{"data": "digits"}],
        "schedule": {"family": family},
        "search": {"sampler": sampler, "trials": trials, "seed": seed},
    }
    path = folder / "samplers.yaml"
    path.write_text(json.dumps(content))
    return load_study(str(path))


def hidden_objective(study: Study, seed: int) -> Callable[[Params], float]:
    """F of a repeat."""

    def cube(params: Params) -> np.ndarray:
        return np.array([_part(params[name], range_.low, range_.high, range_.log) for name, range_ in ranges.items()])

    ranges = {name: range_ for name, range_ in study.space.items() if range_.low < range_.high}
    random = np.random.default_rng([1, seed])
    optimum = random.uniform(0.1, 0.9, len(ranges))
    weights = 10 ** random.uniform(-1, 1, len(ranges))
    c = 0.5 / float(weights @ (cube(study.reference.params) - optimum) ** 2)
    return lambda params: c * float(weights @ (cube(params) - optimum) ** 2) - 0.5


def _part(x: float, low: float, high: float, log: bool) -> float:
    return math.log(x / low) / math.log(high / low) if log else (x - low) / (high - low)


def synthetic_search(study: Study, folder: Path, *, noise: float, workers: int) -> float:
    """F of the trial with the best score; of `workers` trials at once, the oldest always ends first."""
    seed = study.spec.search.seed
    true, random = hidden_objective(study, seed), np.random.default_rng([2, seed])
    noises = noise * random.standard_normal(study.spec.search.trials)
    proposals = Proposals(folder, study)
    running: list[Proposal] = []
    ended: list[tuple[float, float]] = []
    while True:
        proposal = proposals.ask("") if len(running) < workers else None
        if proposal is not None:
            running.append(proposal)
        elif running:
            oldest = running.pop(0)
            score = true(oldest.params) + float(noises[oldest.number])
            proposals.tell(oldest.number, Verdict(status="finished", score=score))
            ended.append((score, true(oldest.params)))
        else:
            return min(ended)[1]


def real_search(file: str, folder: Path, *, sampler: str, trials: int, seed: int) -> float:
    """Best score of a search; inf if no trial finished."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    search = {"sampler": sampler, "trials": trials, "seed": seed}
    study = load_study(file, [f"tracking.uri={uri}", *(f"search.{key}={value}" for key, value in search.items())])
    with opened(study, folder / "study", resume=False) as running:
        running.run(lambda session: None)
        rows = running.session.rows()
    scores = [row.verdict.score for row in rows if row.state == "COMPLETE" and row.verdict]
    return min((score for score in scores if score is not None), default=math.inf)


def measure(samplers: Sequence[str], seeds: int, search: Callable[[str, int, Path], float]) -> dict[str, list[float]]:
    """Sampler -> value of each seed, in temporary folders."""
    found: dict[str, list[float]] = {}
    for sampler in samplers:
        started = time.perf_counter()
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                found.setdefault(sampler, []).append(search(sampler, seed, Path(folder)))
        print(f"{sampler}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return found


def _print_synthetic(found: Mapping[str, list[float]]) -> None:
    print("| sampler | median of true F | quartiles |\n| --- | ---: | ---: |")
    for sampler, values in sorted(found.items(), key=lambda item: float(np.median(item[1]))):
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
        print(f"| {sampler} | {median:.3f} | {low:.3f} to {high:.3f} |")


def _print_real(found: Mapping[str, list[float]]) -> None:
    print("| sampler | median best score | by seed |\n| --- | ---: | --- |")
    for sampler, values in sorted(found.items(), key=lambda item: float(np.median(item[1]))):
        print(f"| {sampler} | {np.median(values):.3f} | {', '.join(f'{value:.3f}' for value in values)} |")


def _synthetic(arguments: argparse.Namespace) -> None:
    def search(sampler: str, seed: int, folder: Path) -> float:
        study = synthetic_study(folder, family=arguments.family, sampler=sampler, trials=arguments.trials, seed=seed)
        return synthetic_search(study, folder, noise=arguments.noise, workers=arguments.workers)

    with tempfile.TemporaryDirectory() as folder:
        space = synthetic_study(Path(folder), family=arguments.family, sampler="tpe", trials=1, seed=0).space
    print(
        f"\n{arguments.family}, {len(space)} parameters; {arguments.trials} trials, {arguments.workers} at once; "
        f"noise {arguments.noise:g}; {arguments.repeats} repeats\n"
    )
    _print_synthetic(measure(arguments.samplers, arguments.repeats, search))


def _real(arguments: argparse.Namespace) -> None:
    def search(sampler: str, seed: int, folder: Path) -> float:
        return real_search(arguments.study, folder, sampler=sampler, trials=arguments.trials, seed=seed)

    print(f"\n{arguments.study}: {arguments.trials} trials, {arguments.seeds} seeds\n")
    _print_real(measure(arguments.samplers, arguments.seeds, search))


def main() -> None:
    """Measure the samplers asked for, in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=20, help="synthetic objectives")
    parser.add_argument("--family", default="knots", help="whose space the synthetic objective lives in")
    parser.add_argument("--noise", type=float, default=0.15)
    parser.add_argument("--workers", type=int, default=1, help="synthetic trials at once")
    parser.add_argument("--study", help="a study, by name or file, to search for real instead")
    parser.add_argument("--seeds", type=int, default=3, help="real searches for each sampler")
    arguments = parser.parse_args()
    (_real if arguments.study else _synthetic)(arguments)


if __name__ == "__main__":
    main()
