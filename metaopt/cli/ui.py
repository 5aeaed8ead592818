"""`metaopt ui`: MLflow's user interface for the store of a study."""

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
    import os
    import sys

    from metaopt.search.export import study_in
    from metaopt.search.folder import study_folder, tracking_uri
    from metaopt.tracking.redact import redacted

    folder = study_folder(study)
    manifest = study_in(folder)
    uri = tracking_uri(manifest.tracking_uri, folder)
    if uri.startswith(("http://", "https://")):
        typer.echo(f"Study {manifest.name} is tracked by a server; open {redacted(uri)}")
        return
    typer.echo(f"MLflow UI of {manifest.name}: http://127.0.0.1:{port} (end with Ctrl-C)")
    artifacts = (folder / "mlartifacts").absolute().as_uri()
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    sys.stdout.flush()
    # by environment, as a command line can be read by everybody and a URI may hold a password
    environment = os.environ | {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifacts}
    os.execve(sys.executable, command, environment)
