"""Searches as jobs of a cluster, through Ray Jobs. The driver runs on the head and survives the client."""

import asyncio
import hashlib
import logging
import os
import shlex
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from metaopt.errors import ConfigError, MetaoptError
from metaopt.search.package import STUDY
from metaopt.search.packed_data import digest_of

_STUDY, _FOLDER, _PACKAGE = "metaopt.study", "metaopt.folder", "metaopt.package"
_STOP_S = 60
_POLL_S = 1.0
_CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""They say what they upload, and when a connection has ended."""
_ENVIRONMENT = {
    "RAY_JOB_STOP_SIGNAL": "SIGINT",  # ends a search in order
    "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_S),
}


@dataclass(frozen=True, kw_only=True)
class SubmittedSearch:
    """A search as the cluster knows it."""

    job: str
    """Its id there."""
    study: str
    folder: str
    """Of the study, on the head."""
    status: str
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    message: str
    started: datetime | None
    ended: datetime | None
    package: str
    """Digest of what was submitted."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return JobStatus(self.status).is_terminal()


def submit(
    address: str, package: Path, study: str, folder: str, environment: Mapping[str, str]
) -> tuple[SubmittedSearch, bool]:
    """Start a search on a cluster, or go on with it where its folder has records of it.

    Args:
        address: of the head's dashboard, as in ``http://HEAD:8265``.
        package: folder made by `pack`.
        study: name of the study.
        folder: of the study, on the head; ``~`` is the home folder there.
        environment: variables that the driver is to have.

    Returns:
        The search, and whether it is new: it is not where one for the same package, folder and tracking store runs.

    Raises:
        ConfigError: a search of that name runs there for another one of these, the address does not answer, or lets
            nobody in.
        MetaoptError: the head refuses the job.
    """
    package_digest = _digest(package, environment)
    # the code in the package was allowed where it was packed
    search = ["python", "-m", "metaopt.cli.main", "search", STUDY, "--out", folder, "--resume", "--allow-import"]
    with _connected(address) as client:
        # one list for both: the number after the last is free for those alone who have seen all before it ended
        while (running := _running(jobs := client.list_jobs(), study)) is None:
            job_id = _next_id(jobs, study)
            try:
                client.submit_job(
                    entrypoint=f"python -m metaopt.search.packed_data && exec {shlex.join(search)}",
                    submission_id=job_id,
                    runtime_env={
                        "working_dir": str(package),
                        "worker_process_setup_hook": "metaopt.search.packed_data.link_data",
                        "env_vars": {**_ENVIRONMENT, **environment},
                    },
                    metadata={_STUDY: study, _FOLDER: folder, _PACKAGE: package_digest},
                )
            except RuntimeError as error:
                if f"{job_id} already exists" not in str(error):
                    raise
            else:
                return _search(client.get_job_info(job_id)), True
    if (running.folder, running.package) != (folder, package_digest):
        raise ConfigError(
            f"Study {study!r} is {running.status} there as {running.job}, with other settings, another folder or "
            f"another tracking store; see it with `metaopt logs {study}`, or end it with `metaopt stop {study}`."
        )
    return running, False


def _running(jobs: Iterable[JobDetails], study: str) -> SubmittedSearch | None:
    return next((job for job in _of(jobs, study) if not job.over), None)


def _next_id(jobs: Iterable[JobDetails], study: str) -> str:
    """The same for all who ask at once, of whom the head takes the first."""
    start = f"metaopt-{study}-"
    ids = [job.submission_id or "" for job in jobs]
    numbers = [int(rest) for one in ids if one.startswith(start) and (rest := one.removeprefix(start)).isdecimal()]
    return f"{start}{max(numbers, default=0) + 1}"


def searches(address: str, study: str | None = None) -> list[SubmittedSearch]:
    """All searches that were submitted there, or those of a study, the newest first."""
    with _connected(address) as client:
        return _of(client.list_jobs(), study)


