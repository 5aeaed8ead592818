"""`metaopt train`: one GAN with one schedule."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from metaopt.schedules import Schedule
    from metaopt.training import Record, Training

_CHECKPOINT = "training.pt"
_RECORDS = "records.jsonl"
_GRID_IMAGES = 64


def train(
    task: Annotated[str, typer.Option(help="digits, mnist5k, npz:FILE or folder:DIR.")],
    out: Annotated[Path, typer.Option(help="Folder for records, samples and checkpoint.")],
    schedule: Annotated[str, typer.Option(help="A schedule.json, or the name of a published rule.")] = "dcgan",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    budget: Annotated[int | None, typer.Option(min=1, help="Iterations. [default: the task's]")] = None,
    network: Annotated[str | None, typer.Option(help="mlp or dcgan. [default: the task's]")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels a side. [default: the data's]")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in that folder.")] = False,
) -> None:
    """Train one GAN; records as CSV and JSONL, a sample grid and the FID at each evaluation.

    [bold]Examples[/bold]

      metaopt train --task mnist5k --schedule runs/smoke/best_schedule.json --seed 3 --out runs/mnist

      metaopt train --task folder:~/faces --schedule ttur --budget 4000 --out runs/faces
    """
    from metaopt.errors import ConfigError
    from metaopt.gan import task_from_spec
    from metaopt.training import Training, load_training

    overrides = {"budget": budget, "network": network, "size": size}
    chosen = task_from_spec(task, **{key: value for key, value in overrides.items() if value is not None})
    training = Training(chosen, _schedule(schedule), seed, device=_checked_device(device))
    if resume:
        load_training(training, out / _CHECKPOINT)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} must be a new or empty folder; choose another --out, or add --resume.")
    last = _run(training, out)
    outcome = f"{last.outcome}: {last.reason}" if last.reason else f"{last.outcome}"
    fid = "no FID" if last.fid is None else f"FID {last.fid:.2f} ({chosen.n_samples} samples, small features)"
    typer.echo(f"{outcome}; {fid}; {last.d_updates} D and {last.g_updates} G updates in {last.wall_s:.1f} s")
    typer.echo(f"records, samples and checkpoint in {out}")


def _schedule(name: str) -> "Schedule":
    from metaopt.schedules import load_schedule, named_schedule

    return load_schedule(name) if name.endswith(".json") else named_schedule(name).build()


def _checked_device(device: str) -> str:
    import torch

    from metaopt.errors import ConfigError

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"`--device {device}` must be a device of this machine: {error}") from error
    return device


def _run(training: "Training", out: Path) -> "Record":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from metaopt.errors import StorageError
    from metaopt.tracking import CsvWriter, JsonlWriter
    from metaopt.training import save_training
    from metaopt.training.grid import grid_png

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        before = _recorded(out / _RECORDS)[: training.n_records]
        with (
            CsvWriter(out / "records.csv", _fields()) as csv,
            JsonlWriter(out / _RECORDS) as jsonl,
            Progress(*columns) as progress,
        ):
            for row in before:  # those after the checkpoint come again
                csv.write(row)
                jsonl.write(row)
            bar = progress.add_task(training.task.name, total=1.0, note="")
            fid = ""
            for record in training.run():
                csv.write(record.as_dict())
                jsonl.write(record.as_dict())
                fid = fid if record.fid is None else f"  FID {record.fid:.2f}"
                note = f"D {record.loss_d:.3f}  G {record.loss_g:.3f}{fid}"
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
    return record


def _recorded(path: Path) -> list[dict[str, Any]]:
    import json

    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def _fields() -> list[str]:
    from dataclasses import fields

    from metaopt.training import Record

    return [field.name for field in fields(Record)]
