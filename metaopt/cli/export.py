"""`metaopt export`: a trial as a schedule.json."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    study: Annotated[str, typer.Option(help="Name of a study under runs/, or its folder.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    trial: Annotated[int | None, typer.Option(help="Number of the trial. [default: the best]")] = None,
) -> None:
    """Write a trial's schedule as a small JSON file that any PyTorch loop can follow.

    [bold]Examples[/bold]

      metaopt export --study smoke --out best.json

      metaopt export --study runs/faces --trial 17 --out faces17.json
    """
    from metaopt.schedules import save_schedule
    from metaopt.search.export import export_trial
    from metaopt.search.folder import study_folder

    artifact = export_trial(study_folder(study), trial)
    save_schedule(artifact, out)
    score = "" if artifact.score is None else f", score {artifact.score:+.3f}"
    typer.echo(f"{out}: trial {artifact.provenance['trial']} of {artifact.provenance['study']}{score}")
