"""`metaopt export`: a trial as a schedule.json, or as an initialisation.safetensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer


def export(
    study: Annotated[str, typer.Option(help="Name of a study under runs/, or its folder.")],
    out: Annotated[Path, typer.Option(help="File to write; with --front, a folder.")],
    trial: Annotated[int | None, typer.Option(help="Number of the trial. [default: the best]")] = None,
    front: Annotated[bool, typer.Option("--front", help="All trials on the front of several objectives.")] = False,
) -> None:
    """Write a trial's schedule as a small JSON file that any PyTorch loop can follow; or the start that it learned.

    [bold]Examples[/bold]

      metaopt export --study smoke --out best.json

      metaopt export --study runs/faces --trial 17 --out faces17.json

      metaopt export --study robust --front --out front

      metaopt export --study init_characters --out initialisation.safetensors
    """
    from metaopt.meta.maml import save_initialisation
    from metaopt.schedules import save_schedule
    from metaopt.search.export import export_start, export_trial, front_in, study_in
    from metaopt.search.folder import study_folder

    folder = study_folder(study)
    if front:
        _export_front(folder, out, trial)
    elif study_in(folder).learns_starts:
        start = export_start(folder, trial)
        save_initialisation(start, out)
        _say(out, start.score, start.provenance)
    else:
        schedule = export_trial(folder, trial)
        save_schedule(schedule, out)
        _say(out, schedule.score, schedule.provenance)
        others = [str(row.number) for row in front_in(folder) if row.number != schedule.provenance["trial"]]
        if others:
            typer.echo(f"Others on the front of the objectives: trials {', '.join(others)}; --front exports them all.")


def _export_front(folder: Path, out: Path, trial: int | None) -> None:
    from metaopt.errors import ConfigError
    from metaopt.schedules import save_schedule
    from metaopt.search.export import export_front

    if trial is not None:
        raise ConfigError(f"Either `--trial` or `--front` must be given, but got both, --trial {trial}.")
    for number, schedule in export_front(folder).items():
        file = save_schedule(schedule, out / f"trial-{number:05d}.json")
        _say(file, schedule.score, schedule.provenance)


def _say(out: Path, score: float | None, provenance: Mapping[str, object]) -> None:
    of = "" if score is None else f", score {score:+.3f}"
    typer.echo(f"{out}: trial {provenance['trial']} of {provenance['study']}{of}")
