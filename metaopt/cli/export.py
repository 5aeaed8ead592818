"""`metaopt export`: a trial as a schedule.json, or as an initialisation.safetensors."""

from pathlib import Path
from typing import Annotated, Any

import typer


def export(
    study: Annotated[str, typer.Option(help="Name of a study under runs/, or its folder.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    trial: Annotated[int | None, typer.Option(help="Number of the trial. [default: the best]")] = None,
) -> None:
    """Write a trial's schedule as a small JSON file that any PyTorch loop can follow; or the start that it learned.

    [bold]Examples[/bold]

      metaopt export --study smoke --out best.json

      metaopt export --study runs/faces --trial 17 --out faces17.json

      metaopt export --study init_characters --out initialisation.safetensors
    """
    from metaopt.meta.maml import save_initialisation
    from metaopt.schedules import save_schedule
    from metaopt.search.export import export_start, export_trial, study_in
    from metaopt.search.folder import study_folder

    folder = study_folder(study)
    artifact: Any
    if study_in(folder).learns_starts:
        artifact = export_start(folder, trial)
        save_initialisation(artifact, out)
    else:
        artifact = export_trial(folder, trial)
        save_schedule(artifact, out)
    score = "" if artifact.score is None else f", score {artifact.score:+.3f}"
    typer.echo(f"{out}: trial {artifact.provenance['trial']} of {artifact.provenance['study']}{score}")
