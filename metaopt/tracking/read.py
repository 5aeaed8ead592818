"""Reading tracked numbers back, through MLflow's client."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from metaopt.errors import ConfigError, MetaoptError, MissingPackageError
from metaopt.tracking.mlflow_connect import check_installed, connect, silent, sqlite_path
from metaopt.tracking.mlflow_store import PARENT_TAG, TRIAL_TAG, entity_key, quoted
from metaopt.tracking.redact import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1_000


def load_runs(tracking_uri: str, experiment: str) -> list[dict[str, Any]]:
    """The trials of an experiment in the order of their start (then name), one flat dict each.

    Keys: ``run_id``, ``name``, ``status`` (RUNNING, FINISHED, FAILED, KILLED), ``params.<key>`` (text),
    ``metrics.<key>`` (the last value of its curve; NaN also for an infinity), ``tags.<key>``.

    Raises:
        ConfigError: there is no such store or experiment.
        MetaoptError: the store does not answer.
    """
    with reading(tracking_uri) as client:
        where = _experiment(client, tracking_uri, experiment)
        runs = [run for run in _runs(client, where) if PARENT_TAG in run.data.tags]
    return [_row(run) for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_name))]


def find_runs(tracking_uri: str, experiment: str, uids: Iterable[str]) -> dict[str, str]:
    """Ids of the runs of some trials, by the trial's uid; of several, the one that began last.

    Raises:
        ConfigError: there is no such store or experiment.
        MetaoptError: the store does not answer.
    """
    found: dict[str, str] = {}
    with reading(tracking_uri) as client:
        where = [_experiment(client, tracking_uri, experiment)]
        for uid in uids:
            ours = f"tags.`{TRIAL_TAG}` = {quoted(uid)}"
            for run in client.search_runs(where, ours, max_results=1, order_by=["attributes.start_time DESC"]):
                found[uid] = str(run.info.run_id)
    return found


def load_curve(tracking_uri: str, run_id: str, key: str) -> list[tuple[int, float]]:
    """The curve ``key`` of a run as (step, value) with rising steps; empty if it was never logged.

    Raises:
        ConfigError: there is no such store or run.
        MetaoptError: the store does not answer.
    """
    with reading(tracking_uri) as client:
        client.get_run(run_id)  # for its error: an unknown run has an empty history
        history = client.get_metric_history(run_id, entity_key(key))
    return sorted({m.step: m.value for m in sorted(history, key=lambda m: m.timestamp)}.items())


@contextmanager
def reading(tracking_uri: str) -> Iterator["MlflowClient"]:
    """A client of a store that must be there; MLflow's errors become metaopt's."""
    path = sqlite_path(tracking_uri)
    if path is not None and not path.exists():
        raise ConfigError(f"a tracking store must exist to be read, but there is no file {path}")
    check_installed()
    from mlflow.exceptions import MlflowException

    try:
        client = connect(tracking_uri)
        with silent():
            yield client
    except ImportError as error:
        raise MissingPackageError(f"{redacted(tracking_uri)} needs a driver that is not installed: {error}") from error
    except MlflowException as error:
        kind = ConfigError if error.error_code == "RESOURCE_DOES_NOT_EXIST" else MetaoptError
        raise kind(f"{redacted(tracking_uri)}: {redacted(str(error))}") from error


def _experiment(client: "MlflowClient", tracking_uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        names = sorted(e.name for e in client.search_experiments())
        raise ConfigError(f"{redacted(tracking_uri)} must hold the experiment {name!r}, but it holds {names}")
    return str(found.experiment_id)


def _runs(client: "MlflowClient", experiment: str) -> Iterator["Run"]:
    token: str | None = None
    while token != "":
        page = client.search_runs(
            [experiment], max_results=_PAGE, order_by=["attributes.start_time ASC"], page_token=token
        )
        yield from page
        token = page.token or ""


def _row(run: "Run") -> dict[str, Any]:
    row: dict[str, Any] = {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "status": run.info.status,
    }
    for group, values in (
        ("params", run.data.params),
        ("metrics", run.data.metrics),
        ("tags", run.data.tags),
    ):
        row |= {f"{group}.{key}": value for key, value in values.items()}
    return row
