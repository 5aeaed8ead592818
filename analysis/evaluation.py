"""Pictures of `metaopt evaluate`: who is better where, FID over training, and what the schedules set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_BAND = (0.25, 0.75)
_COLORS, _DASHES = 10, ("-", "--", ":", "-.")
CONTROLS = {"lr_g": "learning rate of G", "lr_d": "learning rate of D", "update_ratio": "D updates per G update"}
"""What a schedule sets: column -> title."""
SIGNALS = {
    "loss_gap": "loss gap of D, in units of its ideal value",
    "d_sign": "average sign of D on real images",
    "d_accuracy": "accuracy of D",
    "log_grad_ratio": "ln of gradient norms, D over G",
}
"""What it may read."""


def draw_forest(path: Path, comparison: pd.DataFrame) -> Path:
    """ln FID ratios with their intervals: one panel a schedule, one block a baseline, one line a task; as PNG.

    Args:
        path: where to save.
        comparison: the table `comparison.csv`; the row of no task is that of all tasks together.
    """
    schedules = list(dict.fromkeys(comparison["schedule"]))
    n_rows = int(comparison.groupby("schedule").size().max())
    figure = Figure(figsize=(7.5 * len(schedules), 1.2 + 0.28 * n_rows), layout="constrained")
    for axis, schedule in zip(figure.subplots(1, len(schedules), squeeze=False)[0], schedules, strict=True):
        rows = comparison[comparison["schedule"] == schedule].reset_index(drop=True)
        overall = rows["task"].fillna("") == ""
        for part, color in ((rows[~overall], "tab:blue"), (rows[overall], "black")):
            low, high = part["ln_ratio"] - part["ln_ratio_low"], part["ln_ratio_high"] - part["ln_ratio"]
            axis.errorbar(part["ln_ratio"], part.index, xerr=[low, high], fmt="o", ms=4, capsize=2, color=color)
        labels = [_plain(f"{baseline}: {task or 'all (IQM)'}") for baseline, task in _pairs(rows)]
        axis.set_yticks(rows.index, labels, fontsize="small")
        axis.invert_yaxis()
        axis.axvline(0, color="gray", lw=1)
        axis.set_title(f"{_plain(schedule)}: ln(FID / FID of the baseline), left is better")
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    return path


def _pairs(rows: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(rows["baseline"], rows["task"].fillna(""), strict=True))


def draw_fids(path: Path, fids: pd.DataFrame, floors: Mapping[str, float]) -> Path:
    """FID over training, one panel a task: median over seeds and the middle half; as PNG.

    Args:
        path: where to save.
        fids: columns `schedule`, `task`, `seed`, `at` (share of the budget) and `fid`.
        floors: FID of real images, by task.
    """
    tasks = list(dict.fromkeys(fids["task"]))
    figure = Figure(figsize=(5.2 * len(tasks) + 2.4, 4.6), layout="constrained")
    for axis, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        _bands(axis, fids[fids["task"] == task], "fid")
        axis.axhline(floors[task], color="black", lw=1, linestyle=":", label="floor")
        axis.set_title(_plain(task))
        axis.set_ylabel("FID")
        axis.set_yscale("log")
    return _saved(figure, path)


def draw_equivalence(path: Path, curves: Mapping[str, Sequence[tuple[float, float]]], worth: pd.DataFrame) -> Path:
    """Expected best ln FID of k tuning trials, one panel a task, and a line for each schedule; as PNG.

    Args:
        path: where to save.
        curves: task -> (k, expected best).
        worth: columns `schedule`, `task` and `ln_fid`.
    """
    figure = Figure(figsize=(5.2 * len(curves) + 2.4, 4.6), layout="constrained")
    for axis, (task, curve) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        axis.plot(*zip(*curve, strict=True), color="black", label="tuned on the task")
        for i, row in enumerate(worth[worth["task"] == task].itertuples()):
            color, dash = f"C{i % _COLORS}", _DASHES[i // _COLORS % len(_DASHES)]
            axis.axhline(row.ln_fid, label=_plain(str(row.schedule)), color=color, linestyle=dash)
        axis.set_xscale("log")
        axis.set_xlabel("trials")
        axis.set_ylabel("ln FID")
        axis.set_title(_plain(task))
        axis.grid(alpha=0.3)
    return _saved(figure, path)


def draw_over_training(path: Path, results: pd.DataFrame, columns: Mapping[str, str]) -> Path:
    """A panel a column of the records, a line a schedule: median over tasks and seeds and the middle half; as PNG.

    Args:
        path: where to save.
        results: the table `results.csv`.
        columns: column -> title, of `CONTROLS` or `SIGNALS`.
    """
    placed = _placed(results)
    figure = Figure(figsize=(4.6 * len(columns) + 1.6, 4.6), layout="constrained")
    for axis, (name, title) in zip(figure.subplots(1, len(columns)), columns.items(), strict=True):
        _bands(axis, placed, name)
        axis.set_title(title)
        if name.startswith("lr_"):
            axis.set_yscale("log", nonpositive="mask")
    return _saved(figure, path)


def _placed(results: pd.DataFrame) -> pd.DataFrame:
    """With `at`, the number of the record as a share of all: a planned moment is overshot by up to an update."""
    number = results.groupby(["schedule", "task", "seed"]).cumcount()
    return results.assign(at=number / max(int(number.max()), 1))


def _bands(axis: Axes, results: pd.DataFrame, column: str) -> None:
    """One line a schedule, each with a colour and a dash of its own."""
    for i, (schedule, part) in enumerate(results.groupby("schedule", sort=False)):
        by = part.groupby("at")[column]
        color, dash = f"C{i % _COLORS}", _DASHES[i // _COLORS % len(_DASHES)]
        axis.plot(by.median().index, by.median(), label=_plain(str(schedule)), color=color, linestyle=dash)
        low, high = (by.quantile(share) for share in _BAND)
        axis.fill_between(low.index, low, high, alpha=0.12, color=color, lw=0)
    axis.set_xlabel("share of the budget")
    axis.grid(alpha=0.3)


def _plain(text: str) -> str:
    """`text` as it is: matplotlib takes what stands between two dollars for a formula."""
    return text.replace("$", r"\$")


def _saved(figure: Figure, path: Path) -> Path:
    lines = figure.axes[0].get_lines()  # a legend of its own leaves out names that begin with an underscore
    figure.legend(lines, [str(line.get_label()) for line in lines], loc="outside right center", fontsize="small")
    figure.savefig(path, dpi=110)
    return path
