"""Whether simulated searches rank settings as real ones do.

    python benchmarks/simulator.py --out runs/simulator
    python benchmarks/simulator.py --out runs/simulator_wide --set 'schedule.ranges={}' --set search.trials=64

One random search (96 trials, seed 100) is the past study. Then `benchmarks/simulator_study.yaml` is searched with each
setting: for real with three seeds, on Ray, with two trials at once, and simulated from the past study with ten. Two
things are ranked: the best score at the end, and the mean best score so far over the evaluations of all trials (0
before the first score), up to as many as the setting with the fewest does. Evaluations, not seconds, as the load of the
machine is none of their business; seconds of training are printed too. Searches that are whole in `--out` are not run
again.

Printed: the medians over seeds, how many pairs of settings are ordered alike by the medians, and, for comparison, how
many are by one real seed and the medians of the other seeds, on average.
"""

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from metaopt.search.optuna_space import read_rows
from metaopt.search.past_study import read_past_study
from metaopt.search.search import opened
from metaopt.search.simulation import simulate, with_seed
from metaopt.search.study import Study, load_study
from metaopt.search.surrogate import NEIGHBOURS, Surrogate

STUDY = str(Path(__file__).with_name("simulator_study.yaml"))
WORKERS = 2
SETTINGS: Mapping[str, Sequence[str]] = {
    "random": ["search.sampler=random"],
    "tpe": ["search.sampler=tpe"],
    "cmaes": ["search.sampler=cmaes"],
    "random, asha": ["search.sampler=random", "search.pruner=asha"],
}


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a search went."""

    ends: Sequence[tuple[int, float | None]]
    """Evaluations of each trial that ended, in order, and its score if it counts."""
    seconds: float
    """Of training, by each worker."""

    @property
    def best(self) -> float:
        return min(score for _, score in self.ends if score is not None)

    @property
    def evaluations(self) -> int:
        return sum(steps for steps, _ in self.ends)

    def mean_best(self, n: float) -> float:
        """Mean over the first `n` evaluations of the best score so far; 0, the reference's, before there is one."""
        total, done, best = 0.0, 0.0, 0.0
        for steps, score in self.ends:
            total += best * (min(done + steps, n) - min(done, n))
            done += steps
            best = best if score is None else min(best, score)
        return (total + best * max(0.0, n - done)) / n


def searched(folder: Path, overrides: Sequence[str]) -> Course:
    """A real search, unless `folder` holds it already."""
    own = [f"tracking.uri=sqlite:///{folder.absolute() / 'mlflow.db'}"]
    study = load_study(STUDY, [*overrides, *own])
    if len([row for row in read_rows(folder, study.name) if row.ended]) < study.spec.search.trials:
        with opened(study, folder, resume=True) as running:
            running.run(lambda session: None)
            running.tracker.end_study(status="FINISHED", metrics={}, tags={})
    rows = sorted((row for row in read_rows(folder, study.name) if row.ended), key=lambda row: str(row.ended))
    found = [(row, row.verdict) for row in rows if row.verdict]
    return Course(
        ends=[(len(of.scores), of.score if row.state == "COMPLETE" else None) for row, of in found],
        seconds=sum(of.wall_s for _, of in found) / WORKERS,
    )


def simulated(study: Study, past_folder: Path, seeds: Sequence[int], n_neighbours: int) -> list[Course]:
    """The same setting, simulated."""
    past = read_past_study(past_folder)
    surrogate = Surrogate(past, n_neighbours)
    found = [simulate(with_seed(study, seed), past, surrogate, WORKERS) for seed in seeds]
    return [
        Course(
            ends=[(trial.steps, None if trial.status == "diverged" else trial.score) for trial in one.trials],
            seconds=one.wall_s * one.busy,
        )
        for one in found
    ]


def alike(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Share of the pairs of settings that both order alike; ties count half."""
    pairs = list(itertools.combinations(a, 2))
    products = [(a[x] - a[y]) * (b[x] - b[y]) for x, y in pairs]
    return sum(1.0 if product > 0 else 0.5 if product == 0 else 0.0 for product in products) / len(pairs)


def one_against_others(of: Mapping[str, Sequence[float]]) -> float:
    """`alike` of each seed and the medians of the others, on average."""
    n = len(next(iter(of.values())))
    shares = [
        alike(
            {name: values[seed] for name, values in of.items()},
            {name: median([*values[:seed], *values[seed + 1 :]]) for name, values in of.items()},
        )
        for seed in range(n)
    ]
    return sum(shares) / n


def _row(name: str, real: Sequence[float], fake: Sequence[float]) -> None:
    values = ", ".join(f"{value:.2f}" for value in real)
    print(f"| {name} | {median(real):.2f} ({values}) | {median(fake):.2f} ({min(fake):.2f} to {max(fake):.2f}) |")


def _compare(
    title: str,
    real: Mapping[str, Sequence[Course]],
    fake: Mapping[str, Sequence[Course]],
    measure: Callable[[Course], float],
) -> None:
    print(f"\n{title}\n\n| setting | real: median (seeds) | simulated: median (range) |\n| --- | --- | --- |")
    ours = {name: [measure(course) for course in courses] for name, courses in real.items()}
    theirs = {name: [measure(course) for course in courses] for name, courses in fake.items()}
    for name in real:
        _row(name, ours[name], theirs[name])
    medians = [{name: median(values) for name, values in of.items()} for of in (ours, theirs)]
    print(
        f"\npairs ordered alike: {alike(*medians):.0%}; by one real seed and the others: {one_against_others(ours):.0%}"
    )


def main() -> None:
    """Search, simulate, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/simulator"), help="folder of the real searches")
    parser.add_argument("--seeds", type=int, default=3, help="real searches of each setting")
    parser.add_argument("--repeats", type=int, default=10, help="simulated searches of each setting")
    parser.add_argument("--set", action="append", default=[], help="override a key of the study, as for a search")
    parser.add_argument("--past", default="past", help="folder in --out to simulate from; tpe-0 is a search of --seeds")
    parser.add_argument("--neighbours", type=int, default=NEIGHBOURS)
    arguments = parser.parse_args()
    past, own = arguments.out / arguments.past, arguments.set
    if arguments.past == "past":
        searched(past, [*own, "search.sampler=random", "search.trials=96", "search.seed=100"])
    real: dict[str, list[Course]] = {}
    for seed in range(arguments.seeds):
        for name, overrides in SETTINGS.items():
            folder = arguments.out / f"{name.replace(', ', '-')}-{seed}"
            real.setdefault(name, []).append(searched(folder, [*own, *overrides, f"search.seed={seed}"]))
            print(f"{folder}: best score {real[name][-1].best:+.3f}", flush=True)
    fake = {
        name: simulated(load_study(STUDY, [*own, *overrides]), past, range(arguments.repeats), arguments.neighbours)
        for name, overrides in SETTINGS.items()
    }
    n = min(median(course.evaluations for course in courses) for of in (real, fake) for courses in of.values())
    print(f"\n{arguments.neighbours} neighbours")
    _compare("Best score at the end", real, fake, lambda course: course.best)
    _compare(f"Mean best score over {n:g} evaluations", real, fake, lambda course: course.mean_best(n))
    _compare("Seconds of training", real, fake, lambda course: course.seconds)


if __name__ == "__main__":
    main()
