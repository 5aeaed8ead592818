"""Pictures of a study: scores over its trials, which parameters matter, and how far a search fooled itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure


def draw_scores(path: Path, trials: pd.DataFrame) -> Path:
    """Score of each trial in order, and the best so far; as PNG.

    Args:
        path: where to save.
        trials: as of `leaderboard`; those that do not count, as they diverged, are left out.
    """
    counts = trials["status"].isin(["finished", "collapsed"])
    scored = trials[counts].dropna(subset="score").sort_values("trial")
    named = scored["schedule"] != ""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axis = figure.subplots()
    for part, label, color in ((scored[~named], "proposed", "tab:blue"), (scored[named], "published", "tab:orange")):
        axis.scatter(part["trial"], part["score"], s=18, label=label, color=color)
    axis.step(scored["trial"], scored["score"].cummin(), where="post", color="black", lw=1, label="best so far")
    axis.axhline(0, color="gray", lw=1)
    axis.set_xlabel("trial")
    axis.set_ylabel("score (lower is better)")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)
    return path


def draw_front(path: Path, trials: pd.DataFrame, objectives: Sequence[str]) -> Path:
    """Each objective but the first against the first, one point a trial, those on the front marked; as PNG.

    Args:
        path: where to save.
        trials: as of `leaderboard`, of a study with several objectives; those without `front` are left out.
        objectives: in the study's order; the first one's column is `score`.
    """
    counts = trials[trials["status"].isin(["finished", "collapsed"])].dropna(subset=list(objectives[1:]))
    front = counts["front"].astype(bool)
    figure = Figure(figsize=(5.6 * (len(objectives) - 1), 4.6), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(objectives) - 1, squeeze=False)[0], objectives[1:], strict=True):
        axis.scatter(counts[name][~front], counts["score"][~front], s=18, color="tab:blue", label="other trials")
        best = counts[front].sort_values([name, "score"])
        line = "o-" if len(objectives) == 2 else "o"  # seen from one side only, a surface is no line
        axis.plot(best[name], best["score"], line, color="tab:red", lw=1, ms=5, label="front")
        for row in best.itertuples():
            point = getattr(row, name), row.score
            axis.annotate(str(row.trial), point, xytext=(4, 4), textcoords="offset points", fontsize="small")
        reference = counts[counts["trial"] == 0]
        axis.scatter(reference[name], reference["score"], marker="*", s=110, color="black", label="reference", zorder=3)
        axis.set_xlabel(f"{name} (lower is better)")
        axis.set_ylabel(f"{objectives[0]} (lower is better)")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)
    return path


def draw_importances(path: Path, importances: Mapping[str, float]) -> Path:
    """A bar a parameter, the greatest first; as PNG."""
    figure = Figure(figsize=(7, 1.2 + 0.28 * len(importances)), layout="constrained")
    axis = figure.subplots()
    axis.barh(list(importances), list(importances.values()))
    axis.invert_yaxis()
    axis.set_xlabel("share of the variance of the score")
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    return path


def draw_regret(path: Path, candidates: pd.DataFrame) -> Path:
    """Score in the search against the scores of the same trials when they were trained again; as PNG.

    Args:
        path: where to save.
        candidates: columns `trial`, `search`, `fresh` and `validation`; without the reference, which has 0 in all.
    """
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    titles = {"fresh": "The same tasks, fresh seeds", "validation": "Unseen tasks"}
    for axis, (column, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        axis.scatter(candidates["search"], candidates[column])
        for row in candidates.itertuples():
            axis.annotate(str(row.trial), (row.search, getattr(row, column)), xytext=(5, 0), textcoords="offset points")
        middle = candidates["search"].mean()
        axis.axline((middle, middle), slope=1, color="gray", lw=1)
        axis.set_xlabel("score in the search")
        axis.locator_params(axis="x", nbins=5)
        axis.margins(0.12)  # room for the numbers beside the points
        axis.set_ylabel("score when trained again")
        axis.set_title(title)
        axis.grid(alpha=0.3)
    figure.supxlabel("above the line, the search was too hopeful", fontsize="small")
    figure.savefig(path, dpi=110)
    return path
