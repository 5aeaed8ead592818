"""The trials of a study as a table, best first."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Protocol

import pandas as pd

from metaopt.meta.pareto import pareto_front

_COUNT = ("finished", "collapsed")
_ORDER = {"finished": 0, "collapsed": 1, "pruned": 2, "diverged": 3, "error": 4, "running": 5}


class _Verdict(Protocol):
    @property
    def status(self) -> str: ...
    @property
    def score(self) -> float | None: ...
    @property
    def fids(self) -> Any: ...
    @property
    def wall_s(self) -> float: ...
    @property
    def objectives(self) -> Mapping[str, float]: ...
    @property
    def intervals(self) -> Any: ...


class _Trial(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def params(self) -> Any: ...
    @property
    def name(self) -> str: ...
    @property
    def verdict(self) -> _Verdict | None: ...


def leaderboard(trials: Iterable[_Trial]) -> pd.DataFrame:
    """One row a trial: those that count by their score, best first, then the others by how they ended.

    Columns: `trial`, `status`, `score` (ln FID / reference FID; lower is better), `schedule` (the published
    rule that the trial is, or empty), `FID <training>` and one a parameter. Of a study with several objectives also
    one each but the first, which is the score, and `front`: whether no trial that counts is better in all of them. Of a
    member of a population, the parameters are those that it began with, and `lineage` says which trials have trained
    what it is.
    """
    listed = list(trials)
    front = _front(listed)
    frame = pd.DataFrame([_row(trial, front) for trial in listed])
    if frame.empty:
        return pd.DataFrame(columns=["trial", "status", "score", "schedule"])
    rank = frame["status"].map(_ORDER).where(~frame["status"].isin(_COUNT), 0)
    return (
        frame.assign(rank=rank)
        .sort_values(["rank", "score", "trial"], kind="stable")
        .drop(columns="rank")
        .reset_index(drop=True)
    )


def _front(trials: Sequence[_Trial]) -> set[int]:
    points = {
        trial.number: list(trial.verdict.objectives.values())
        for trial in trials
        if trial.verdict and trial.verdict.objectives and trial.verdict.status in _COUNT
    }
    numbers = list(points)
    return {numbers[place] for place in pareto_front(list(points.values()))}


def _row(trial: _Trial, front: Set[int]) -> dict[str, Any]:
    verdict = trial.verdict
    row: dict[str, Any] = {
        "trial": trial.number,
        "status": verdict.status if verdict else "running",
        "score": verdict.score if verdict else None,
        "schedule": trial.name,
    }
    if verdict and verdict.objectives:
        row |= {"front": trial.number in front} | dict(list(verdict.objectives.items())[1:])
    if verdict:
        row |= {f"FID {label}": fid for label, fid in verdict.fids.items()}
        row["wall_s"] = verdict.wall_s
        if verdict.intervals:
            row["lineage"] = " ".join(str(one["trial"]) for one in verdict.intervals)
    return row | dict(trial.params)
