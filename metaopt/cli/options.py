"""Options that several commands have."""

from typing import Annotated

import typer

StudySource = Annotated[str, typer.Argument(help="Name of a study that comes with metaopt, or a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study; repeatable."),
]
LeaveOut = Annotated[
    str | None,
    typer.Option(metavar="DATA", help="Do not train on this data set; choose the winner on it."),
]
