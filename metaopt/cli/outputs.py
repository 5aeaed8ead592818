"""What a finished search leaves behind and says."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from metaopt.analysis.figures import draw_samples, draw_schedules
from metaopt.analysis.leaderboard import leaderboard
from metaopt.analysis.study import draw_front
from metaopt.cli.commands import train_command, typed, with_twice_the_trials
from metaopt.errors import MetaoptError
from metaopt.gan import Task
from metaopt.meta.objective import log_fid
from metaopt.metrics import small_sample_warning
from metaopt.schedules import ScheduleArtifact, save_schedule
from metaopt.search.export import artifact, best_trial, front_of, mlflow_runs, study_in
from metaopt.search.folder import grid_name, trial_folder, trial_uid
from metaopt.search.generations import history
from metaopt.search.optuna_space import TrialRow
from metaopt.search.study import Study
from metaopt.search.trainings import Trainings
from metaopt.search.winner import Validation
from metaopt.tracking import register_schedule
from metaopt.training.resources import floor, resources

SCHEDULE = "best_schedule.json"
_SHOWN = 10
_FIDS_SHOWN = 4
"""FIDs in a row of the leaderboard; more of them would push the schedules out of a terminal."""


def write_outputs(folder: Path, study: Study, rows: Sequence[TrialRow]) -> list[Path]:
    """Leaderboard and a population's course as CSV, pictures of the best trial if any counts. Returns the files."""
    table = folder / "leaderboard.csv"
    leaderboard(rows).to_csv(table, index=False)
    tables = [table]
    if found := history(folder, rows):
        tables.append(folder / "population.csv")
        pd.DataFrame(found).to_csv(tables[-1], index=False)
    best = best_trial(folder, rows)
    if best is None:
        return tables
    several = len(study.objectives) > 1
    front = [draw_front(folder / "front.png", leaderboard(rows), study.objectives)] if several else []
    schedule = artifact(folder, study_in(folder), best, rows, {})
    return [
        *tables,
        draw_schedules(folder / "best_schedule.png", _schedules(study, schedule, best.number)),
        draw_samples(folder / "samples.png", _columns(folder, study, best), _labels(study)),
        *front,
    ]


def publish_best(folder: Path, study: Study, rows: Sequence[TrialRow], uri: str) -> str | None:
    """Write schedule.json of the best trial, and register it in MLflow; the URI there, if the store answered."""
    best, manifest = best_trial(folder, rows), study_in(folder)
    if best is None:
        return None
    file = save_schedule(artifact(folder, manifest, best, rows, {}), folder / SCHEDULE)
    runs = mlflow_runs(folder, manifest, [best])
    save_schedule(artifact(folder, manifest, best, rows, runs), file)
    run_id = runs.get(trial_uid(study.name, study.key, best.number))
    if run_id is None:
        return None
    try:
        return register_schedule(uri, run_id, file, study.name)
    except MetaoptError:  # the store has gone away since; a later --resume registers it
        return None


def _schedules(study: Study, best: ScheduleArtifact, number: int) -> dict[str, ScheduleArtifact]:
    reference = study.reference.schedule
    return {
        f"trial {number} (best)": best,
        f"{reference.name} (reference)": ScheduleArtifact(family=reference.family, params=reference.params),
    }


def _labels(study: Study) -> list[str]:
    trainings = Trainings(tasks=study.tasks, seeds=study.spec.seeds)
    return [trainings.label(i) for i in range(len(trainings))]


def _columns(folder: Path, study: Study, best: TrialRow) -> dict[str, list[Path]]:
    def grids(number: int) -> list[Path]:
        name = study.spec.evaluations
        return [trial_folder(folder, number) / grid_name(label, name) for label in _labels(study)]

    score = best.verdict.score if best.verdict and best.verdict.score is not None else 0.0
    return {
        f"reference: {study.reference.schedule.name} (trial 0)": grids(0),
        f"best: trial {best.number}, score {score:+.2f}": grids(best.number),
    }


def print_leaderboard(console: Console, rows: Sequence[TrialRow]) -> None:
    """The best trials, the published schedules wherever they stand, and how the others ended."""
    varied = _varied(rows)
    places = {number: place for place, number in enumerate(leaderboard(rows)["trial"], start=1)}
    front = {row.number for row in front_of(rows)}
    shown = [row for row in rows if row.verdict and (places[row.number] <= _SHOWN or row.name or row.number in front)]
    others = next((list(row.verdict.objectives)[1:] for row in shown if row.verdict and row.verdict.objectives), [])
    table = Table(title="Leaderboard (score: ln FID / reference FID over the tasks; lower is better)")
    many = any(row.verdict and len(row.verdict.fids) > _FIDS_SHOWN for row in shown)
    for name in ("#", "trial", "score", *others, "geometric mean of FIDs" if many else "FID"):
        table.add_column(name, justify="right", no_wrap=name != "geometric mean of FIDs")
    table.add_column("schedule")
    for row in sorted(shown, key=lambda row: places[row.number]):
        number = f"* {row.number}" if row.number in front else str(row.number)
        score, fids = result(row)
        table.add_row(str(places[row.number]), number, score, *_others(row, others), fids, _schedule(row, varied))
    console.print(table)
    if front:
        console.print(
            f"* on the front of score, {', '.join(others)}: no trial is better in one and as good in the others "
            "(lower is better in all).",
            highlight=False,
        )
    console.print(ended_as(rows), highlight=False)


