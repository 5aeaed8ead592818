"""Pictures: sample grids side by side, and schedules over training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.image as mpimg
from matplotlib.figure import Figure

from metaopt.schedules import Schedule, ScheduleArtifact, Signals
from metaopt.schedules.types import LOG_4

_POINTS = 201
_PANELS = (
    ("lr_g", "learning rate of G"),
    ("lr_d", "learning rate of D"),
    ("update_ratio", "D updates per G update"),
)


def draw_samples(path: Path, columns: Mapping[str, Sequence[Path]], rows: Sequence[str]) -> Path:
    """Sample grids as a table of pictures: one column a schedule, one row a training; saved as PNG.

    Args:
        path: where to save.
        columns: title -> grid of each row.
        rows: label of each row.
    """
    n_rows, n_columns = len(rows), len(columns)
    figure = Figure(figsize=(4.2 * n_columns, 4.3 * n_rows + 0.3), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for j, (title, grids) in enumerate(columns.items()):
        for i, grid in enumerate(grids):
            axis = axes[i][j]
            axis.set_xticks([])
            axis.set_yticks([])
            if grid.exists():
                axis.imshow(mpimg.imread(grid), cmap="gray", interpolation="nearest")
            else:
                axis.text(0.5, 0.5, "no samples", ha="center", va="center", transform=axis.transAxes)
            if i == 0:
                axis.set_title(title)
            if j == 0:
                axis.set_ylabel(rows[i])
    figure.savefig(path, dpi=100)
    return path


def draw_schedules(path: Path, schedules: Mapping[str, Schedule], *, note: str = "") -> Path:
    """The three controls over training progress, one line a schedule; rates on a log axis; saved as PNG.

    Schedules that read live signals are drawn as they act in a balanced game, for the loss that they were learned on.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes = figure.subplots(1, len(_PANELS))
    progress = [i / (_POINTS - 1) for i in range(_POINTS)]
    for label, schedule in schedules.items():
        state, controls = schedule.init(), []
        ideal_d_loss = schedule.ideal_d_loss if isinstance(schedule, ScheduleArtifact) else LOG_4
        for t in progress:
            state, now = schedule.step(state, Signals(progress=t, ideal_d_loss=ideal_d_loss))
            controls.append(now)
        for axis, (name, _) in zip(axes, _PANELS, strict=True):
            axis.plot(progress, [getattr(now, name) or None for now in controls], label=label)
    for axis, (name, title) in zip(axes, _PANELS, strict=True):
        axis.set_title(title)
        axis.set_xlabel("share of the budget")
        axis.grid(alpha=0.3)
        if name != "update_ratio":
            axis.set_yscale("log")
    axes[-1].set_ylim(bottom=0)
    axes[0].legend()
    if note:
        figure.supxlabel(note, fontsize="small")
    figure.savefig(path, dpi=110)
    return path
