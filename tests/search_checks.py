"""What must hold of a study's records whatever happened to its driver."""

import sqlite3
from collections import Counter
from pathlib import Path

from metaopt.search.optuna_space import TrialRow, read_rows


def check_whole(out: Path, name: str, n_trials: int, n_points: int) -> list[TrialRow]:
    """All trials ended, each is one MLflow run, no point is there twice and none is missing.

    Args:
        out: folder of the study, with its SQLite store.
        name: of the study.
        n_trials: how many there must be.
        n_points: how many losses each finished trial must have logged.
    """
    rows = read_rows(out, name)
    assert [row.number for row in rows] == list(range(n_trials))
    assert {row.state for row in rows} <= {"COMPLETE", "FAIL", "PRUNED"}
    store = sqlite3.connect(out / "mlflow.db")
    runs = store.execute(
        "select t.value, r.status, r.run_uuid from tags t join runs r using (run_uuid)"
        " where t.key = 'metaopt.trial_uid'"
    ).fetchall()
    assert len(runs) == n_trials, runs
    assert max(Counter(uid for uid, _, _ in runs).values()) == 1
    assert {status for _, status, _ in runs} == {"FINISHED"}
    doubles = "select 1 from (select count(*) n from metrics group by run_uuid, key, step having n > 1)"
    assert store.execute(doubles).fetchall() == []
    finished = {f"{row.number:05d}" for row in rows if row.verdict and row.verdict.status == "finished"}
    for uid, _, run in runs:
        if uid[-5:] in finished:
            query = "select count(*) from metrics where run_uuid = ? and key like '%/loss_d'"
            assert store.execute(query, (run,)).fetchone() == (n_points,), uid
    return rows
