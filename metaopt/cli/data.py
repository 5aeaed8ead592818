"""`metaopt data`: which data sets there are, and what one of them is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from metaopt.gan import Card, Dataset

_SHOWN = 100
_COLUMNS = 10


def data(
    spec: Annotated[
        str | None,
        typer.Argument(
            help="A name in the table, npz:FILE, npy:FILE, folder:DIR, readable:DIR or hf:NAME. "
            "[default: show the table]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="PNG to write with 100 of its images.")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels a side. [default: the data's]")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch it first, with torchvision.")] = False,
) -> None:
    """List the data sets that have a name, or load one and say what it is. Only --download fetches anything.

    [bold]Examples[/bold]

      metaopt data

      metaopt data glyphs --out glyphs.png

      metaopt data folder:~/faces --size 64 --out faces.png

      metaopt data cifar10 --download
    """
    from metaopt.errors import ConfigError

    if spec is None:
        if out is not None or size is not None or download:
            raise ConfigError("`--out`, `--size` and `--download` must come with a data set, but none was named.")
        _print_table()
        return
    _show(spec, out, size, download)


def _print_table() -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from metaopt.gan import DATASETS

    table = Table(title="Data sets by name; `metaopt data NAME` says more", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("name", no_wrap=True)
    table.add_column("shows", min_width=12)
    for heading in ("images", "pixels", "classes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("split", "licence"):
        table.add_column(heading)
    for source in DATASETS.values():
        card = source.card
        counts = (f"{card.n:,}", f"{card.size}x{card.size}x{card.channels}", str(card.n_classes or "-"))
        table.add_row(card.name, card.shows, *counts, card.split, card.licence)
    Console().print(table)


def _show(spec: str, out: Path | None, size: int | None, download: bool) -> None:
    from metaopt.gan import DATASETS, load_dataset
    from metaopt.gan.fetched import fetch

    _print_lines([("name", spec), *(_card_lines(DATASETS[spec].card) if spec in DATASETS else [])])
    if download:
        typer.echo(f"fetched into {fetch(spec)}")
    dataset = load_dataset(spec, size=size)
    _print_lines(_content_lines(dataset))
    if out is not None:
        _write_sheet(dataset, out)
        typer.echo(f"{min(_SHOWN, len(dataset))} of its images in {out}")


def _print_lines(lines: list[tuple[str, str]]) -> None:
    typer.echo("\n".join(f"{name:<12} {value}" for name, value in lines))


def _card_lines(card: "Card") -> list[tuple[str, str]]:
    return [("shows", card.shows), ("source", card.source), ("licence", card.licence), ("split", card.split)]


def _content_lines(dataset: "Dataset") -> list[tuple[str, str]]:
    colours = "gray" if dataset.channels == 1 else "colour"
    lines = [("images", f"{len(dataset):,}"), ("pixels", f"{dataset.size} x {dataset.size}, {colours}")]
    if dataset.y is None:
        lines.append(("classes", "none"))
    else:
        counts = dataset.y.bincount()
        least, most = int(counts.min()), int(counts.max())
        each = f"{most:,}" if least == most else f"{least:,} to {most:,}"
        lines.append(("classes", f"{dataset.n_classes}, of {each} images each"))
    where = "mapped from the file" if dataset.mapped else f"{dataset.x.nbytes / 2**20:.1f} MiB"
    if dataset.n_left_out:
        lines.append(("left out", f"{dataset.n_left_out:,} files that are no images"))
    return [*lines, ("memory", where), ("content hash", dataset.content_hash)]


def _write_sheet(dataset: "Dataset", out: Path) -> None:
    """A picture of at most 100 images, spread evenly over the set."""
    import torch

    from metaopt.errors import StorageError
    from metaopt.training.grid import grid_png

    index = torch.linspace(0, len(dataset) - 1, min(_SHOWN, len(dataset)), dtype=torch.float64).round().long()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(grid_png(dataset.x[index], _COLUMNS))
    except OSError as error:
        raise StorageError(f"{out} could not be written: {error}.") from error
