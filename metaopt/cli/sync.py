"""`metaopt sync`: what MLflow has not had of a study yet."""

from typing import Annotated

import typer

_WAIT_S = 600.0


def sync(
    study: Annotated[str, typer.Option(help="Name of a study under runs/, or its folder.")],
    wait_s: Annotated[float, typer.Option(min=0.0, help="How long to try.")] = _WAIT_S,
) -> None:
    """Bring what a study has recorded into its MLflow store, which did not answer when it ran.

    [bold]Examples[/bold]

      metaopt sync --study runs/faces
    """
    from metaopt.errors import MetaoptError
    from metaopt.search.export import study_in
    from metaopt.search.folder import locked, study_folder, tracking_uri
    from metaopt.tracking import open_tracker
    from metaopt.tracking.redact import redacted

    folder = study_folder(study)
    manifest = study_in(folder)
    uri = tracking_uri(manifest.tracking_uri, folder)
    with locked(folder):
        left = open_tracker(uri, manifest.name, folder / "spool").close(wait_s)
    if left:
        raise MetaoptError(f"{left} events wait in {folder / 'spool'}: {redacted(uri)} did not take them.")
    typer.echo(f"All that {manifest.name} has recorded is at {redacted(uri)}")
