"""What a finished search leaves behind and says."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from metaopt.analysis.figures import draw_samples, draw_schedules
from metaopt.analysis.leaderboard import leaderboard
from metaopt.schedules import ScheduleArtifact, save_schedule
from metaopt.search.export import artifact, scored
from metaopt.search.folder import grid_name, manifest_of, trial_folder
from metaopt.search.optuna_space import TrialRow
from metaopt.search.session import Trainings
from metaopt.search.study import Study

SCHEDULE = "best_schedule.json"
_SHOWN = 10


def write_outputs(folder: Path, study: Study, rows: Sequence[TrialRow]) -> list[Path]:
    """Leaderboard as CSV; pictures and schedule.json of the best trial, if any trial counts. Returns the files."""
    table = folder / "leaderboard.csv"
    leaderboard(rows).to_csv(table, index=False)
    ranking = scored(rows)
    if not ranking:
        return [table]
    best = ranking[0][1]
    schedule = artifact(manifest_of(study), best, rows)
    return [
        table,
        save_schedule(schedule, folder / SCHEDULE),
        draw_schedules(folder / "best_schedule.png", _schedules(study, schedule, best.number)),
        draw_samples(folder / "samples.png", _columns(folder, study, best), _labels(study)),
    ]


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
    """The best trials, how the others ended, and the published schedules wherever they stand."""
    frame = leaderboard(rows)
    shown = frame[(frame.index < _SHOWN) | (frame["schedule"] != "")]
    columns = [name for name in frame.columns if name not in ("wall_s",)]
    table = Table(title="Leaderboard (score: mean ln FID / reference FID; lower is better)")
    table.add_column("#", justify="right")
    for name in columns:
        table.add_column(name, justify="left" if name in ("status", "schedule") else "right")
    for place, row in shown.iterrows():
        table.add_row(str(int(str(place)) + 1), *(_cell(row[name]) for name in columns))
    console.print(table)
    counts = frame["status"].value_counts()
    console.print(", ".join(f"{count} {status}" for status, count in counts.items()), highlight=False)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3g}"
    return "" if value is None else str(value)


def print_next(console: Console, folder: Path, study_source: str, study: Study) -> None:
    """Where things are, and what to type next."""
    schedule = folder / SCHEDULE
    train = f"metaopt train --task {study.spec.tasks[-1].data} --schedule {schedule} --seed 3 --out runs/train"
    more = f"--out {folder} --resume --set search.trials={2 * study.spec.search.trials}"
    console.print(
        f"""
{folder}/samples.png         samples, reference against best
{folder}/best_schedule.png   the best schedule over time
{folder}/leaderboard.csv     every trial

Compare all trials in the browser:   metaopt ui --study {folder}
Train with the schedule:             {train}
Look at it:                          metaopt show {schedule}
Search on:                           metaopt search {study_source} {more}
Follow it in your own PyTorch loop:  see "Use the schedule" in README.md""",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
