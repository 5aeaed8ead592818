"""What an evaluation leaves behind and says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metaopt.analysis.evaluation import CONTROLS, SIGNALS, draw_equivalence, draw_fids, draw_forest, draw_over_training
from metaopt.analysis.report import Section, write_report
from metaopt.errors import StorageError
from metaopt.meta.comparison import Comparison, Final, compare
from metaopt.meta.objective import TrainingId, log_fid
from metaopt.meta.statistics import Interval, equivalent_trials, expected_best
from metaopt.meta.transfer import Cell, recorded
from metaopt.search.problems import AnyRecord
from metaopt.training import Outcome
from metaopt.training.resources import floor

if TYPE_CHECKING:
    from metaopt.search.pools import Pool


def write_evaluation(
    out: Path,
    cells: Sequence[Cell],
    schedules: Sequence[str],
    baselines: Sequence[str],
    pools: Sequence["Pool"],
    device: str,
) -> tuple[list[Comparison], pd.DataFrame]:
    """Every record as results.csv, each schedule against each baseline as comparison.csv, pictures and a report.

    Returns the comparisons, and what `equivalence_table` says of `pools`. StorageError: the disk is full, or a training
    is missing.
    """
    finals: dict[str, dict[TrainingId, Final]] = {}
    rows, fids = [], []
    for cell in cells:
        training = recorded(cell, out / "trainings")
        if training is None:
            raise StorageError(f"{out} must hold the training of {cell.task.name}, seed {cell.seed}, but does not.")
        curve = training.curve
        diverged = curve.outcome is Outcome.DIVERGED
        last = Final(fid=curve.fid_at(len(curve.fids) - 1), diverged=diverged)
        finals.setdefault(cell.contestant.name, {})[cell.task.name, cell.seed] = last
        rows += [_row(cell, record, diverged) for record in training.records]
        key = {"schedule": cell.contestant.name, "task": cell.task.name, "seed": cell.seed}
        n = cell.task.evaluations
        fids += [key | {"at": k / n, "fid": curve.fid_at(k)} for k in range(n + 1)]
    found = [
        compare(schedule, baseline, finals, np.random.default_rng(0))
        for schedule in schedules
        for baseline in baselines
    ]
    try:
        results = pd.DataFrame(rows)
        results.to_csv(out / "results.csv", index=False)
        floors = {cell.task.name: floor(cell.task, device) for cell in cells}
        worth = equivalence_table([*schedules, *baselines], finals, pools)
        sections = _sections(out, results, pd.DataFrame(fids), found, floors)
        for name in ("equivalence.csv", "equivalence.png"):  # those of an earlier --tuned
            (out / name).unlink(missing_ok=True)
        if pools:
            worth.to_csv(out / "equivalence.csv", index=False)
            sections.append(_equivalence(out / "equivalence.png", worth, pools))
        write_report(out / "report.html", f"Evaluation of {', '.join(schedules)}", sections)
    except OSError as error:
        raise StorageError(f"{out} could not be written: {error.strerror}.") from error
    return found, worth


def _sections(
    out: Path, results: pd.DataFrame, fids: pd.DataFrame, found: Sequence[Comparison], floors: Mapping[str, float]
) -> list[Section]:
    """The report's, with their pictures drawn; comparison.csv where there is something to compare with."""
    last = fids[fids["at"] == 1.0].groupby(["schedule", "task"], sort=False)["fid"].describe().reset_index()
    last["floor"] = last["task"].map(floors)
    sections = [
        Section(
            title="FID over training",
            text="Median over seeds, and the middle half; a training that diverged counts as its untrained generator "
            "throughout. Dotted: the floor, which as many real images have. The table is of the last evaluation.",
            picture=draw_fids(out / "fid.png", fids, floors),
            table=last[["schedule", "task", "count", "25%", "50%", "75%", "floor"]],
        ),
        Section(
            title="What the schedules set",
            text="Median over tasks and seeds, and the middle half.",
            picture=draw_over_training(out / "controls.png", results, CONTROLS),
        ),
        Section(
            title="What schedules can read",
            text="The signals that drive a schedule with feedback; the same for those without. Median over tasks and "
            "seeds, and the middle half.",
            picture=draw_over_training(out / "signals.png", results, SIGNALS),
        ),
    ]
    if found:
        table = comparison_table(found)
        table.to_csv(out / "comparison.csv", index=False)
        text = (
            "ln(FID / FID of the baseline), paired by seed, with 95 % bootstrap intervals; below 0 the schedule is "
            "better. All tasks: interquartile mean. A training that diverged counts as its untrained generator."
        )
        picture = draw_forest(out / "forest.png", table)
        sections.insert(0, Section(title="Against the baselines", text=text, picture=picture, table=table))
    return sections


