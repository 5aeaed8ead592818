"""`metaopt train`: one GAN with one schedule."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from metaopt.training import Training

_CHECKPOINT = "training.pt"
_RECORDS = "records.jsonl"
_IDENTITY = "train.json"
_GRID_IMAGES = 64


def train(
    task: Annotated[
        str,
        typer.Option(help="A name that `metaopt data` lists, npz:FILE, npy:FILE, folder:DIR, readable:DIR, hf:NAME."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for records, samples and checkpoint.")],
    schedule: Annotated[str, typer.Option(help="A schedule.json, or a name: `learned`, `ttur`, ...")] = "dcgan",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    budget: Annotated[int | None, typer.Option(min=1, help="Iterations. [default: the task's]")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of a task in a study file, as in --set loss=hinge."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in that folder.")] = False,
) -> None:
    """Train one GAN; records as CSV and JSONL, a sample grid and the FID at each evaluation.

    [bold]Examples[/bold]

      metaopt train --task mnist5k --schedule runs/smoke/best_schedule.json --seed 3 --out runs/mnist

      metaopt train --task folder:~/faces --schedule ttur --budget 4000 --out runs/faces

      metaopt train --task glyphs --set loss=hinge --set 'metrics=[fid, kid, modes]' --out runs/glyphs
    """
    from metaopt.errors import ConfigError
    from metaopt.metrics import METRICS, small_sample_warning
    from metaopt.schedules import find_schedule
    from metaopt.search.study import load_task
    from metaopt.training import Training, load_training

    chosen = load_task(task, [*(settings or []), *([] if budget is None else [f"budget={budget}"])])
    followed = find_schedule(schedule)
    training = Training(chosen, followed.build(), seed, device=checked_device(device))
    identity = {
        "task": chosen.key(),
        "data": training.shared.identity,
        "schedule": [followed.family, dict(followed.params)],
        "seed": seed,
    }
    if resume:
        _check_same(out / _IDENTITY, identity)
        used = load_training(training, out / _CHECKPOINT)
        if used != out / _CHECKPOINT:
            typer.echo(f"{out / _CHECKPOINT} is not whole: going on from {used.name}, the state before it.", err=True)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} must be a new or empty folder; choose another --out, or add --resume.")
    last = _run(training, out, identity)
    reason = f": {last['reason']}" if last["reason"] else ""
    fid = "no FID" if last["fid"] is None else _fid_text(training, last["fid"])
    updates = f"{last['d_updates']} D and {last['g_updates']} G updates"
    typer.echo(f"{last['outcome']}{reason}; {fid}; {updates} in {last['wall_s']:.1f} s")
    keys = [key for name in chosen.metrics if name != "fid" for key in METRICS[name].keys]
    others = [f"{key} {last[key]:.4g}" for key in keys if last[key] is not None]
    n_images = min(chosen.n_samples, training.shared.real.statistics.n)
    for line in (", ".join(others), small_sample_warning(n_images, training.shared.extractor.dim)):
        if line:
            typer.echo(line)
    typer.echo(f"records, samples and checkpoint in {out}")


def _fid_text(training: "Training", fid: float) -> str:
    from metaopt.training.resources import floor

    task = training.task
    lowest = floor(task, training.device)
    return f"FID {fid:.2f} ({task.n_samples} samples, {task.features} features, floor {lowest:.2f})"


def checked_device(device: str) -> str:
    """`device`, if this machine has it; ConfigError if not."""
    import torch

    from metaopt.errors import ConfigError

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"`--device {device}` must be a device of this machine: {error}") from error
    return device


def _check_same(path: Path, identity: dict[str, Any]) -> None:
    """ConfigError unless the training in the folder is of this task, schedule and seed."""
    import json

    from metaopt.errors import ConfigError

    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.parent} must hold a training to resume, but {path.name} cannot be read.") from error
    for key, value in identity.items():
        if before.get(key) != value:
            raise ConfigError(f"{path.parent} holds a training of another {key}; choose another --out.")


def _run(training: "Training", out: Path, identity: dict[str, Any]) -> dict[str, Any]:
    import json

    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from metaopt.errors import StorageError
    from metaopt.tracking import CsvWriter, JsonlWriter
    from metaopt.training import save_training
    from metaopt.training.grid import grid_png
    from metaopt.training.resources import floor

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / _IDENTITY).write_text(json.dumps(identity), encoding="utf-8")
        rows = _recorded(out / _RECORDS)[: training.n_records]
        if len(rows) < training.n_records:
            raise StorageError(f"{out / _RECORDS} must hold {training.n_records} records, but has {len(rows)}.")
        with (
            CsvWriter(out / "records.csv", _fields()) as csv,
            JsonlWriter(out / _RECORDS) as jsonl,
            Progress(*columns) as progress,
        ):
            for row in rows:  # those after the checkpoint come again
                csv.write(row)
                jsonl.write(row)
            bar = progress.add_task(training.task.name, total=1.0, note="")
            fid, lowest = "", floor(training.task, training.device)
            for record in training.run():
                rows.append(record.as_dict())
                csv.write(rows[-1])
                jsonl.write(rows[-1])
                fid = fid if record.fid is None else f"  FID {record.fid:.2f} (floor {lowest:.2f})"
                warned = "  ".join(part.partition(":")[0] for part in record.warning.split("; "))
                note = f"D {record.loss_d:.3f}  G {record.loss_g:.3f}{fid}  {warned}"
                progress.update(bar, completed=record.progress, note=note)
                if record.fid is not None:
                    save_training(training, out / _CHECKPOINT)
                    (out / f"samples-{round(record.iteration):06d}.png").write_bytes(
                        grid_png(training.sample(_GRID_IMAGES))
                    )
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{out} could not be written: {error}. Make room and add --resume.") from error
    return rows[-1]


def _recorded(path: Path) -> list[dict[str, Any]]:
    import json

    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def _fields() -> list[str]:
    from dataclasses import fields

    from metaopt.training import Record

    return [field.name for field in fields(Record)]