def newest(address: str, study: str) -> SubmittedSearch:
    """The newest search of a study; ConfigError if there is none."""
    found = searches(address, study)
    if not found:
        raise ConfigError(f"There is no job of study {study!r} at {address}; `metaopt status` lists those that are.")
    return found[0]


def look(address: str, job: str) -> SubmittedSearch:
    """A search as it is now, by the id of its job."""
    with _connected(address) as client:
        return _search(client.get_job_info(job))


def logs(address: str, job: str) -> str:
    """What the driver has printed so far."""
    with _connected(address) as client:
        return client.get_job_logs(job)


def follow(address: str, job: str) -> Iterator[str]:
    """What the driver has printed so far and prints from now on, until it has ended.

    Raises:
        MetaoptError: the connection was lost; the search goes on.
    """
    with _connected(address) as client, asyncio.Runner() as runner:
        parts = client.tail_job_logs(job)
        while True:
            try:
                yield runner.run(_next(parts))
            except StopAsyncIteration:
                break
            except (RuntimeError, aiohttp.ClientError) as error:
                raise MetaoptError(f"The connection to {address} was lost, and the search goes on: {error}") from error


async def _next(parts: AsyncIterator[str]) -> str:
    return await anext(parts)


def stop(address: str, job: str) -> SubmittedSearch:
    """End a search, and wait until it has: finished trials are kept, unfinished ones are run again on resuming."""
    with _connected(address) as client:
        client.stop_job(job)
        until = time.monotonic() + 2 * _STOP_S
        while not (found := _search(client.get_job_info(job))).over and time.monotonic() < until:
            time.sleep(_POLL_S)
        return found


def _digest(package: Path, environment: Mapping[str, str]) -> str:
    """Of what a job does and where it records it."""
    files = digest_of({str(file.relative_to(package)): file for file in sorted(package.rglob("*")) if file.is_file()})
    return hashlib.sha256(f"{files} {environment.get('MLFLOW_TRACKING_URI', '')}".encode()).hexdigest()


def _of(jobs: Iterable[JobDetails], study: str | None) -> list[SubmittedSearch]:
    found = [_search(job) for job in jobs if {_STUDY, _FOLDER} <= set(job.metadata or {})]
    oldest = datetime.min.replace(tzinfo=UTC)
    return sorted(
        (job for job in found if study in (None, job.study)), key=lambda job: job.started or oldest, reverse=True
    )


def _search(job: JobDetails) -> SubmittedSearch:
    metadata = job.metadata or {}
    return SubmittedSearch(
        job=job.submission_id or "",
        study=metadata[_STUDY],
        folder=metadata[_FOLDER],
        package=metadata.get(_PACKAGE, ""),
        status=str(job.status),
        message=job.message or "",
        started=_time(job.start_time),
        ended=_time(job.end_time),
    )


def _time(ms: int | None) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, UTC) if ms else None


@contextmanager
def _connected(address: str) -> Iterator[JobSubmissionClient]:
    """A client of the head there; what is wrong where it does not answer, or refuses."""
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"The address must be that of the head's dashboard, http://HEAD:8265, but got {address!r}.")
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray heeds this one, or RAY_ADDRESS, more than its argument
    try:
        yield JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ConfigError(
            f"{address} must let this client in, but does not: set RAY_AUTH_MODE=token, with the cluster's token in "
            "~/.ray/auth_token or RAY_AUTH_TOKEN_PATH."
        ) from error
    except (ConnectionError, OSError, ValueError, aiohttp.ClientError) as error:  # requests' errors are OSErrors
        if isinstance(error, MetaoptError):
            raise
        raise ConfigError(f"{address} must answer as the dashboard of a Ray cluster, but does not: {error}") from error
    except RuntimeError as error:  # what Ray Jobs raises for whatever the head has answered
        raise MetaoptError(f"{address} refused: {error}") from error
