"""What must hold of a study's records whatever happened to its driver."""

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import create_engine, text

from metaopt.schedules import load_schedule
from metaopt.search.export import best_trial
from metaopt.search.optuna_space import TrialRow, read_rows

_RUNS = """select t.value, r.status, r.run_uuid from tags t join runs r on r.run_uuid = t.run_uuid
           where t.key = 'metaopt.trial_uid'"""
_DOUBLES = "select run_uuid, key, step from metrics group by run_uuid, key, step having count(*) > 1"
_POINTS = "select count(*) from metrics where run_uuid = :run and key like :key"
_CURVES = ("loss_d", "loss_g", "lr_d", "lr_g", "update_ratio")


def check_whole(
    out: Path, name: str, n_trials: int, n_points: int, *, store: str | None = None, n_errors: int = 0
) -> list[TrialRow]:
    """All trials ended, each is one MLflow run, no point is there twice and none is missing; the best is at hand.

    Args:
        out: folder of the study.
        name: of the study.
        n_trials: how many there must be.
        n_points: how many losses each finished trial must have logged.
        store: URI of the database behind MLflow; the study's own SQLite file if left out.
        n_errors: how many trials must have ended as an error.
    """
    rows = read_rows(out, name)
    assert [row.number for row in rows] == list(range(n_trials))
    assert {row.state for row in rows} <= {"COMPLETE", "FAIL", "PRUNED"}
    engine = create_engine(store or f"sqlite:///{out / 'mlflow.db'}")
    with engine.connect() as database:
        runs = database.execute(text(_RUNS)).fetchall()
        assert len(runs) == n_trials, runs
        assert max(Counter(uid for uid, _, _ in runs).values()) == 1
        wanted = {"FINISHED": n_trials - n_errors} | ({"FAILED": n_errors} if n_errors else {})
        assert Counter(status for _, status, _ in runs) == wanted
        assert database.execute(text(_DOUBLES)).fetchall() == []
        finished = {f"{row.number:05d}" for row in rows if row.verdict and row.verdict.status == "finished"}
        for uid, _, run in runs:
            if uid[-5:] in finished:
                for key in _CURVES:
                    found = database.execute(text(_POINTS), {"run": run, "key": f"%/{key}"}).scalar()
                    assert found == n_points, (uid, key)
    engine.dispose()
    spool = out / "spool" / "events.jsonl"
    assert json.loads(spool.with_name("events.jsonl.ack").read_text())["offset"] == spool.stat().st_size
    best = best_trial(out, rows)
    assert best and best.verdict
    schedule = load_schedule(out / "best_schedule.json")
    assert (schedule.provenance["trial"], schedule.score) == (best.number, best.verdict.score)
    if not best.verdict.intervals:
        assert schedule.params == best.params
    return rows


def wait_until_all_have_ended(mark: str) -> None:
    """As those of a Ray do by themselves, soon after their driver; an AssertionError if some stay."""
    deadline = time.monotonic() + 300
    while left := left_behind(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def left_behind(mark: str) -> list[str]:
    """Processes with `mark`, a name and its value, in the environment that they were started with."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            name, _, value = mark.partition("=")
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(f"{process.pid} {process.name()}")
    return found


def n_ended(out: Path, name: str = "tiny", status: str | None = None) -> int:
    """Trials of a study that have ended so far, or have ended as `status`."""
    rows = read_rows(out, name) if (out / "study.json").exists() else []
    return sum(row.verdict is not None and status in (None, row.verdict.status) for row in rows)


def wait_until(search: "subprocess.Popen[Any]", said: Callable[[], str], seen: Callable[[], bool]) -> None:
    """Wait until something is `seen`; an AssertionError with what a search has `said` if it ends before."""
    while not seen():
        assert search.poll() is None, said()
        time.sleep(0.05)
