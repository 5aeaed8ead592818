"""Events into MLflow: one parent run a study, one child run a trial, each found again by its tags."""

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from metaopt.tracking.events import Artifact, EndStudy, EndTrial, Event, Log, StartStudy, StartTrial
from metaopt.tracking.mlflow_connect import connect, experiment_id, silent, without_retries
from metaopt.tracking.sender import NotReadyError, RefusedError
from metaopt.tracking.types import Point, Value

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDY_TAG = "metaopt.study_uid"
TRIAL_TAG = "metaopt.trial_uid"
PARENT_TAG = "mlflow.parentRunId"
MAX_METRICS, MAX_PAIRS = 1_000, 100
"""Per request, of metrics and of params or tags (MLflow's limits)."""
MAX_KEY, MAX_PARAM, MAX_TAG = 250, 6_000, 8_000
"""Characters (MLflow's limits); longer ones are cut."""
_PAGE = 1_000
_REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"})

_LOCKED, _BUSY = "database is locked", "another process is writing to it"
"""What SQLite says, and what a user is told."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class MlflowSink:
    """Delivers to an MLflow server, or straight into a SQLite file (artifacts in ``mlartifacts`` beside it).

    Touches MLflow at the first event, not before. NaN is stored as NaN, and so are infinities: MLflow would
    turn them into 1.8e308, which flattens every chart (the spool keeps them). Must be the only writer of its
    study.
    """

    def __init__(self, tracking_uri: str, experiment: str, *, study_uid: str) -> None:
        self._uri = tracking_uri
        self._experiment = experiment
        self._study_uid = study_uid
        self._runs: _StudyRuns | None = None

    def deliver(self, event: Event) -> None:
        """See `Sink`."""
        with silent():
            try:
                runs = self._connected()
            except Exception as error:
                locked = _LOCKED in str(error)
                raise NotReadyError(_BUSY if locked else str(error)) from error
            try:
                runs.store(event)
            except Exception as error:
                raise _judged(error) from error

    def _connected(self) -> "_StudyRuns":
        if self._runs is None:
            client = connect(self._uri)
            experiment = experiment_id(client, self._experiment, self._uri)
            self._runs = _StudyRuns(client, experiment, self._study_uid, self._experiment)
        return self._runs


class _StudyRuns:
    """The runs of one study in an open store; uid None is the parent run."""

    def __init__(self, client: "MlflowClient", experiment: str, study_uid: str, name: str) -> None:
        self._client = client
        self._experiment = experiment
        self._study_uid = study_uid
        self._name = name
        self._ids: dict[str | None, str] = {}
        self._recalled = False
        """Whether the trials of earlier processes are among them."""
        self._unsure: set[str | None] = {None}
        """Runs that may be in the store though they are not among them."""
        self._files: dict[str, Any] = {}
        """Artifact repositories of runs that go on; the client would keep a thousand, each with a pool of threads."""

    def store(self, event: Event) -> None:
        match event:
            case StartStudy():
                self._start(None, self._name, event)
            case StartTrial():
                self._start(event.uid, event.name, event)
            case Log():
                _log_points(self._client, self._id(event.uid), event.points)
            case Artifact():
                self._log_artifact(self._id(event.uid), event)
            case EndTrial():
                self._end(event.uid, event)
            case EndStudy():
                self._end(None, event)

    def _log_artifact(self, run_id: str, event: Artifact) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # no folders: one that holds the store itself would be copied into itself without end
        if not Path(event.path).is_file():
            log.warning("an artifact must be a file that exists until it is sent, but is not: %s", event.path)
            return
        if run_id not in self._files:
            uri = self._client.get_run(run_id).info.artifact_uri
            self._files[run_id] = get_artifact_repository(uri, tracking_uri=self._client.tracking_uri)
        self._files[run_id].log_artifact(event.path, event.folder or None)

    def _start(self, uid: str | None, name: str, event: StartStudy | StartTrial) -> None:
        tags = {"mlflow.runName": name, **event.tags, **self._identity(uid)}
        run_id = self._find(uid)
        if run_id is None:
            run_id = self._create(uid, name, tags, event.time_ms)
        else:
            _reopen(self._client, run_id, also_finished=uid is None)
            _set_tags(self._client, run_id, tags)
        _set_params(self._client, run_id, event.params)

    def _end(self, uid: str | None, event: EndTrial | EndStudy) -> None:
        run_id = self._id(uid)
        points = [Point(key=key, value=v, step=0, timestamp_ms=event.time_ms) for key, v in event.metrics.items()]
        _log_points(self._client, run_id, points)
        _set_tags(self._client, run_id, event.tags)
        self._client.set_terminated(run_id, event.status, event.time_ms)
        self._files.pop(run_id, None)

    def _id(self, uid: str | None) -> str:
        return self._find(uid) or self._create(uid, uid or self._name, self._identity(uid), None)

    def _identity(self, uid: str | None) -> dict[str, str]:
        return {STUDY_TAG: self._study_uid} if uid is None else {TRIAL_TAG: uid, PARENT_TAG: self._id(None)}

    def _find(self, uid: str | None) -> str | None:
        if uid is not None:
            self._recall()
        if uid not in self._ids and uid in self._unsure:
            wanted = " and ".join(f"tags.`{key}` = {quoted(tag)}" for key, tag in self._identity(uid).items())
            found = self._client.search_runs([self._experiment], wanted, order_by=["attributes.start_time ASC"])
            # trials may carry the study's uid as a tag of their own
            ids = [run.info.run_id for run in found if uid is not None or PARENT_TAG not in run.data.tags]
            if ids:
                self._ids[uid] = ids[0]
        return self._ids.get(uid)

    def _recall(self) -> None:
        """Get to know all trials at once: a search for each would look through all, at each of them."""
        if self._recalled:
            return
        ours = f"tags.`{PARENT_TAG}` = {quoted(self._id(None))}"
        token: str | None = None
        while token != "":
            page = self._client.search_runs(
                [self._experiment], ours, max_results=_PAGE, order_by=["attributes.start_time ASC"], page_token=token
            )
            for run in page:
                self._ids.setdefault(run.data.tags.get(TRIAL_TAG, ""), run.info.run_id)
            token = page.token or ""
        self._recalled = True

    def _create(self, uid: str | None, name: str, tags: Mapping[str, str], time_ms: int | None) -> str:
        self._unsure.add(uid)  # until the answer is there: the store may make the run, and the answer be lost
        with without_retries():
            run = self._client.create_run(
                self._experiment, start_time=time_ms, tags=_fitting(tags, MAX_TAG), run_name=name
            )
        self._unsure.discard(uid)
        self._ids[uid] = run.info.run_id
        return self._ids[uid]


def entity_key(key: str) -> str:
    """The name of a metric, param or tag in MLflow: its alphabet, a plain relative path, 250 characters."""
    parts = re.sub(r"[^/\w.\- :]", "_", key).split("/")
    plain = "/".join(part for part in parts if part not in ("", ".", ".."))
    return plain[:MAX_KEY].rstrip("/") or "_"


def quoted(value: str) -> str:
    """Text in a filter of MLflow's search."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def _reopen(client: "MlflowClient", run_id: str, *, also_finished: bool) -> None:
    status = client.get_run(run_id).info.status
    if status in ("FAILED", "KILLED") or (also_finished and status == "FINISHED"):
        client.update_run(run_id, status="RUNNING")


