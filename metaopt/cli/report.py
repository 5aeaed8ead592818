"""`metaopt report`: what a study found, on one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from metaopt.analysis.report import Section
    from metaopt.schedules import ScheduleArtifact
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
    from metaopt.errors import StorageError
    from metaopt.search.export import export_trial, study_in, validation_of
    from metaopt.search.folder import study_folder
    from metaopt.search.generations import history
    from metaopt.search.importances import importances
    from metaopt.search.optuna_space import read_rows

    folder = study_folder(study)
    manifest = study_in(folder)
    rows = read_rows(folder, manifest.name)
    best = export_trial(folder)
    to = out or folder / "report"
    try:
        to.mkdir(parents=True, exist_ok=True)
        sections = [
            *_trials(to, leaderboard(rows)),
            *_front(to, leaderboard(rows), manifest.spec["search"].get("objectives", [])),
            *_best(to, folder, best),
            *_population(to, history(folder, rows)),
            *_importances(
                to,
                {} if manifest.spec["search"].get("population") else importances(folder, manifest.name),
                sum(row.state == "COMPLETE" for row in rows),
            ),
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


def _front(to: Path, table: "pd.DataFrame", objectives: Sequence[str]) -> Sequence["Section"]:
    from metaopt.analysis.report import Section
    from metaopt.analysis.study import draw_front

    if "front" not in table:
        return []
    front = table[table["front"].eq(True)]
    front.to_csv(to / "front.csv", index=False)
    text = (
        f"Trials of which none is better in one of {', '.join(objectives)} and as good in the others; the score is "
        f"{objectives[0]}. Lower is better in all."
    )
    return [Section(title="Front", text=text, picture=draw_front(to / "front.png", table, objectives), table=front)]


def _best(to: Path, folder: Path, best: "ScheduleArtifact") -> Sequence["Section"]:
    """The winner of now; its samples, if the search has drawn those of this one."""
    import shutil

    from metaopt.analysis.figures import draw_schedules
    from metaopt.analysis.report import Section
    from metaopt.errors import ArtifactError
    from metaopt.schedules import load_schedule
    from metaopt.search.export import export_trial

    reference = export_trial(folder, 0)
    number = best.provenance["trial"]
    curves = {f"trial {number}": best, f"trial 0, {best.provenance['reference']}": reference}
    picture = draw_schedules(to / "best_schedule.png", curves)
    sections = [Section(title="The best schedule", text=f"Trial {number}, and the reference.", picture=picture)]
    try:
        drawn = load_schedule(folder / "best_schedule.json").provenance.get("trial")
        if drawn == number and folder != to:
            shutil.copyfile(folder / "samples.png", to / "samples.png")
    except (ArtifactError, FileNotFoundError):  # the search has not come to its end
        return sections
    return [*sections, Section(title="Samples", picture=to / "samples.png")] if drawn == number else sections


def _population(to: Path, found: "list[dict[str, Any]]") -> Sequence["Section"]:
    import pandas as pd

    from metaopt.analysis.report import Section

    if not found:
        return []
    table = pd.DataFrame(found)
    table["copies"] = table["copies"].map(lambda source: "" if pd.isna(source) else f"trial {source:.0f}")
    table.to_csv(to / "population.csv", index=False)
    text = (
        "Every member at every evaluation: its score there, the parameters until then, and the trial whose weights it "
        "went on with, where that is not its own."
    )
    return [Section(title="The population", text=text, table=table)]


def _importances(to: Path, found: dict[str, float], n_complete: int) -> Sequence["Section"]:
    import pandas as pd

    from metaopt.analysis.report import Section
    from metaopt.analysis.study import draw_importances
    from metaopt.search.importances import MOST

    if not found:
        return []
    table = pd.DataFrame({"parameter": list(found), "importance": list(found.values())})
    table.to_csv(to / "importances.csv", index=False)
    text = "Share of the score's variance over the search space that it explains alone (fANOVA, Hutter et al. 2014)."
    if n_complete > MOST:
        text += f" Over {MOST:,} of the {n_complete:,} trials that ended, drawn at random."
    picture = draw_importances(to / "importances.png", found)
    return [Section(title="Which parameters matter", text=text, picture=picture, table=table)]


def _validation(to: Path, found: "Validation | None") -> Sequence["Section"]:
    import pandas as pd

    from metaopt.analysis.report import Section
    from metaopt.analysis.study import draw_regret
    from metaopt.search.winner import REFERENCE

    if found is None:
        return []
    columns = ["trial", "search", "fresh", "validation"]
    rows = []
    for one in found.candidates:
        by_task = {f"on {task}": score for task, score in one.by_task.items()}
        rows.append({name: getattr(one, name) for name in columns} | by_task)
    table = pd.DataFrame(rows)
    table.to_csv(to / "validation.csv", index=False)
    text = (
        f"The best trials and the reference, trained again. Winner: trial {found.winner.trial}, best on unseen tasks. "
        f"Scores of the search were too good by {found.regret:+.3f} on fresh seeds, on average over these trials."
    )
    picture = draw_regret(to / "validation.png", table[table["trial"] != REFERENCE])
    return [Section(title="Search against fresh seeds", text=text, picture=picture, table=table)]
