"""`metaopt simulate`: what another sampler, pruner or cluster would have done with the trainings of a past search."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaopt.cli.options import AllowImport, Overrides, StudySource

if TYPE_CHECKING:
    from rich.console import Console

    from metaopt.search.past_study import PastStudy
    from metaopt.search.simulation import Simulation
    from metaopt.search.study import Study
    from metaopt.search.surrogate import Surrogate


def simulate(
    study: StudySource,
    from_: Annotated[str, typer.Option("--from", help="A finished study: its name under runs/, or its folder.")],
    set_: Overrides = None,
    allow_import: AllowImport = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Trials at once. [default: `search.workers`]")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Simulated searches, with one seed after the other.")] = 5,
    out: Annotated[Path | None, typer.Option(help="CSV file to write, one row a trial.")] = None,
) -> None:
    """Search without training, on a simulated clock: schedules are answered from those that a past search has tried.

    [bold]Examples[/bold]

      metaopt simulate faces.yaml --from faces --set search.sampler=cmaes --workers 8

      metaopt simulate faces.yaml --from faces --set search.pruner=asha --workers 64 --out asha.csv
    """
    from rich.console import Console

    from metaopt.errors import ConfigError
    from metaopt.search.folder import study_folder
    from metaopt.search.initialisation_study import load_any_study
    from metaopt.search.past_study import check_same, read_past_study
    from metaopt.search.simulation import simulate, with_seed
    from metaopt.search.study import Study
    from metaopt.search.surrogate import Surrogate

    loaded, folder = load_any_study(study, set_ or [], allow_import=allow_import), study_folder(from_)
    if not isinstance(loaded, Study):
        raise ConfigError(f"Study {loaded.name!r} must search for schedules, but searches for starts.")
    at_once = workers or loaded.spec.search.workers
    if at_once == "auto":
        raise ConfigError("`--workers` must say how many trials run at once, as `search.workers` is auto.")
    past = read_past_study(folder, allow_import=allow_import)
    check_same(loaded, past, folder)
    surrogate, console = Surrogate(past), Console()
    first = loaded.spec.search.seed
    found = {
        seed: simulate(with_seed(loaded, seed), past, surrogate, at_once) for seed in range(first, first + repeats)
    }
    if out is not None:
        _write(out, loaded, found)
    _print(console, loaded, folder, past, found)
    _print_surrogate(console, past, surrogate)


def _print(console: "Console", study: "Study", folder: Path, past: "PastStudy", found: "dict[int, Simulation]") -> None:
    from statistics import median

    from rich.table import Table

    search, simulations = study.spec.search, list(found.values())
    n_trials = len(past.trials)
    console.print(
        f"Study {study.name} with {search.sampler}{_pruned_by(study)}, {simulations[0].workers} workers, "
        f"{len(found)} {'repeat' if len(found) == 1 else 'repeats'}: answered from {n_trials} trials in {folder}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    table = Table(title="Simulated searches (medians; quartiles of the best score over the repeats)")
    for name in ("seconds", "trials", "pruned", "best score", "quartiles"):
        table.add_column(name, justify="right")
    for time_s in _times([one.wall_s for one in simulations]):
        table.add_row(f"{time_s:,.0f}", *_at(simulations, time_s))
    console.print(table)
    exact = [trial.recorded for one in simulations for trial in one.trials]
    console.print(
        f"The whole search takes {median(one.wall_s for one in simulations):,.0f} s (median), with "
        f"{median(one.busy for one in simulations):.0%} of the workers' time in training. "
        f"{sum(exact)} of {len(exact)} trials were recorded, the others are guesses.",
        highlight=False,
    )


def _pruned_by(study: "Study") -> str:
    search = study.spec.search
    horizons = f" at horizons {search.horizons}" if len(search.horizons) > 1 else ""
    return f", pruner {search.pruner}{horizons}" if search.pruner != "none" else ", racing" if search.racing else ""


def _at(simulations: "Sequence[Simulation]", time_s: float) -> tuple[str, str, str, str]:
    from statistics import median

    import numpy as np

    ended = [one.at(time_s) for one in simulations]
    best = [of[-1].best for of in ended if of and of[-1].best is not None]
    n = median(len(of) for of in ended)
    n_pruned = median(sum(trial.status == "pruned" for trial in of) for of in ended)
    if len(best) < len(simulations):  # some have no score yet
        return f"{n:g}", f"{n_pruned:g}", "", ""
    low, middle, high = np.quantile(best, (0.25, 0.5, 0.75))
    return f"{n:g}", f"{n_pruned:g}", f"{middle:+.3f}", f"{low:+.3f} to {high:+.3f}"


def _times(wall_s: Sequence[float]) -> list[float]:
    """1, 2, 5, 10, 20 ... seconds from a fiftieth of the longest search on, and its end: the same for all settings."""
    from itertools import count, takewhile

    steps = (digit * 10.0**power for power in count() for digit in (1, 2, 5))
    longest = max(wall_s)
    return [*(step for step in takewhile(lambda step: step < longest, steps) if step >= longest / 50), longest]


def _print_surrogate(console: "Console", past: "PastStudy", surrogate: "Surrogate") -> None:
    """How far guesses can be trusted."""
    from scipy.stats import spearmanr

    true, guessed = surrogate.left_out()
    if len(set(true)) < 3 or len(set(guessed)) < 3:
        console.print("Too few trials were trained to their ends to say how good guesses are.", highlight=False)
        return
    error = sum(abs(a - b) for a, b in zip(true, guessed, strict=True)) / len(true)
    mean = sum(true) / len(true)
    spread = sum(abs(a - mean) for a in true) / len(true)
    n_better = sum(score < 0 for score in true)
    console.print(
        f"Guesses, each trial from the others: rank correlation {spearmanr(true, guessed).statistic:.2f}, mean error "
        f"{error:.2f} in scores that are {spread:.2f} from their mean. {n_better} of {len(true)} trials are better "
        f"than the reference, the best has {min(true):+.3f}: no guess is better than that one.",
        highlight=False,
    )
    if past.n_left_out:
        console.print(f"Left out: {past.n_left_out} trials without a trained generator's FID.", highlight=False)


def _write(out: Path, study: "Study", found: "dict[int, Simulation]") -> None:
    from metaopt.tracking import CsvWriter

    search = study.spec.search
    setting = {"sampler": search.sampler, "pruner": search.pruner}
    columns = ("sampler", "pruner", "workers", "seed", "trial", "schedule", "began_s", "ended_s", "status", "steps")
    with CsvWriter(out.expanduser(), (*columns, "score", "best_score", "recorded")) as table:
        for seed, one in found.items():
            for trial in one.trials:
                table.write(
                    {
                        **setting,
                        "workers": one.workers,
                        "seed": seed,
                        "trial": trial.number,
                        "schedule": trial.name,
                        "began_s": trial.began_s,
                        "ended_s": trial.ended_s,
                        "status": trial.status,
                        "steps": trial.steps,
                        "score": trial.score,
                        "best_score": trial.best,
                        "recorded": trial.recorded,
                    }
                )
