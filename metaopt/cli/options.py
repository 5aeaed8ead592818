"""Options that several commands have."""

from typing import Annotated

import typer

StudySource = Annotated[str, typer.Argument(help="Name of a study that comes with metaopt, or a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study; repeatable."),
]
AllowImport = Annotated[
    bool, typer.Option("--allow-import", help="Run the code that the file names: networks and features of its own.")
]
LeaveOut = Annotated[
    str | None,
    typer.Option(metavar="DATA", help="Do not train on this data set; choose the winner on it."),
]