def _set_tags(client: "MlflowClient", run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    for some in _chunks([RunTag(*pair) for pair in _fitting(tags, MAX_TAG).items()], MAX_PAIRS):
        client.log_batch(run_id, tags=some, synchronous=True)


def _set_params(client: "MlflowClient", run_id: str, params: Mapping[str, Value]) -> None:
    from mlflow.entities import Param

    for some in _chunks([Param(*pair) for pair in _fitting(params, MAX_PARAM).items()], MAX_PAIRS):
        client.log_batch(run_id, params=some, synchronous=True)


def _log_points(client: "MlflowClient", run_id: str, points: Sequence[Point]) -> None:
    from mlflow.entities import Metric

    metrics = [
        Metric(entity_key(p.key), p.value if math.isfinite(p.value) else math.nan, p.timestamp_ms, p.step)
        for p in points
    ]
    for some in _chunks(metrics, MAX_METRICS):
        client.log_batch(run_id, metrics=some, synchronous=True)


def _fitting(pairs: Mapping[str, Value], max_chars: int) -> dict[str, str]:
    return {entity_key(key): str(value)[:max_chars] for key, value in pairs.items()}


def _chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def _judged(error: Exception) -> Exception:
    """Tell apart, as `Sink` asks, what MLflow refuses, what it cannot do now, and what may be either."""
    from mlflow.exceptions import MlflowException, RestException

    if _LOCKED in str(error):
        return NotReadyError(_BUSY)
    if isinstance(error, MlflowException):
        if error.error_code in _REFUSALS:
            return RefusedError(str(error))
        # an exhausted connection pool answers BAD_REQUEST as well
        either = {"BAD_REQUEST", "INTERNAL_ERROR"} if isinstance(error, RestException) else {"BAD_REQUEST"}
        return error if error.error_code in either else NotReadyError(str(error))
    if isinstance(error, OSError):
        # that of requests when nobody answered has a response of None; a local disk's has none at all
        unanswered = isinstance(error, ConnectionError | TimeoutError) or getattr(error, "response", 0) is None
        return NotReadyError(str(error)) if unanswered else error
    return RefusedError(repr(error)) if isinstance(error, TypeError | ValueError) else error
