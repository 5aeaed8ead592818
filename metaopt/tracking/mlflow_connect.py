"""Reaching an MLflow store: quietly, with short time-outs, and without breaking a fresh SQLite file."""

import logging
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from metaopt.errors import MetaoptError, MissingPackageError
from metaopt.tracking.locks import locked
from metaopt.tracking.redact import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DEFAULTS = {
    # MLflow's own are 7 retries and 120 s: one point for a dead server would block for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_CHATTY_HANDLERS = ("mlflow", "alembic", "sqlalchemy.engine")
_CHATTY_LOGGERS = ("urllib3.connectionpool",)

log = logging.getLogger(__name__)
_here = threading.local()


def check_installed() -> None:
    """Raise MissingPackageError, with what to type, if mlflow is not installed. Does not import it."""
    if find_spec("mlflow") is None:
        raise MissingPackageError("tracking in MLflow needs the package mlflow; type: pip install mlflow")


def connect(tracking_uri: str) -> "MlflowClient":
    """A client of the store; a SQLite file that does not exist is made, whole or not at all.

    Environment variables of the user win over metaopt's time-outs. Importing mlflow takes seconds.
    """
    check_installed()
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    _install_silencer()
    path = sqlite_path(tracking_uri)
    if path is not None:
        _make_sqlite(path)
    return MlflowClient(tracking_uri)


def check_answers(tracking_uri: str) -> None:
    """Raise MetaoptError, with the reason, unless a server or a database answers within the time-out, 10 s.

    An SQLite file is not looked at.
    """
    if sqlite_path(tracking_uri) is not None:
        return
    with silent(), without_retries():
        try:
            if tracking_uri.startswith(("postgresql", "mysql")):
                _check_database(tracking_uri)
            connect(tracking_uri).search_experiments(max_results=1)
        except MissingPackageError:
            raise
        except Exception as error:  # of requests, SQLAlchemy and MLflow
            uri, why = redacted(tracking_uri), redacted(str(error))
            raise MetaoptError(
                f"The tracking store {uri} does not answer, but `tracking.required` is set: start it, or unset that. "
                f"It says: {why}"
            ) from error


def _check_database(uri: str) -> None:
    # MLflow itself tries ten times, for minutes
    from sqlalchemy import create_engine

    engine = create_engine(uri, connect_args={"connect_timeout": int(_DEFAULTS["MLFLOW_HTTP_REQUEST_TIMEOUT"])})
    engine.connect().close()
    engine.dispose()


@contextmanager
def without_retries() -> Iterator[None]:
    """MLflow's own retries would do a thing twice of which the store has lost the first answer only."""
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def sqlite_path(tracking_uri: str) -> Path | None:
    """The absolute path of the file behind a ``sqlite:///`` URI; None for any other store."""
    if not tracking_uri.startswith("sqlite:"):
        return None
    from sqlalchemy.engine import make_url

    return Path(make_url(tracking_uri).database or "").absolute()


def experiment_id(client: "MlflowClient", name: str, tracking_uri: str) -> str:
    """Find or make the experiment; one that was deleted in the UI is taken back, with a warning."""
    found = client.get_experiment_by_name(name)
    if found is None:
        path = sqlite_path(tracking_uri)
        location = None if path is None else (path.parent / "mlartifacts").as_uri()
        # without it the UI opens on its pages for language models
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(name, artifact_location=location, tags=kind))
    if found.lifecycle_stage == "deleted":
        log.warning("the MLflow experiment %r was deleted; it is restored to take new runs", name)
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


@contextmanager
def silent() -> Iterator[None]:
    """Keep MLflow's log lines of this thread off the terminal: what matters comes back as exceptions."""
    before = getattr(_here, "silent", False)
    _here.silent = True
    try:
        yield
    finally:
        _here.silent = before


def _make_sqlite(path: Path) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(path.name + ".lock")
    with locked(lock):
        if not path.exists():
            for remains in path.parent.glob(f"{path.name}.new-*"):
                remains.unlink()
            _migrate_into(path)
        lock.unlink(missing_ok=True)


def _migrate_into(path: Path) -> None:
    # Two processes in MLflow's migrations at once, or a kill in the middle, leave a file that never opens
    # again. The name is new each time, since MLflow keeps stores by their URI.
    from mlflow import MlflowClient

    fresh = path.with_name(f"{path.name}.new-{uuid.uuid4().hex}")
    with silent():
        MlflowClient(f"sqlite:///{fresh}").search_experiments(max_results=1)
    fresh.replace(path)


class _Silencer(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.name.startswith("metaopt.") or not getattr(_here, "silent", False)


_silencer = _Silencer()


def _install_silencer() -> None:
    for name in _CHATTY_HANDLERS:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_silencer)
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).addFilter(_silencer)
