"""`metaopt evaluate`: schedules against baselines on data that they were not learned on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaopt.cli.options import AllowImport

if TYPE_CHECKING:
    from rich.console import Console

    from metaopt.gan import Task
    from metaopt.meta.transfer import Cell, Contestant
    from metaopt.search.pools import Pool


def evaluate(
    schedules: Annotated[
        list[str], typer.Argument(help="schedule.json files or names of schedules; NAME=FILE to call one something.")
    ],
    tasks: Annotated[str, typer.Option(help="Data sets as for `metaopt train`, separated by commas.")],
    out: Annotated[Path, typer.Option(help="Folder for trainings, tables and pictures.")],
    baselines: Annotated[str, typer.Option(help="`all`, or names separated by commas.")] = "static",
    static: Annotated[
        str, typer.Option(help="Static schedule whose rates the baselines take: a schedule.json or a name.")
    ] = "static",
    seeds: Annotated[int, typer.Option(min=1, help="Paired seeds a task.")] = 10,
    first_seed: Annotated[int, typer.Option(min=0, help="Seeds are counted from here.")] = 1000,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a key of every task, as in a study file; repeatable."),
    ] = None,
    tuned: Annotated[
        list[str] | None,
        typer.Option(help="A study on one of the tasks alone: how many of its trials is a schedule worth? Repeatable."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of this machine, one thread each.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Train on the Ray cluster at RAY_ADDRESS instead.")] = False,
    device: Annotated[str, typer.Option(help="Such as cpu or cuda.")] = "cpu",
    allow_import: AllowImport = False,
) -> None:
    """Train GANs with each schedule and each baseline, with the same seeds, and say which is better.

    The same command goes on where it was stopped.

    [bold]Examples[/bold]

      metaopt evaluate best_schedule.json cosine --tasks fashion_mnist,cifar10 --baselines all --out runs/transfer

      metaopt evaluate best_schedule.json --tasks npz:mine.npz,folder:~/faces --set size=16 --seeds 10 --out runs/mine
    """
    from rich.console import Console

    from metaopt.cli.comparison import print_comparisons, print_equivalence, write_evaluation
    from metaopt.cli.outputs import print_floors
    from metaopt.cli.train import checked_device
    from metaopt.meta.transfer import cells_of

    console, device = Console(), checked_device(device)
    contestants = _contestants(schedules, baselines, static)
    problems = _tasks(tasks, settings or [])
    pools = _pools(tuned or [], problems, allow_import=allow_import)
    cells = cells_of(contestants, problems, range(first_seed, first_seed + seeds))
    names = [one.name for one in contestants]
    console.print(
        f"{', '.join(names[: len(schedules)])} against {', '.join(names[len(schedules) :]) or 'nothing'} on "
        f"{', '.join(task.name for task in problems)}, {seeds} seeds: {len(cells)} trainings, kept in {out}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    _train(cells, out, console=console, workers=workers, ray=ray, device=device)
    comparisons, worth = write_evaluation(out, cells, names[: len(schedules)], names[len(schedules) :], pools, device)
    print_comparisons(console, comparisons)
    print_equivalence(console, worth)
    print_floors(console, problems, device)
    console.print(f"Tables and pictures in {out}; open {out / 'report.html'}", highlight=False, markup=False)


def _pools(studies: Sequence[str], tasks: Sequence["Task"], *, allow_import: bool) -> list["Pool"]:
    from metaopt.errors import ConfigError
    from metaopt.search.folder import study_folder
    from metaopt.search.pools import tuning_pool

    pools = [tuning_pool(study_folder(study), tasks, allow_import=allow_import) for study in studies]
    named = [pool.task for pool in pools]
    for task in named:
        if named.count(task) > 1:
            raise ConfigError(f"`--tuned` must name one study a task, but {task!r} has {named.count(task)}.")
    return pools


def _contestants(schedules: Sequence[str], baselines: str, static: str) -> list["Contestant"]:
    from metaopt.errors import ConfigError
    from metaopt.meta.rivals import rivals
    from metaopt.schedules import find_schedule
    from metaopt.schedules.families import unknown

    known = rivals(find_schedule(static))
    chosen = list(known) if baselines == "all" else [name.strip() for name in baselines.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise ConfigError(unknown("baseline", name, known))
    ours = [_contestant(source) for source in schedules]
    names = [one.name for one in ours] + chosen
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"Names of schedules and baselines must differ, but {name!r} is there twice; give NAME=FILE."
            )
    return ours + [known[name] for name in chosen]


def _contestant(source: str) -> "Contestant":
    """A schedule, under a name of one's own where the source is NAME=SOURCE."""
    from metaopt.meta.transfer import Contestant
    from metaopt.schedules import find_schedule

    name, named, rest = source.partition("=")
    found = find_schedule(rest if named else source)
    return Contestant(name=name if named else found.name, schedule=found)


def _tasks(tasks: str, settings: Sequence[str]) -> list["Task"]:
    from metaopt.errors import ConfigError
    from metaopt.search.study import load_task

    found = [load_task(data.strip(), settings) for data in tasks.split(",") if data.strip()]
    names = [task.name for task in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Names of tasks must differ, but {name!r} is there twice.")
    if not found:
        raise ConfigError(f"`--tasks` must name at least one data set, but got {tasks!r}.")
    return found


def _train(cells: Sequence["Cell"], out: Path, *, console: "Console", workers: int, ray: bool, device: str) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from metaopt.errors import StorageError
    from metaopt.meta.transfer import missing, train_cells

    folder = out / "trainings"
    left = len(missing(cells, folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{out} could not be written: {error.strerror}.") from error
    if ray:
        from metaopt.search.ray_grid import train_cells_on_ray
        from metaopt.search.study_spec import ResourcesSpec

        done = train_cells_on_ray(cells, folder, ResourcesSpec(gpu=0 if device == "cpu" else 1))
    else:
        done = train_cells(cells, folder, workers=workers, device=device)
    columns = TextColumn("trainings left"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("trainings", total=left)
        for _ in done:
            progress.advance(bar)
