"""`metaopt search`: run a study on this machine."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaopt.cli.options import AllowImport, LeaveOut, Overrides, StudySource

if TYPE_CHECKING:
    from rich.console import Console

    from metaopt.search.initialisation_study import InitialisationStudy
    from metaopt.search.search import Search
    from metaopt.search.study import Study

_DELIVERY_S = 60.0


def search(
    study: StudySource,
    set_: Overrides = None,
    leave_out: LeaveOut = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study. [default: runs/NAME]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study in that folder.")] = False,
    allow_import: AllowImport = False,
) -> None:
    """Search for a schedule, or for where training should start: train GANs with many, keep what works best.

    [bold]Examples[/bold]

      metaopt search smoke

      metaopt search smoke --set search.trials=40 --resume

      metaopt search my_study.yaml --set tasks.0.data=folder:~/faces --out runs/faces

      metaopt search my_study.yaml --leave-out folder:~/faces

      metaopt search init_characters
    """
    from metaopt.search.study_file import check_form

    check_form(study, set_ or [], allow_import=allow_import)  # before what follows is imported, which takes seconds

    from rich.console import Console

    from metaopt.cli.commands import search_command
    from metaopt.cli.progress import SearchProgress
    from metaopt.search.initialisation_study import load_any_study
    from metaopt.search.search import opened
    from metaopt.search.study import Study

    console = Console()
    loaded = load_any_study(study, set_ or [], leave_out, allow_import=allow_import)
    folder = (out or Path("runs") / loaded.name).expanduser()
    n_trials = loaded.spec.search.trials
    again = search_command(study, folder, set_ or [], leave_out, allow_import=allow_import)
    with _resumable(again), opened(loaded, folder, resume=resume) as running:
        tasks = ", ".join(task.name for task in loaded.tasks)
        what = f"{n_trials} trials of {loaded.family.name} on {tasks}; records in {folder}"
        console.print(f"Study {loaded.name}: {what}", highlight=False, markup=False, soft_wrap=True)
        console.print(_where(), highlight=False, soft_wrap=True)
        with SearchProgress(console, n_trials) as progress:
            running.run(progress)
        n_ended = sum(row.verdict is not None for row in running.session.rows())
        if n_ended < n_trials:
            typer.echo(f"Ended after {n_ended} of {n_trials} trials: {running.session.budget.over()}.")
        if isinstance(loaded, Study):
            _validate(running, loaded, console)
            _conclude(running, loaded, console, again)
        else:
            _conclude_starts(running, loaded, console, again)


def _where() -> str:
    address = os.environ.get("RAY_ADDRESS", "local")
    if address == "local":
        return "Ray: on this machine, listening on 127.0.0.1 only"
    return f"Ray: the cluster at {address}"


@contextmanager
def _resumable(command: str) -> Iterator[None]:
    """Say how to go on, where a search ended before its time; SIGTERM ends it as Ctrl-C does."""
    from metaopt.cli.last_word import last_word
    from metaopt.errors import BudgetError, StorageError

    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    died = (
        f"metaopt: The search has died, by a kill or with its cluster. Finished trials are kept. Go on with: {command}"
    )
    try:
        with last_word(died):
            yield
    except BudgetError as error:
        raise BudgetError(f"{error} Go on, with the budget anew, by: {command}") from error
    except StorageError as error:
        raise StorageError(
            f"{error} Finished trials are kept. Once it can be written, go on with: {command}"
        ) from error
    except KeyboardInterrupt:
        typer.echo(f"Stopped. Finished trials are kept. Go on with: {command}", err=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _validate(running: "Search", study: "Study", console: "Console") -> None:
    """Choose the winner on tasks that the search has not seen, where the study asks for it."""
    from metaopt.search.winner import FILE

    if not study.validation:
        (running.folder / FILE).unlink(missing_ok=True)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from metaopt.cli.outputs import print_validation
    from metaopt.search.validate import validate

    columns = TextColumn("validation"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("validation", total=None)
        found = validate(
            study,
            running.folder,
            running.session.rows(),
            lambda done, n: progress.update(bar, completed=done, total=n),
        )
    running.tracker.log_artifact(None, running.folder / FILE)
    print_validation(console, found)


def _conclude(running: "Search", study: "Study", console: "Console", again: str) -> None:
    from metaopt.cli.outputs import print_floors, print_leaderboard, print_next, publish_best, write_outputs

    rows = running.session.rows()
    outputs = write_outputs(running.folder, study, rows)
    for path in outputs:
        running.tracker.log_artifact(None, path)
    running.session.mark_front()
    running.tracker.end_study(status="FINISHED", metrics={}, tags={})
    print_leaderboard(console, rows)
    _deliver(running, console)
    model_uri = publish_best(running.folder, study, rows, running.tracking_uri)
    print_floors(console, study.tasks)
    print_next(console, running.folder, study, again, model_uri)


def _conclude_starts(running: "Search", study: "InitialisationStudy", console: "Console", again: str) -> None:
    from metaopt.cli.outputs import print_leaderboard
    from metaopt.cli.start_outputs import print_next_of_starts, print_test, write_start_outputs

    rows = running.session.rows()
    outputs = write_start_outputs(running.folder, study, rows)
    test = print_test(console, running.folder, study, rows)
    for path in (*outputs, *([] if test is None else [test])):
        running.tracker.log_artifact(None, path)
    running.tracker.end_study(status="FINISHED", metrics={}, tags={})
    print_leaderboard(console, rows)
    _deliver(running, console)
    print_next_of_starts(console, running.folder, study, rows, again)


def _deliver(running: "Search", console: "Console") -> None:
    """Wait for the tracking store, and say so where it does not answer."""
    from metaopt.cli.commands import typed
    from metaopt.tracking.redact import redacted

    left = running.tracker.close(_DELIVERY_S)
    if left:
        console.print(
            f"{left} events wait in {running.folder / 'spool'}: {redacted(running.tracking_uri)} did not answer. "
            f"Deliver them with: {typed('sync', '--study', running.folder)}",
            highlight=False,
        )
