"""`metaopt doctor`: is everything there, and if not, what to type."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated

import typer

from metaopt.errors import ConfigError

_LEAST = {"torch": (2, 11), "ray": (2, 54), "optuna": (5, 0), "mlflow": (3, 14)}
_PACKAGES = ("metaopt", "torch", "torchvision", "ray", "optuna", "mlflow", "pandas", "numpy")
_ALIKE = ("ray", "torch", "optuna")  # with Python and metaopt: what the nodes of a cluster must have in common
_LEAST_FREE_GB = 2.0
_PATIENCE_S = 120.0


def doctor(
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="HOST:PORT", help="Ask each node of that Ray cluster for its versions."),
    ] = None,
) -> None:
    """Check versions, devices, Ray, MLflow and the disk; say what is wrong and what to type.

    With --address, the cluster takes the place of a Ray of this machine: each of its nodes must have the versions of
    Python, ray, torch, optuna and metaopt that are installed here.

    [bold]Examples[/bold]

      metaopt doctor
      metaopt doctor --address 10.0.0.5:6379
    """
    checks = dict(_CHECKS)
    if address is not None:
        checks["ray"] = partial(_cluster, *_host_and_port(address))
    failed = 0
    for name, check in checks.items():
        for ok, text in _tried(name, check):
            failed += not ok
            typer.echo(f"{'ok  ' if ok else 'BAD '} {name:<9} {text}")
    if failed:
        typer.echo(f"\n{failed} of the checks failed; the lines that begin with BAD say what to do.")
        raise typer.Exit(1)


Finding = tuple[bool, str]


def _tried(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # a check must not keep the others from running
        hint = _HINTS.get(name, "see the message")
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

    from metaopt.search.ray_start import on_loopback

    try:
        with on_loopback():
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
        answer = ray.get(ray.remote(num_cpus=1)(lambda: 1 + 1).remote(), timeout=60)
        yield (
            answer == 2,
            f"a local Ray started and ran a task on {ray.cluster_resources().get('CPU', 0):g} CPUs",
        )
    finally:
        ray.shutdown()


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"`--address` must be HOST:PORT, as in 10.0.0.5:6379, but got {address!r}")
    return host, int(port)


def _cluster(host: str, port: int) -> Iterator[Finding]:
    import logging
    import socket

    import ray

    address = f"{host}:{port}"
    # Ray takes these two for the address that other machines see, and ends the process if nothing answers there
    called = ray.util.get_node_ip_address() if host in ("localhost", "127.0.0.1") else host.strip("[]")
    try:
        socket.create_connection((called, port), timeout=10).close()
    except OSError as error:
        yield False, f"nothing answers at {called}:{port} ({error}); type on the head: ray status"
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        yield from _differences(address)
    except (ConnectionError, RuntimeError, ray.exceptions.AuthenticationError) as error:
        yield False, _refusal(address, error)
    finally:
        ray.shutdown()


def _refusal(address: str, error: Exception) -> str:
    reason = " ".join(str(error.__cause__ or error).split())
    if "ersion mismatch" in reason:
        return f"{address} refuses this client: {reason}; install here what cluster/versions.env says"
    if "InvalidAuthToken" in reason or "Token authentication" in reason:
        return (
            f"{address} refuses this client: the token is missing or wrong; copy the one that `ray get-auth-token` "
            "prints on the head to a FILE of yours and type: export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE"
        )
    return f"{address} takes no client from here: {reason[:300]}; type this on a node of the cluster"


def _differences(address: str) -> Iterator[Finding]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = _probe()
    here = probe()
    task = ray.remote(num_cpus=0, max_retries=0)(probe)
    nodes = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: str(node["NodeID"]))
    pinned = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    answers = [task.options(scheduling_strategy=pin).remote() for pin in pinned]
    yield True, f"{len(nodes)} nodes at {address}; this client has {_listed(here)}"
    for node, answer in zip(nodes, answers, strict=True):
        name = f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        try:
            there = ray.get(answer, timeout=_PATIENCE_S)
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:200]
            yield False, f"{name} ran no task: {reason}; see its logs in /tmp/ray/session_latest/logs"
            continue
        wrong = [what for what in here if there[what].split("+")[0] != here[what].split("+")[0]]
        for what in wrong:
            yield False, f"{name} has {what} {there[what]}, but this client has {here[what]}; {_remedy(what, here)}"
        if not wrong:
            yield True, f"{name} agrees"


def _probe() -> Callable[[], dict[str, str]]:
    packages = _ALIKE

    def versions() -> dict[str, str]:  # local, so that Ray sends it whole: the other metaopt may not have it
        import platform
        from importlib.metadata import PackageNotFoundError, version

        found = {"Python": platform.python_version(), "metaopt": "none"}
        for package in packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = "none"
        try:
            import metaopt

            found["metaopt"] = str(metaopt.__version__)
        except ImportError:
            pass
        return found

    return versions


def _remedy(what: str, here: dict[str, str]) -> str:
    version = here[what].split("+")[0]
    if what == "Python":
        return f"start Ray there with Python {version}, as PYTHON_VERSION of cluster/versions.env says"
    if what == "metaopt":
        return f"type there, in a checkout of metaopt {version}: python -m pip install . (and restart Ray)"
    return f"type there: python -m pip install '{what}=={version}' (and restart Ray)"


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{what} {version}" for what, version in versions.items())


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
        hint = "" if free >= _LEAST_FREE_GB else f"; at least {_LEAST_FREE_GB:g} GB are needed: {_HINTS['disk']}"
        yield free >= _LEAST_FREE_GB, f"{free:.1f} GB free for {what} ({path}){hint}"
    yield True, f"cache of real-image statistics: {default_cache_dir()}"


_HINTS = {
    "devices": "PyTorch does not start; type: python -m pip install --force-reinstall torch torchvision",
    "ray": "Ray does not start; end old ones with `ray stop`, or type: python -m pip install -U 'ray[tune]'",
    "mlflow": "MLflow does not take numbers; type: python -m pip install -U mlflow",
    "disk": "make room, or choose another folder with --out, TMPDIR and METAOPT_CACHE",
}

_CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "versions": _versions,
    "devices": _devices,
    "ray": _ray,
    "mlflow": _mlflow,
    "disk": _disk,
}
