"""`metaopt ui`: MLflow's user interface for the store of a study."""

from pathlib import Path
from typing import Annotated

import typer


def ui(
    study: Annotated[str, typer.Option(help="Name of a study under runs/, or its folder.")] = "smoke",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open the MLflow UI on 127.0.0.1 for a study's store. End it with Ctrl-C.

    [bold]Examples[/bold]

      metaopt ui --study smoke

      metaopt ui --study /data/runs/faces --port 5001
    """
    import subprocess
    import sys

    from metaopt.search.export import study_in
    from metaopt.search.folder import study_folder
    from metaopt.search.search import tracking_uri

    folder = study_folder(study)
    manifest = study_in(folder)
    uri = tracking_uri(manifest.tracking_uri, folder)
    if uri.startswith(("http://", "https://")):
        typer.echo(f"Study {manifest.name} is tracked by a server; open {uri}")
        return
    typer.echo(f"MLflow UI of {manifest.name}: http://127.0.0.1:{port} (end with Ctrl-C)")
    artifacts = Path(folder / "mlartifacts").absolute()
    command = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    raise typer.Exit(
        subprocess.run([sys.executable, *command, "--default-artifact-root", artifacts.as_uri()], check=False).returncode
    )
