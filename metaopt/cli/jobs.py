"""`metaopt submit`, `status`, `logs`, `stop` and `resume`: searches on a cluster, as jobs."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaopt.cli.options import AllowImport, LeaveOut, Overrides, StudySource

if TYPE_CHECKING:
    from metaopt.search.submit import SubmittedSearch
    from metaopt.search.submitted import Submitted

_ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
Address = Annotated[
    str | None,
    typer.Option(
        metavar="http://HEAD:8265",
        envvar=_ADDRESS_VARIABLE,
        help="Dashboard of the cluster's head. [default: where the study was submitted last from here]",
    ),
]
Study = Annotated[str, typer.Argument(metavar="NAME", help="Name of a study that was submitted.")]
Detach = Annotated[bool, typer.Option("--detach", help="Do not wait for the search, nor show what it prints.")]
_TRACKING = "MLFLOW_TRACKING_URI"


def submit(
    study: StudySource,
    address: Address = None,
    set_: Overrides = None,
    leave_out: LeaveOut = None,
    out: Annotated[str | None, typer.Option(help="Folder of the study, on the head. [default: ~/runs/NAME]")] = None,
    detach: Detach = False,
    allow_import: AllowImport = False,
) -> None:
    """Search on a Ray cluster, as a job that goes on when this machine is off; or go on with a search there.

    The job gets the study with its overrides, and of this machine what the study names: schedules, data under a
    relative path, one's own networks in the working folder. Data under an absolute path must be on every node.

    [bold]Examples[/bold]

      metaopt submit smoke --address http://10.0.0.5:8265

      metaopt submit my_study.yaml --set search.trials=200 --detach
    """
    from metaopt.search.study_file import check_form

    check_form(study, set_ or [], allow_import=allow_import)  # before what follows is imported, which takes seconds

    from metaopt.errors import ConfigError
    from metaopt.search.package import pack
    from metaopt.search.submitted import Submitted, fresh_folder

    if out and not out.startswith(("/", "~")):
        raise ConfigError(f"--out must be an absolute path on the head, or begin with ~, but got {out!r}.")
    head = _address(address, None)
    with fresh_folder() as folder:
        package = pack(study, set_ or [], leave_out, folder, allow_import=allow_import)
        for data in package.elsewhere:
            typer.echo(f"{data} is not sent: every node must have it.")
        submitted = Submitted(
            study=package.study,
            address=head,
            folder=out or f"~/runs/{package.study}",
            source=study,
            overrides=tuple(set_ or ()),
            leave_out=leave_out,
            allow_import=allow_import,
        )
        job = _started(submitted, package.folder)
    _shown(submitted, job, detach=detach)


def resume(study: Study, address: Address = None, detach: Detach = False) -> None:
    """Go on with a search that was submitted from this machine, as it was submitted; on another cluster, too.

    [bold]Examples[/bold]

      metaopt resume my_study
    """
    from dataclasses import replace

    from metaopt.errors import ConfigError
    from metaopt.search.package import STUDY
    from metaopt.search.submitted import kept, package_of

    found, package = kept(study), package_of(study)
    if found is None or not (package / STUDY).exists():
        raise ConfigError(f"Study {study!r} was not submitted from here; `metaopt submit` goes on with it, too.")
    submitted = replace(found, address=_address(address, study))
    _shown(submitted, _started(submitted, package), detach=detach)


def status(
    study: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of one study. [default: all]")] = None,
    address: Address = None,
) -> None:
    """Say how searches on a cluster are doing.

    [bold]Examples[/bold]

      metaopt status --address http://10.0.0.5:8265

      metaopt status my_study
    """
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from metaopt.search.submit import newest, searches

    head = _address(address, study)
    found = searches(head) if study is None else [newest(head, study)]
    table = Table(box=SIMPLE)
    for name in ("study", "status", "started", "ended", "folder on the head"):
        table.add_column(name, overflow="fold")
    for one in found:
        times = ("" if time is None else f"{time.astimezone():%Y-%m-%d %H:%M}" for time in (one.started, one.ended))
        table.add_row(one.study, one.status, *times, one.folder)
    Console().print(table if found else f"No searches at {head}.")
    if study is not None:
        typer.echo(_last_words(head, found[0]))


def logs(
    study: Study,
    address: Address = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the search has ended.")] = False,
) -> None:
    """Show what the newest search of a study has printed.

    [bold]Examples[/bold]

      metaopt logs my_study -f
    """
    from metaopt.search.submit import follow as followed
    from metaopt.search.submit import logs as printed
    from metaopt.search.submit import newest

    head = _address(address, study)
    job = newest(head, study).job
    for part in followed(head, job) if follow else [printed(head, job)]:
        _write(part)


def stop(study: Study, address: Address = None) -> None:
    """End the search of a study on a cluster; finished trials are kept, and `metaopt resume` goes on with it.

    [bold]Examples[/bold]

      metaopt stop my_study
    """
    from metaopt.errors import MetaoptError
    from metaopt.search.submit import newest
    from metaopt.search.submit import stop as stop_search

    head = _address(address, study)
    job = newest(head, study)
    if job.over:
        typer.echo(f"{study} is {job.status} already.")
        return
    found = stop_search(head, job.job)
    if not found.over:
        raise MetaoptError(f"{study} is {found.status} still; see `metaopt logs {study}`.")
    typer.echo(f"{study} is {found.status}. Finished trials are kept. Go on with: metaopt resume {study}")


def _started(submitted: "Submitted", package: Path) -> "SubmittedSearch":
    """Start the job, unless the same one runs already, and keep what was accepted."""
    from metaopt.cli.commands import AGAIN, submit_command
    from metaopt.search.submit import submit as submit_search
    from metaopt.search.submitted import keep
    from metaopt.tracking.redact import redacted

    study, head, folder = submitted.study, submitted.address, submitted.folder
    overrides = [redacted(override) for override in submitted.overrides]  # whoever sees the dashboard sees them
    again = submit_command(
        submitted.source, head, folder, overrides, submitted.leave_out, allow_import=submitted.allow_import
    )
    job, new = submit_search(head, package, study, folder, {AGAIN: again} | _passed_on())
    keep(submitted, package)
    if new:
        typer.echo(f"Submitted {study} to {head} as {job.job}; records in {folder} on the head.")
    else:
        typer.echo(f"{study} is {job.status} there already, as {job.job}.")
    return job


def _passed_on() -> dict[str, str]:
    """Variables of this machine that the search there is to have."""
    from metaopt.errors import ConfigError
    from metaopt.tracking.redact import redacted

    uri = os.environ.get(_TRACKING)
    if not uri:
        return {}
    if "://" not in uri or uri.startswith(("sqlite:", "file:")):
        typer.echo(f"{_TRACKING} is not passed on: it is a file of this machine.")
        return {}
    if redacted(uri) != uri:  # whoever sees the cluster's dashboard sees what a job is given
        raise ConfigError(
            f"{_TRACKING} must hold no password where a study is submitted, but is {redacted(uri)}: leave it out, and "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD on the head."
        )
    return {_TRACKING: uri}


def _shown(submitted: "Submitted", job: "SubmittedSearch", *, detach: bool) -> None:
    """Show what a job prints until it has ended; MetaoptError if it has not ended well."""
    from metaopt.errors import MetaoptError
    from metaopt.search.submit import follow, look

    study, head = submitted.study, submitted.address
    hint = f"See it with: metaopt logs -f {study}   End it with: metaopt stop {study}"
    if detach:
        typer.echo(hint)
        return
    try:
        for part in follow(head, job.job):
            _write(part)
    except KeyboardInterrupt:
        typer.echo(f"\nIt goes on. {hint}", err=True)
        raise
    ended = look(head, job.job)
    if not ended.over:
        raise MetaoptError(f"{head} sends no more, and the search goes on. {hint}")
    if ended.status != "SUCCEEDED":
        raise MetaoptError(f"The search has ended as {ended.status}: {ended.message.partition(', last ')[0]}.")


def _write(part: str) -> None:
    sys.stdout.write(part)
    sys.stdout.flush()


def _last_words(address: str, job: "SubmittedSearch") -> str:
    """The last line that a search has printed."""
    from metaopt.search.submit import logs

    lines = logs(address, job.job).replace("\r", "\n").split("\n")
    return next((line for line in reversed(lines) if line.strip()), job.message)


def _address(given: str | None, study: str | None) -> str:
    from metaopt.errors import ConfigError
    from metaopt.search.submitted import kept

    found = None if study is None else kept(study)
    if given or found:
        return (given or (found.address if found else "")).rstrip("/")
    raise ConfigError(
        f"--address http://HEAD:8265 or {_ADDRESS_VARIABLE} must say where the head's dashboard is"
        + ("." if study is None else f", as {study!r} was not submitted from here.")
    )