def ended_as(rows: Sequence[TrialRow]) -> str:
    """How many trials ended in which way."""
    counts = Counter(row.verdict.status if row.verdict else "not ended" for row in rows)
    return ", ".join(f"{count} {status}" for status, count in counts.most_common()) or "no trial yet"


def print_floors(console: Console, tasks: Sequence[Task], device: str = "cpu") -> None:
    """What FIDs are to be measured against, and where they mislead."""
    floors = ", ".join(f"{task.name} {floor(task, device):.2f}" for task in tasks)
    console.print(
        f"FID floor, of as many real images drawn from the set itself: {floors}", highlight=False, markup=False
    )
    for task in tasks:
        shared = resources(task, device)
        if warning := small_sample_warning(min(task.n_samples, shared.real.statistics.n), shared.extractor.dim):
            console.print(f"{task.name}: {warning}", highlight=False, markup=False)


def print_validation(console: Console, validation: Validation) -> None:
    """The best trials again, on fresh seeds and on tasks that the search has not seen."""
    table = Table(title="Validation (scores against the reference on the same tasks and seeds; lower is better)")
    table.add_column("trial")
    for name in ("search", "same tasks, fresh seeds", "unseen tasks"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in validation.candidates:
        table.add_row(str(one.trial), f"{one.search:+.3f}", f"{one.fresh:+.3f}", f"{one.validation:+.3f}")
    console.print(table)
    console.print(
        f"Winner: trial {validation.winner.trial}. The scores of the search were too good by {validation.regret:+.3f} "
        "on fresh seeds, on average over these trials.",
        highlight=False,
    )


def result(row: TrialRow) -> tuple[str, str]:
    """Score and FIDs of a trial, as they are shown; of many FIDs, the geometric mean."""
    if row.verdict is None:
        return "", ""
    score = "" if row.verdict.score is None else f"{row.verdict.score:+.3f}"
    counts = row.verdict.status in ("finished", "collapsed")
    fids = list(row.verdict.fids.values())
    if len(fids) > _FIDS_SHOWN:
        fids = [math.exp(math.fsum(map(log_fid, fids)) / len(fids))]
    return score if counts else row.verdict.status, " ".join(f"{fid:.1f}" for fid in fids)


def _others(row: TrialRow, names: Sequence[str]) -> list[str]:
    """The objectives besides the score."""
    found = row.verdict.objectives if row.verdict else {}
    return [f"{found[name]:+.3f}" if name in found else "" for name in names]


def _varied(rows: Sequence[TrialRow]) -> set[str]:
    """Parameters that differ between trials; those that a study holds would only fill the table."""
    names = {name for row in rows for name in row.params}
    return {name for name in names if len({row.params.get(name) for row in rows}) > 1} or names


def _schedule(row: TrialRow, varied: set[str]) -> str:
    shown = {name: value for name, value in row.params.items() if name in varied}
    params = " ".join(f"{name}={_values(row, name, value)}" for name, value in shown.items())
    return f"{row.name}: {params}" if row.name else params


def _values(row: TrialRow, name: str, value: str | float) -> str:
    """A parameter, one value after the other where it has changed."""
    if isinstance(value, str):
        return value
    intervals = row.verdict.intervals if row.verdict else ()
    values = [f"{one['params'][name]:.3g}" for one in intervals] or [f"{value:.3g}"]
    return ">".join(after for before, after in zip(["", *values], values, strict=False) if before != after)


def print_next(console: Console, folder: Path, study: Study, again: str, model_uri: str | None) -> None:
    """Where things are, and what to type next; `again` as of `search_command`."""
    schedule = folder / SCHEDULE
    train = train_command(study.spec.tasks[-1], schedule)
    if len(study.objectives) > 1:
        console.print(
            f"\n{folder}/front.png           the front of the objectives; all of its schedules: "
            f"{typed('export', '--study', folder, '--front', '--out', 'front')}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    console.print(
        f"""
{folder}/samples.png         samples, reference against best
{folder}/best_schedule.png   the best schedule over time
{folder}/leaderboard.csv     every trial

Compare all trials in the browser:   {typed("ui", "--study", folder)}
Train with the schedule:             {train}
Look at it:                          {typed("show", schedule)}
Load it through MLflow:              {model_uri or "not registered: the tracking store did not answer"}
{_search_on(study, again)}Follow it in your own PyTorch loop:  see "Use the schedule" in README.md""",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _search_on(study: Study, again: str) -> str:
    """A line of its own; the members of a population are decided on together, so that none can be added."""
    if study.spec.search.population is not None:
        return ""
    return f"Search on:                           {with_twice_the_trials(again, study.spec.search.trials)}\n"
