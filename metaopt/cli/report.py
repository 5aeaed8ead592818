"""`metaopt report`: what a study found, on one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

    from metaopt.analysis.report import Section
    from metaopt.search.winner import Validation


def report(
    study: Annotated[str, typer.Option(help="Name of a study under runs/, or its folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the page. [default: report in the study's]")] = None,
) -> None:
    """Write what a study found as one HTML page, with every picture as PNG and every table as CSV beside it.

    [bold]Examples[/bold]

      metaopt report --study smoke

      metaopt report --study runs/transfer_static --out docs/results/transfer_static
    """
    from metaopt.analysis.leaderboard import leaderboard
    from metaopt.analysis.report import write_report
    from metaopt.errors import ConfigError, StorageError
    from metaopt.search.export import study_in, validation_of
    from metaopt.search.folder import study_folder
    from metaopt.search.optuna_space import importances, read_rows

    folder = study_folder(study)
    manifest = study_in(folder)
    rows = read_rows(folder, manifest.name)
    table = leaderboard(rows)
    if table.empty or table["score"].isna().all():
        raise ConfigError(f"Study {manifest.name!r} in {folder} has no trial with a score yet.")
    to = out or folder / "report"
    try:
        to.mkdir(parents=True, exist_ok=True)
        sections = [
            *_trials(to, table),
            *_best(folder),
            *_importances(to, importances(folder, manifest.name)),
            *_validation(to, validation_of(folder, rows)),
        ]
        page = write_report(to / "report.html", f"Study {manifest.name}", sections)
    except OSError as error:
        raise StorageError(f"{to} could not be written: {error.strerror}.") from error
    typer.echo(f"{page}: {len(rows)} trials of {manifest.family} on {', '.join(manifest.tasks)}")


def _trials(to: Path, table: "pd.DataFrame") -> Sequence["Section"]:
    from metaopt.analysis.report import Section
    from metaopt.analysis.study import draw_scores

    table.to_csv(to / "leaderboard.csv", index=False)
    text = "ln(FID / FID of the reference) over the tasks, by the study's objective; the twenty best of all."
    return [Section(title="Trials", text=text, picture=draw_scores(to / "scores.png", table), table=table.head(20))]


def _best(folder: Path) -> Sequence["Section"]:
    """What the search drew, if it has come that far."""
    from metaopt.analysis.report import Section

    pictures = {"best_schedule.png": "The best schedule", "samples.png": "Samples"}
    return [Section(title=title, picture=folder / name) for name, title in pictures.items() if (folder / name).exists()]


def _importances(to: Path, found: dict[str, float]) -> Sequence["Section"]:
    import pandas as pd

    from metaopt.analysis.report import Section
    from metaopt.analysis.study import draw_importances

    if not found:
        return []
    table = pd.DataFrame({"parameter": list(found), "importance": list(found.values())})
    table.to_csv(to / "importances.csv", index=False)
    text = "Share of the score's variance over the search space that it explains alone (fANOVA, Hutter et al. 2014)."
    picture = draw_importances(to / "importances.png", found)
    return [Section(title="Which parameters matter", text=text, picture=picture, table=table)]


def _validation(to: Path, found: "Validation | None") -> Sequence["Section"]:
    import pandas as pd

    from metaopt.analysis.report import Section
    from metaopt.analysis.study import draw_regret

    if found is None:
        return []
    columns = ["trial", "search", "fresh", "validation"]
    table = pd.DataFrame(
        [{name: getattr(one, name) for name in columns} | dict(one.by_task) for one in found.candidates]
    )
    table.to_csv(to / "validation.csv", index=False)
    text = (
        f"The best trials and the reference, trained again. Winner: trial {found.winner.trial}, best on unseen tasks. "
        f"Scores of the search were too good by {found.regret:+.3f} on fresh seeds, on average over these trials."
    )
    picture = draw_regret(to / "validation.png", table)
    return [Section(title="Search against fresh seeds", text=text, picture=picture, table=table)]
