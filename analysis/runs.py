"""The trials of a study out of MLflow, as a data frame."""

import pandas as pd

from metaopt.tracking import load_runs


def study_runs(tracking_uri: str, study: str) -> pd.DataFrame:
    """One row a trial of the MLflow experiment `study`, in order of their numbers.

    Columns: `trial`, `status`, `score`, `run_id`, and MLflow's `params.*` (as numbers where they are),
    `metrics.*` (last values) and `tags.*`.
    """
    frame = pd.DataFrame(load_runs(tracking_uri, study))
    if frame.empty:
        return frame
    for column in frame.columns[frame.columns.str.startswith("params.")]:
        numbers = pd.to_numeric(frame[column], errors="coerce")
        if numbers.notna().all():
            frame[column] = numbers
    frame["trial"] = pd.to_numeric(frame["tags.metaopt.number"])
    frame["status"] = frame.get("tags.metaopt.status", "running")
    frame["score"] = frame.get("metrics.score", float("nan"))
    return frame.sort_values("trial").reset_index(drop=True)
