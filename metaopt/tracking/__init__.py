"""Where numbers go: trackers, their spool, MLflow behind it, plain files. Importing this loads no mlflow."""

from pathlib import Path

from metaopt.tracking.mlflow_connect import check_answers, check_installed
from metaopt.tracking.mlflow_store import MlflowSink
from metaopt.tracking.null import NullTracker
from metaopt.tracking.read import find_runs, load_curve, load_runs
from metaopt.tracking.records import CsvWriter, JsonlWriter
from metaopt.tracking.registry import register_schedule
from metaopt.tracking.sender import SpooledTracker
from metaopt.tracking.spool import Spool
from metaopt.tracking.types import Point, Status, Tracker, Value

__all__ = [
    "CsvWriter",
    "JsonlWriter",
    "NullTracker",
    "Point",
    "Spool",
    "SpooledTracker",
    "Status",
    "Tracker",
    "Value",
    "check_answers",
    "find_runs",
    "load_curve",
    "load_runs",
    "open_tracker",
    "register_schedule",
]

SPOOL_NAME = "events.jsonl"


def open_tracker(tracking_uri: str, experiment: str, spool_dir: Path) -> SpooledTracker:
    """A tracker into MLflow whose events wait in ``spool_dir/events.jsonl`` until they are delivered.

    The spool is the identity of the study: opened again, it leads to the same runs. Nothing is asked of the
    server here, so a server that is down or a wrong URI shows as a warning in the log while the search runs.

    Raises:
        MissingPackageError: mlflow is not installed.
        ArtifactError: the spool's file is not a spool.
        StorageError: the spool cannot be written, or another process has it open.
    """
    check_installed()
    spool = Spool(spool_dir / SPOOL_NAME)
    return SpooledTracker(spool, MlflowSink(tracking_uri, experiment, study_uid=spool.uid))
