"""`metaopt submit`, `status`, `logs`, `stop` and `resume`: searches on a cluster, as jobs."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
_PASSED_ON = ("MLFLOW_TRACKING_URI",)
"""Variables of this machine that the search there is to have."""


def submit(
    study: Annotated[str, typer.Argument(help="Name of a study that comes with metaopt, or a YAML file.")],
    address: Address = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study; repeatable."),
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Do not train on this data set; choose the winner on it."),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the study, on the head. [default: ~/runs/NAME]")] = None,
    detach: Detach = False,
) -> None:
    """Search on a Ray cluster, as a job that goes on when this machine is off; or go on with a search there.

    The job gets the study with its overrides, and of this machine what the study names: schedules, data under a
    relative path, one's own networks in the working folder. Data under an absolute path must be on every node.

    [bold]Examples[/bold]

      metaopt submit smoke --address http://10.0.0.5:8265

      metaopt submit my_study.yaml --set search.trials=200 --detach
    """
    from metaopt.cli.outputs import submit_command
    from metaopt.search.package import pack
    from metaopt.search.submitted import Submitted, packages

    head = _address(address, None)
    package = pack(study, set_ or [], leave_out, packages())
    for data in package.elsewhere:
        typer.echo(f"{data} is not sent: every node must have it.")
    folder = out or f"~/runs/{package.name}"
    command = submit_command(study, head, folder, set_ or [], leave_out)
    _start(Submitted(study=package.name, address=head, folder=folder, command=command), package.folder, detach=detach)


def resume(study: Study, address: Address = None, detach: Detach = False) -> None:
    """Go on with a search that was submitted from this machine, as it was submitted; on another cluster, too.

    [bold]Examples[/bold]

      metaopt resume my_study
    """
    from dataclasses import replace

    from metaopt.errors import ConfigError
    from metaopt.search.package import PACKAGE, STUDY
    from metaopt.search.submitted import kept, packages

    found, package = kept(study), packages() / study / PACKAGE
    if found is None or not (package / STUDY).exists():
        raise ConfigError(f"Study {study!r} was not submitted from here; `metaopt submit` goes on with it, too.")
    _start(replace(found, address=_address(address, study)), package, detach=detach)


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
    from metaopt.search.submit import newest

    head = _address(address, study)
    _show_logs(head, newest(head, study), follow=follow)


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


def _start(submitted: "Submitted", package: Path, *, detach: bool) -> None:
    from metaopt.cli.outputs import AGAIN
    from metaopt.errors import MetaoptError
    from metaopt.search.submit import newest
    from metaopt.search.submit import submit as submit_search
    from metaopt.search.submitted import keep

    study, head = submitted.study, submitted.address
    environment = {name: value for name in _PASSED_ON if (value := os.environ.get(name))}
    job = submit_search(head, package, study, submitted.folder, environment | {AGAIN: submitted.command})
    keep(submitted)
    typer.echo(f"Submitted {study} to {head} as {job.job}; records in {submitted.folder} on the head.")
    if detach:
        typer.echo(f"See it with: metaopt status {study}, metaopt logs -f {study}")
        return
    try:
        _show_logs(head, job, follow=True)
    except KeyboardInterrupt:
        typer.echo(f"\nIt goes on. See it with: metaopt logs -f {study}   End it with: metaopt stop {study}", err=True)
        raise
    ended = newest(head, study)
    if ended.status != "SUCCEEDED":
        raise MetaoptError(f"The search has ended as {ended.status}: {ended.message.partition(', last ')[0]}.")


def _show_logs(address: str, job: "SubmittedSearch", *, follow: bool) -> None:
    from metaopt.search.submit import logs

    for part in logs(address, job.job, follow=follow):
        sys.stdout.write(part)
        sys.stdout.flush()


def _last_words(address: str, job: "SubmittedSearch") -> str:
    """The last line that a search has printed."""
    from metaopt.search.submit import logs

    lines = "".join(logs(address, job.job, follow=False)).replace("\r", "\n").split("\n")
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
