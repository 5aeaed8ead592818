"""What a finished search for starts leaves behind and says."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from metaopt.analysis.figures import draw_samples
from metaopt.analysis.leaderboard import leaderboard
from metaopt.cli.commands import typed, with_twice_the_trials
from metaopt.meta.maml import save_initialisation
from metaopt.search.export import best_trial, export_start
from metaopt.search.folder import grid_name, trial_folder
from metaopt.search.initialisation_study import InitialisationStudy
from metaopt.search.optuna_space import TrialRow
from metaopt.search.unseen import FILE as TEST
from metaopt.search.unseen import judged_on_unseen
from metaopt.search.winner import REFERENCE

FILE = "best_initialisation.safetensors"


def write_start_outputs(folder: Path, study: InitialisationStudy, rows: Sequence[TrialRow]) -> list[Path]:
    """Leaderboard as CSV, and of the best trial its start, and samples beside the reference's. Returns the files."""
    table = folder / "leaderboard.csv"
    leaderboard(rows).to_csv(table, index=False)
    best = best_trial(folder, rows)
    if best is None:
        return [table]
    label = study.tasks[0].name
    score = best.verdict.score if best.verdict and best.verdict.score is not None else 0.0

    def grid(number: int) -> list[Path]:
        return [trial_folder(folder, number) / grid_name(label, study.spec.evaluations)]

    columns = {
        f"reference: {study.reference.params['algorithm']} (trial 0)": grid(0),
        f"best: trial {best.number}, {best.params['algorithm']}, score {score:+.2f}": grid(best.number),
    }
    return [
        table,
        save_initialisation(export_start(folder, best.number), folder / FILE),
        draw_samples(folder / "samples.png", columns, ["rows of 8: adapted to, before, after"]),
    ]


def print_test(console: Console, folder: Path, study: InitialisationStudy, rows: Sequence[TrialRow]) -> Path | None:
    """The best start against the reference on the groups of `test`, where the study has any; the file it is in."""
    best, (task,) = best_trial(folder, rows), study.tasks
    if best is None or not task.test:
        return None
    if best.number == REFERENCE:
        console.print("The reference is the best: there is nothing to test.")
        return None
    found = judged_on_unseen(folder, task, best.number)
    ratio = found.ratio
    console.print(
        f"On {len(found.groups)} unseen groups, trial {best.number} against the reference: ln FID ratio "
        f"{ratio.estimate:+.3f} ({ratio.low:+.3f} to {ratio.high:+.3f}), KID {found.kid:.3g} against "
        f"{found.reference_kid:.3g}",
        highlight=False,
    )
    return folder / TEST


def print_next_of_starts(
    console: Console, folder: Path, study: InitialisationStudy, rows: Sequence[TrialRow], again: str
) -> None:
    """Where things are, and what to type next; `again` as of `search_command`."""
    start = folder / FILE
    if best_trial(folder, rows) is None:
        console.print(f"No trial has a score. {folder}/leaderboard.csv says how each ended.", highlight=False)
        return
    console.print(
        f"""
{start}   the best start
{folder}/samples.png         samples before and after adaptation, reference against best
{folder}/leaderboard.csv     every trial

Adapt it to images of your own:      {typed("adapt", "--init", start, "--data", "DIR", "--out", "runs/adapted")}
Compare all trials in the browser:   {typed("ui", "--study", folder)}
Search on:                           {with_twice_the_trials(again, study.spec.search.trials)}
Load it in your own code:            see docs/initialisations.md""",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