def _equivalence(picture: Path, worth: pd.DataFrame, pools: Sequence["Pool"]) -> Section:
    curves = {
        pool.task: [(k, expected_best(pool.ln_fids, k)) for k in range(1, len(pool.ln_fids) + 1)] for pool in pools
    }
    return Section(
        title="Trials of tuning on the task itself",
        text="What the best of k trials of a study on that task alone is expected to reach, and what each schedule "
        "reaches there without any tuning: mean ln FID over seeds. `trials` is where the two meet: 1 for what is no "
        "better than an average trial, inf for what none of the trials reached. Two things count against the "
        "schedules: the best of k is the luckiest on one seed, and k are drawn from all of the study's trials, whose "
        "later ones are better than its first where its sampler learns.",
        picture=draw_equivalence(picture, curves, worth),
        table=worth,
    )


def equivalence_table(
    schedules: Sequence[str], finals: Mapping[str, Mapping[TrainingId, Final]], pools: Sequence["Pool"]
) -> pd.DataFrame:
    """How many trials of tuning on a task alone each schedule is worth there.

    Columns: `schedule`, `task`, `ln_fid` (mean over seeds), `trials` (as of `equivalent_trials`), `of` (trials of the
    study) and `best` (their lowest ln FID).
    """
    rows = []
    for pool in pools:
        for schedule in schedules:
            logs = [log_fid(final.fid) for (task, _), final in finals[schedule].items() if task == pool.task]
            value = math.fsum(logs) / len(logs)
            trials = equivalent_trials(pool.ln_fids, value)
            row = {"schedule": schedule, "task": pool.task, "ln_fid": value, "trials": trials}
            rows.append(row | {"of": len(pool.ln_fids), "best": min(pool.ln_fids)})
    return pd.DataFrame(rows)


def print_equivalence(console: Console, worth: pd.DataFrame) -> None:
    """One row a schedule, one column a task."""
    if worth.empty:
        return
    table = Table(title="Worth as many trials of tuning on that task alone")
    table.add_column("schedule", overflow="fold")
    sizes = worth.drop_duplicates("task").set_index("task")["of"]
    for task, of in sizes.items():
        table.add_column(escape(f"{task} (of {of})"), justify="right")
    for schedule, part in worth.groupby("schedule", sort=False):
        table.add_row(escape(str(schedule)), *(f"{trials:.1f}" for trials in part["trials"]))
    console.print(table)


def _row(cell: Cell, record: AnyRecord, diverged: bool) -> dict[str, object]:
    kept = ("iteration", "progress", "fid", *CONTROLS, "loss_d", "loss_g", *SIGNALS)
    values = asdict(record)
    return {
        "schedule": cell.contestant.name,
        "task": cell.task.name,
        "seed": cell.seed,
        **{name: values[name] for name in kept},
        "diverged": diverged,
    }


def comparison_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """One row a schedule, baseline and task, and one of all tasks together (task empty)."""
    rows: list[dict[str, Any]] = []
    for one in comparisons:
        for on in one.tasks:
            rows.append(
                {"schedule": one.schedule, "baseline": one.rival, "task": on.task}
                | _interval("ln_ratio", on.ratio)
                | {
                    "seeds": on.seeds,
                    "seeds_needed": on.seeds_needed,
                    "diverged": on.diverged,
                    "baseline_diverged": on.rival_diverged,
                }
            )
        rows.append(
            {"schedule": one.schedule, "baseline": one.rival, "task": ""}
            | _interval("ln_ratio", one.overall)
            | _interval("improvement", one.improvement)
        )
    return pd.DataFrame(rows).astype(dict.fromkeys(("seeds", "diverged", "baseline_diverged"), "Int64"))


def _interval(name: str, of: Interval) -> dict[str, Any]:
    return {name: of.estimate, f"{name}_low": of.low, f"{name}_high": of.high}


def print_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    """One row a schedule and baseline: ln FID ratio by task, and over all with its interval."""
    if not comparisons:
        return
    table = Table(title="ln(FID / FID of the baseline), paired by seed; below 0: the schedule is better")
    for name in ("schedule", "against"):
        table.add_column(name, overflow="fold")
    for name in (*(escape(on.task) for on in comparisons[0].tasks), "all (IQM)", "P(better)"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in comparisons:
        parts = [f"{on.ratio.estimate:+.2f}" for on in one.tasks]
        table.add_row(
            escape(one.schedule), escape(one.rival), *parts, _text(one.overall), f"{one.improvement.estimate:.2f}"
        )
    console.print(table)


def _text(of: Interval) -> str:
    return f"{of.estimate:+.2f} [{of.low:+.2f}, {of.high:+.2f}]"
