"""`metaopt adapt`: a learned initialisation, adapted to one's own images."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaopt.cli.options import AllowImport

if TYPE_CHECKING:
    import torch

    from metaopt.gan import Pair
    from metaopt.meta.maml import Initialisation, Weights
    from metaopt.meta.maml.adaptation import Target

_LEAST_REAL = 6
"""Images that coverage, which looks at five neighbours of each, needs to compare with."""
_MOST_ROUNDS = 128
"""Batches that are in memory; a longer adaptation takes them again."""
_GRID_IMAGES = 64
_CHUNK = 250
_MEASURES = ("fid", "kid", "coverage", "memorisation")
Row = dict[str, int | float | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """What is adapted to, and what the outcome is compared with."""

    support: "torch.Tensor"
    """uint8 (k, C, H, H), k >= 1."""
    real: "torch.Tensor"
    """uint8 (n, C, H, H), n >= 0; `support` itself where no shots were asked for."""
    copies: int
    """How many of the real images are the same as one of those adapted to, pixel for pixel."""

    @property
    def unseen(self) -> bool:
        """Whether memorisation can be told: the median real image is no copy of one that was adapted to."""
        return 2 * self.copies < len(self.real)


def adapt(
    init: Annotated[Path, typer.Option(help="An initialisation.safetensors.")],
    data: Annotated[str, typer.Option(help="A folder of images, npz:FILE, or a name that `metaopt data` lists.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for weights, pictures and measures.")],
    steps: Annotated[int, typer.Option(min=1, help="Of the inner loop: the D updates owed, then one of G.")] = 50,
    shots: Annotated[
        int | None,
        typer.Option(min=1, help="Images to adapt to; the others are to compare with. [default: all are for both]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws shots, batches and noise.")] = 0,
    samples: Annotated[int, typer.Option(min=2, help="Generated images that are measured.")] = 500,
    allow_import: AllowImport = False,
) -> None:
    """Adapt a learned initialisation to a few images, and measure on the way what it makes of them.

    [bold]Examples[/bold]

      metaopt adapt --init initialisation.safetensors --data ~/faces --out runs/faces

      metaopt adapt --init initialisation.safetensors --data npz:mine.npz --shots 20 --steps 100 --out runs/mine
    """
    from metaopt.errors import ConfigError, StorageError
    from metaopt.gan.images import content_hash
    from metaopt.meta.maml import load_initialisation, save_initialisation
    from metaopt.search.named_code import refuse_code

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} must be a new or empty folder; choose another --out.")
    start = load_initialisation(init)
    if not allow_import:
        refuse_code(asdict(start.spec), {}, str(init))
    pair = start.pair()
    images = chosen(data, start, shots, seed)
    typer.echo("\n".join(_remarks(images, samples)))
    came_from: Mapping[str, str | int] = {
        "adapted_from": str(init),
        "adapted_to": data,
        "adapted_to_images": len(images.support),
        "adapted_to_content": content_hash(images.support),
        "adapted_steps": steps,
        "adapted_seed": seed,
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        weights = _adapted(start, pair, images, out, steps=steps, seed=seed, samples=samples)
        adapted = replace(start, weights=weights, score=None, provenance={**start.provenance, **came_from})
        file = save_initialisation(adapted, out / "adapted.safetensors")
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{out} could not be written: {error}. Make room, and choose another --out.") from error
    typer.echo(f"adaptation.csv, before.png, after.png, support.png and adapted.safetensors in {out}\n{_hint(file)}")


def chosen(data: str, start: "Initialisation", shots: int | None, seed: int) -> Chosen:
    """The images of a spec, or of a plain path to a folder, as `start` makes them: its size, gray or colour.

    ConfigError where there are fewer images than shots.
    """
    import torch

    from metaopt.errors import ConfigError
    from metaopt.gan import load_dataset
    from metaopt.gan.images import with_channels

    x, channels = load_dataset(_spec(data), size=start.spec.size).x, start.spec.channels
    if shots is None:
        x = with_channels(x, channels).contiguous()
        return Chosen(support=x, real=x, copies=len(x))
    if len(x) < shots:
        raise ConfigError(f"{data} must have at least as many images as --shots, {shots}, but has {len(x)}.")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    support, real = (with_channels(x[part], channels).contiguous() for part in (order[:shots], order[shots:]))
    seen = {image.numpy().tobytes() for image in support}
    return Chosen(support=support, real=real, copies=sum(image.numpy().tobytes() in seen for image in real))


def _spec(data: str) -> str:
    from metaopt.gan import DATASETS

    try:
        folder = data not in DATASETS and Path(data).expanduser().is_dir()
    except (OSError, RuntimeError):  # no path at all: `load_dataset` says what is wrong
        folder = False
    return f"folder:{data}" if folder else data


def _remarks(images: Chosen, samples: int) -> list[str]:
    """What the measures can and cannot say."""
    from metaopt.metrics import small_features, small_sample_warning

    k, n = len(images.support), len(images.real)
    if images.real is images.support:
        said = [f"adapting to all {k} images, and comparing with the same: FID does not see memorisation; see --shots"]
    else:
        said = [f"adapting to {k} images, and comparing with the other {n}"]
    if n < _LEAST_REAL:
        return [*said, f"no measures: there must be {_LEAST_REAL} images or more to compare with, but there are {n}"]
    if images.real is not images.support and not images.unseen:
        said.append(
            f"no memorisation: {images.copies} of the {n} images to compare with are copies of those adapted to"
        )
    warning = small_sample_warning(min(samples, n), small_features.dim)
    return [*said, warning] if warning else said


def ladder(steps: int) -> list[int]:
    """Steps after which is measured: 0, and about five with the same ratio between them, up to the last."""
    return sorted({0, *(round(steps ** (i / 4)) for i in range(5))})


def _adapted(
    start: "Initialisation", pair: "Pair", images: Chosen, out: Path, *, steps: int, seed: int, samples: int
) -> "Weights":
    """The weights after the last step; pictures and measures are written on the way.

    MetaoptError where weights or images are not finite any more; what was measured before is kept.
    """
    import torch

    from metaopt.meta.maml.adaptation import target
    from metaopt.metrics import small_features
    from metaopt.tracking import CsvWriter

    z = torch.randn(samples, start.spec.z_dim, generator=torch.Generator().manual_seed(seed))
    against = target(images.support, images.real, small_features) if len(images.real) >= _LEAST_REAL else None
    rows: list[Row] = []
    weights, made = start.weights, _made(pair, start.weights, z, 0)
    _write_grid(out / "support.png", images.support)
    _write_grid(out / "before.png", made)
    try:
        with CsvWriter(out / "adaptation.csv", ("step", *_MEASURES)) as csv:
            for step, weights in enumerate(_each_step(start, pair, images, steps, seed)):
                _check_finite(step, *(tensor for of in weights.values() for tensor in of.values()))
                if step in ladder(steps):
                    made = _made(pair, weights, z, step)
                    rows.append({"step": step, **_measured(made, against, seed)})
                    csv.write(rows[-1])
    finally:  # of what diverged, too
        if against is not None:
            _print_table(rows)
    _write_grid(out / "after.png", made)
    return weights


def _each_step(start: "Initialisation", pair: "Pair", images: Chosen, steps: int, seed: int) -> Iterator["Weights"]:
    """The first weights, and those after each step, on batches drawn by `seed`; a bar says how far it is."""
    from itertools import chain

    import torch
    from rich.progress import track

    from metaopt.meta.maml.adaptation import followed
    from metaopt.meta.maml.groups import Shots, rounds_of
    from metaopt.meta.maml.inner import updates

    players, inner = start.players(pair), start.inner(steps)
    taken = 1 + max(turn.number for turns in updates(players, inner) for turn in turns)
    k, n, z_dim = len(images.support), min(taken, _MOST_ROUNDS), start.spec.z_dim
    shots = Shots(shots=k, query=1, batch=start.batch, rounds=n, z_dim=z_dim)
    rounds = rounds_of(images.support, shots, torch.Generator().manual_seed(seed))
    going = followed(players, start.weights, rounds, inner, start.rates, how=start.how)
    yield from track(chain([start.weights], going), "adapting", steps + 1, transient=True)


def _made(pair: "Pair", weights: "Weights", z: "torch.Tensor", step: int) -> "torch.Tensor":
    """Images (n, C, H, H) in [-1, 1] of noise (n, z_dim)."""
    import torch

    from metaopt.meta.maml.games import images_of

    images = torch.cat([images_of(pair, weights["g"], part) for part in torch.split(z, _CHUNK)])
    _check_finite(step, images)
    return images


def _check_finite(step: int, *tensors: "torch.Tensor") -> None:
    from metaopt.errors import MetaoptError

    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise MetaoptError(
            f"The adaptation diverged at step {step}: weights or images are not finite any more. What was measured "
            f"before is kept, and no weights are."
        )


def _measured(made: "torch.Tensor", against: "Target | None", seed: int) -> Row:
    """All measures; without memorisation where it cannot be told, and none at all without images to compare with."""
    import torch

    from metaopt.meta.maml.adaptation import measured

    if against is None:
        return dict.fromkeys(_MEASURES)
    found = measured(made, against, torch.Generator().manual_seed(seed))  # the same subsets for KID at each step
    return {name: None if math.isnan(value) else value for name, value in asdict(found).items()}


def _write_grid(file: Path, images: "torch.Tensor") -> None:
    """A picture of the first 64 images: uint8, or float in [-1, 1]."""
    from metaopt.gan import to_uint8
    from metaopt.training.grid import grid_png

    shown = images[:_GRID_IMAGES]
    file.write_bytes(grid_png(to_uint8(shown) if shown.is_floating_point() else shown))


def _print_table(rows: list[Row]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE)
    for name in ("step", "FID", "KID", "coverage", "memorisation"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(str(row["step"]), *("" if row[name] is None else f"{row[name]:.4g}" for name in _MEASURES))
    Console().print(table)


def _hint(file: Path) -> str:
    """Python that loads the generator."""
    return (
        f"import torch\n"
        f"from metaopt.meta.maml import load_initialisation\n"
        f"pair = load_initialisation({str(file.absolute())!r}).pair()\n"
        f"images = pair.generator(torch.randn(16, pair.z_dim))"
    )
