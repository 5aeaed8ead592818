"""`metaopt doctor`: is everything there, and if not, what to type."""

from collections.abc import Callable, Iterator

import typer

_LEAST = {"torch": (2, 11), "ray": (2, 54), "optuna": (5, 0), "mlflow": (3, 14)}
_PACKAGES = ("metaopt", "torch", "torchvision", "ray", "optuna", "mlflow", "pandas", "numpy")
_LEAST_FREE_GB = 2.0


def doctor() -> None:
    """Check versions, devices, Ray, MLflow and the disk; say what is wrong and what to type.

    [bold]Example[/bold]

      metaopt doctor
    """
    failed = 0
    for name, check in _CHECKS.items():
        for ok, text in _tried(check):
            failed += not ok
            typer.echo(f"{'ok  ' if ok else 'BAD '} {name:<9} {text}")
    if failed:
        typer.echo(f"\n{failed} of the checks failed; the lines that begin with BAD say what to do.")
        raise typer.Exit(1)


Finding = tuple[bool, str]


def _tried(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # a check must not keep the others from running
        hint = _HINTS.get(check.__name__, "see the message")
        yield False, f"{type(error).__name__}: {error}; {hint}"


def _versions() -> Iterator[Finding]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    yield True, f"Python {platform.python_version()}"
    for package in _PACKAGES:
        try:
            found = version(package)
        except PackageNotFoundError:
            yield False, f"{package} is not installed; type: python -m pip install {package}"
            continue
        least = _LEAST.get(package, (0, 0))
        new_enough = tuple(int(part) for part in found.split("+")[0].split(".")[:2]) >= least
        hint = "" if new_enough else f", but at least {least[0]}.{least[1]} is needed; type: pip install -U {package}"
        yield new_enough, f"{package} {found}{hint}"


def _devices() -> Iterator[Finding]:
    import os

    import torch

    yield True, f"{os.cpu_count()} CPU cores"
    if not torch.cuda.is_available():
        yield True, "no CUDA device: trainings run on the CPU"
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        yield True, f"cuda:{i} {properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def _ray() -> Iterator[Finding]:
    import logging

    import ray

    try:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
        answer = ray.get(ray.remote(num_cpus=1)(lambda: 1 + 1).remote(), timeout=60)
        yield (
            answer == 2,
            f"a local Ray started and ran a task on {ray.cluster_resources().get('CPU', 0):g} CPUs",
        )
    finally:
        ray.shutdown()


def _mlflow() -> Iterator[Finding]:
    import tempfile
    from pathlib import Path

    from metaopt.tracking import Point, load_runs, open_tracker

    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{Path(folder) / 'mlflow.db'}"
        tracker = open_tracker(uri, "doctor", Path(folder) / "spool")
        tracker.start_study(params={}, tags={})
        tracker.start_trial("doctor-0", name="doctor", params={}, tags={})
        tracker.log("doctor-0", [Point(key="answer", value=42.0, step=0, timestamp_ms=0)])
        left = tracker.close(60.0)
        back = [] if left else load_runs(uri, "doctor")
        ok = bool(back) and back[0].get("metrics.answer") == 42.0
        yield (
            ok,
            "a number went into an SQLite store and came back" if ok else f"{left} events were not delivered",
        )


def _disk() -> Iterator[Finding]:
    import shutil
    import tempfile
    from pathlib import Path

    from metaopt.metrics import default_cache_dir

    for what, path in (("here", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(path).free / 2**30
        hint = "" if free >= _LEAST_FREE_GB else f"; at least {_LEAST_FREE_GB:g} GB are needed: {_HINTS['_disk']}"
        yield free >= _LEAST_FREE_GB, f"{free:.1f} GB free for {what} ({path}){hint}"
    yield True, f"cache of real-image statistics: {default_cache_dir()}"


_HINTS = {
    "_devices": "PyTorch does not start; type: python -m pip install --force-reinstall torch torchvision",
    "_ray": "Ray does not start; end old ones with `ray stop`, or type: python -m pip install -U 'ray[tune]'",
    "_mlflow": "MLflow does not take numbers; type: python -m pip install -U mlflow",
    "_disk": "make room, or choose another folder with --out, TMPDIR and METAOPT_CACHE",
}

_CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "versions": _versions,
    "devices": _devices,
    "ray": _ray,
    "mlflow": _mlflow,
    "disk": _disk,
}
