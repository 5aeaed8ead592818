"""`metaopt compare`: the trials of a search in the terminal, or several searches beside each other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from metaopt.search.folder import Manifest
    from metaopt.search.optuna_space import TrialRow


def compare(
    studies: Annotated[list[str], typer.Argument(help="Names of studies under runs/, or their folders.")],
    csv: Annotated[Path | None, typer.Option(help="Write all of their trials there, as one table.")] = None,
) -> None:
    """Show the trials of a search, best first, also while it runs; or the best of several searches beside each other.

    [bold]Examples[/bold]

      metaopt compare smoke

      metaopt compare runs/open runs/closed --csv trials.csv
    """
    from rich.console import Console

    from metaopt.cli.outputs import print_leaderboard
    from metaopt.search.export import study_in
    from metaopt.search.folder import study_folder
    from metaopt.search.optuna_space import read_rows

    folders = {study: study_folder(study) for study in studies}
    manifests = {study: study_in(folder) for study, folder in folders.items()}
    rows = {study: read_rows(folder, manifests[study].name) for study, folder in folders.items()}
    console = Console()
    if len(folders) == 1:
        print_leaderboard(console, *rows.values())
    else:
        console.print(_table(folders, manifests, rows))
        if len({repr(_measured_by(manifest, rows[study])) for study, manifest in manifests.items()}) > 1:
            console.print(
                "These scores do not compare: the studies differ in tasks, images, seeds, reference, objective or the "
                "version of metaopt. `metaopt evaluate` trains their schedules alike.",
                highlight=False,
            )
    if csv is not None:
        _write(csv, rows)


def _measured_by(manifest: "Manifest", rows: "Sequence[TrialRow]") -> tuple[Any, ...]:
    """What the scores of two studies must have in common to be compared; of the reference, what it came to."""
    search = manifest.spec["search"]
    objective = search.get("objective")
    tail = search.get("tail") if objective == "mean_tail" else None
    robust = "robustness" in search.get("objectives", [])  # then the score leaves the damaged tasks out
    fids = {label: f"{fid:.3g}" for row in rows[:1] if row.verdict for label, fid in row.verdict.fids.items()}
    return manifest.trained_on, list(manifest.seeds), objective, tail, robust, manifest.reference, fids


def _table(
    folders: Mapping[str, Path], manifests: "Mapping[str, Manifest]", rows: "Mapping[str, Sequence[TrialRow]]"
) -> "Table":
    """One row a study."""
    from datetime import timedelta

    from rich.markup import escape
    from rich.table import Table

    from metaopt.cli.outputs import ended_as, result
    from metaopt.search.export import best_trial

    table = Table(title="Studies (score: ln FID / reference FID over the tasks; lower is better)")
    for name in ("study", "searches for", "trials"):
        table.add_column(name)
    for name in ("time of training", "best trial", "score", "FID"):
        table.add_column(name, justify="right")
    for study, folder in folders.items():
        best = best_trial(folder, rows[study])
        trained = timedelta(seconds=round(sum(row.verdict.wall_s for row in rows[study] if row.verdict)))
        found = ("", "", "") if best is None else (str(best.number), *result(best))
        table.add_row(escape(study), manifests[study].family, ended_as(rows[study]), str(trained), *found)
    return table


def _write(path: Path, rows: "Mapping[str, Sequence[TrialRow]]") -> None:
    import pandas as pd

    from metaopt.analysis.leaderboard import leaderboard
    from metaopt.errors import StorageError

    tables = [leaderboard(trials).assign(study=study) for study, trials in rows.items()]
    table = pd.concat(tables, ignore_index=True)
    try:
        table[["study", *table.columns.drop("study")]].to_csv(path, index=False)
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error.strerror or error}.") from error
