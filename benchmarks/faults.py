"""The same faults beside each other: stock Ray Tune with OptunaSearch and MLflowLoggerCallback, and `metaopt search`.

    python benchmarks/faults.py

A search of short GAN trainings on 8x8 digits, two at once, with its numbers going to an MLflow server, meets one fault:

- none: what the others are to be compared with
- worker: one of its training processes is killed (SIGKILL); the stock search may try a trial again (max_failures=1)
- memory: another program takes so much memory for half a second that Ray's watch ends training processes
- NaN: learning rates up to 10, with which many trainings diverge
- server: the MLflow server is killed, and started again 45 s later
- no server: it is killed, and never comes back
- driver: all of its processes are killed after some trials, and it is begun again (`Tuner.restore`, `--resume`)

Printed for each, when the search has ended: trials asked for; those without a final FID in MLflow though they did not
diverge or collapse ("lost"); MLflow runs beyond one a trial, and points that are there twice ("doubled"); trials that
Optuna has as RUNNING, and runs that MLflow has so; the longest time in which no training reported ("stalled"), which
after a kill of the driver is the time until the first report of a trial; and the seconds of the whole ("wall"). Where
no server comes back, it is started when the search has ended, and metaopt's numbers are sent by `metaopt sync`.
"""

import argparse
import itertools
import json
import math
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ITERATIONS = 600
AWAY_S = 45.0
FAULTS = ("none", "worker", "memory", "NaN", "server", "no server", "driver")
_EATER = """
import sys, time
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory
held = []
while get_used_memory() < float(sys.argv[1]) * get_system_memory() + 2**28:
    held.append(b"x" * 2**27)
time.sleep(0.5)  # Ray looks four times a second
"""
_RUNS = "select t.value, r.status, r.run_uuid from runs r join tags t using (run_uuid) where t.key = ?"
_DOUBLED_POINTS = "select count(*) from (select 1 from metrics group by run_uuid, key, step having count(*) > 1)"


class Server:
    """An MLflow server on loopback over an SQLite file, in a group of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.database, self.uri = folder / "mlflow.db", f"http://127.0.0.1:{port}"
        where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        stores = ["--backend-store-uri", f"sqlite:///{self.database}", "--artifacts-destination", str(folder / "art")]
        self._command = [sys.executable, "-m", "mlflow", "server", *where, *stores]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers."""
        env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(self._command, env=env, start_new_session=True, **silent)  # type: ignore[call-overload]
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)

    def kill(self) -> None:
        """At once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a search has left."""

    lost: int
    doubled_runs: int
    doubled_points: int
    zombies_optuna: int
    zombies_mlflow: int
    stalled_s: float
    wall_s: float
    code: int | None


def stock(folder: Path, trials: int, uri: str, high: float) -> None:
    """The stock search, as its documentation shows it; begun again, it restores itself."""
    import optuna
    import ray
    from overhead import bare_training
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    def trainable(config: dict[str, float]) -> None:
        for record in bare_training(config["lr_g"], config["lr_d"], 0, ITERATIONS):
            finite = math.isfinite(record["loss_g"] + record["loss_d"])
            with (folder / "reports").open("a") as reports:
                reports.write(f"{time.time()} {finite}\n")
            tune.report(record if finite else record | {"fid": math.nan})
        with (folder / "ended").open("a") as ended:
            ended.write(f"{finite}\n")

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'optuna.db'}")
    resources = tune.with_resources(trainable, {"cpu": 1})
    kept = str(folder / "ray" / "stock")
    if tune.Tuner.can_restore(kept):
        tuner = tune.Tuner.restore(kept, resources, resume_unfinished=True, resume_errored=True)
    else:
        tuner = tune.Tuner(
            resources,
            param_space={"lr_g": tune.loguniform(1e-4, high), "lr_d": tune.loguniform(1e-4, high)},
            tune_config=tune.TuneConfig(
                metric="fid",
                mode="min",
                search_alg=OptunaSearch(study_name="stock", storage=storage, seed=1),
                num_samples=trials,
                max_concurrent_trials=2,
            ),
            run_config=tune.RunConfig(
                name="stock",
                storage_path=str(folder / "ray"),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=1),
                callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name="stock")],
            ),
        )
    tuner.fit()


def _study(trials: int, high: float) -> dict[str, object]:
    rates = {"low": 1e-4, "high": high}
    return {
        "name": "ours",
        "evaluations": 3,
        "tasks": [{"data": "digits", "budget": ITERATIONS}],
        "schedule": {"family": "constant", "ranges": {"lr_g": rates, "lr_d": rates, "update_ratio": 1.0}},
        "search": {"trials": trials, "workers": 2, "seed": 1},
    }


class Side:
    """One of the two searches: how it is begun, how far it is, and what it has left."""

    def __init__(self, name: str, folder: Path, server: Server, trials: int, high: float) -> None:
        self.name, self.folder, self.server, self.trials = name, folder, server, trials
        self._high, self._out = high, folder / "ours"
        self.memory_limit: float | None = None
        """Share of the machine's memory above which Ray ends processes; None: Ray's own."""

    def begin(self) -> "subprocess.Popen[bytes]":
        """Begin, or go on."""
        if self.name == "stock":
            where = ["--stock", str(self.folder), "--trials", str(self.trials), "--uri", self.server.uri]
            command = [sys.executable, __file__, *where, "--high", str(self._high)]
        else:
            study = self.folder / "ours.yaml"
            study.write_text(json.dumps(_study(self.trials, self._high)))
            search = ["search", str(study), "--out", str(self._out), "--resume"]
            command = [sys.executable, "-m", "metaopt.cli.main", *search]
        env = os.environ | {"MLFLOW_TRACKING_URI": self.server.uri, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
        if self.memory_limit is not None:
            env["RAY_memory_usage_threshold"] = f"{self.memory_limit:.4f}"
        log = (self.folder / "log").open("ab")
        return subprocess.Popen(command, env=env, stdout=log, stderr=log)

    def sync(self) -> None:
        """Send what waits, where anything does."""
        if self.name == "ours":
            command = [sys.executable, "-m", "metaopt.cli.main", "sync", "--study", str(self._out)]
            env = os.environ | {"MLFLOW_TRACKING_URI": self.server.uri}
            subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)

    def n_ended(self) -> int:
        """Trials that have ended."""
        if self.name == "stock":
            ended = self.folder / "ended"
            return len(ended.read_text().splitlines()) if ended.exists() else 0
        from metaopt.search.optuna_space import read_rows

        return sum(row.verdict is not None for row in read_rows(self._out, "ours")) if self._out.exists() else 0

    def left(self, wall_s: float, code: int | None) -> Outcome:
        """What can be counted once it has ended."""
        marker = "metaopt.trial_uid" if self.name == "ours" else "trial_name"
        key, final = ("digits/fid", "score") if self.name == "ours" else ("fid", "fid")
        with sqlite3.connect(self.server.database) as store:
            runs = store.execute(_RUNS, (marker,)).fetchall()
            (doubled,) = store.execute(_DOUBLED_POINTS).fetchone()
            known = store.execute(
                "select run_uuid, count(*) from metrics where key = ? and not is_nan group by run_uuid", (key,)
            ).fetchall()
            ended = {run for (run,) in store.execute("select run_uuid from metrics where key = ?", (final,))}
        n_points = 4 if self.name == "ours" else 3  # ours has one before the first update
        complete = {run for run, n in known if n >= n_points} & ended
        trials = {trial for trial, _, _ in runs}
        whole = {trial for trial, _, run in runs if run in complete}
        diverged, zombies = self._diverged_and_running(whole)
        return Outcome(
            lost=max(0, self.trials - len(whole) - diverged),
            doubled_runs=len(runs) - len(trials),
            doubled_points=doubled,
            zombies_optuna=zombies,
            zombies_mlflow=sum(status == "RUNNING" for _, status, _ in runs),
            stalled_s=self._longest_gap(),
            wall_s=wall_s,
            code=code,
        )

    def _diverged_and_running(self, whole: Set[str]) -> tuple[int, int]:
        """Trials besides the `whole` ones that ended by themselves before their last point, and those left running."""
        import optuna

        if self.name == "stock":
            ended = (self.folder / "ended").read_text().split()
            study = optuna.load_study(study_name="stock", storage=f"sqlite:///{self.folder / 'optuna.db'}")
            return ended.count("False"), sum(trial.state.name == "RUNNING" for trial in study.trials)
        from metaopt.search.optuna_space import read_rows

        rows = read_rows(self._out, "ours")
        early = [row.number for row in rows if row.verdict and row.verdict.status in ("diverged", "collapsed")]
        diverged = len(set(early) - {int(trial[-5:]) for trial in whole})
        return diverged, sum(row.state == "RUNNING" for row in rows)

    def _longest_gap(self) -> float:
        if self.name == "stock":
            times = sorted(float(line.split()[0]) for line in (self.folder / "reports").read_text().splitlines())
        else:
            with sqlite3.connect(self.server.database) as store:
                stamps = store.execute("select distinct timestamp from metrics where key != 'wall_s'")
                times = sorted(stamp / 1000 for (stamp,) in stamps)
        return max((later - before for before, later in itertools.pairwise(times)), default=0.0)


def _wait(side: Side, process: "subprocess.Popen[bytes]", n: int) -> None:
    while side.n_ended() < n and process.poll() is None:
        time.sleep(0.1)


def _kill_worker(side: Side, process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    for one in _training(process)[:1]:
        with suppress(psutil.NoSuchProcess):  # it has just ended
            one.kill()
    return process


def _half_of_what_is_free() -> float:
    from ray._common.utils import get_system_memory
    from ray._private.utils import get_used_memory

    return float(get_used_memory() / get_system_memory() + 1) / 2


def _eat(side: Side, process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    if _training(process):
        subprocess.run([sys.executable, "-c", _EATER, str(side.memory_limit)], check=True)
    process.wait()
    if not re.search("out ?of ?memory", (side.folder / "log").read_text(errors="replace"), re.IGNORECASE):
        sys.exit("Ray's watch over memory has ended nobody.")
    return process


def _training(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The processes that train, as soon as there are any."""
    while process.poll() is None:
        below = psutil.Process(process.pid).children(recursive=True)
        if found := [one for one in below if _trains(one)]:
            return found
    return []


def _trains(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):  # it has just ended
        return process.name().startswith("ray::") and "train" in process.name()
    return False


def _away(side: Side, process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    side.server.kill()
    time.sleep(AWAY_S)
    side.server.start()
    return process


def _gone(side: Side, process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    side.server.kill()
    return process


def _kill_driver(side: Side, process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        one.kill()
    process.wait()
    return side.begin()


_ACTS: dict[str, Callable[[Side, "subprocess.Popen[bytes]"], "subprocess.Popen[bytes]"]] = {
    "none": lambda side, process: process,
    "worker": _kill_worker,
    "memory": _eat,
    "NaN": lambda side, process: process,
    "server": _away,
    "no server": _gone,
    "driver": _kill_driver,
}


def measured(name: str, fault: str, trials: int, folder: Path) -> Outcome:
    """One search with one fault, in a new folder."""
    folder.mkdir(parents=True)
    server = Server(folder)
    side = Side(name, folder, server, trials, 10.0 if fault == "NaN" else 1e-2)
    if fault == "memory":
        side.memory_limit = _half_of_what_is_free()
    server.start()
    started = time.monotonic()
    try:
        process = side.begin()
        _wait(side, process, trials // 4)
        process = _ACTS[fault](side, process)
        try:
            process.wait(600)
        except subprocess.TimeoutExpired:  # it hangs
            _kill_driver(side, process).kill()
        wall_s = time.monotonic() - started
        if fault == "no server":
            server.start()
            side.sync()
        return side.left(wall_s, process.returncode)
    finally:
        server.kill()


def main() -> None:
    """Run each fault on each side, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--sides", nargs="+", choices=("stock", "ours"), default=["stock", "ours"])
    for name in ("--stock", "--uri", "--high"):  # of the stock search, in a process of its own
        parser.add_argument(name, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stock:
        stock(Path(given.stock), given.trials, given.uri, float(given.high))
        return
    columns = ["fault", "search", "trials", "lost", "doubled runs", "doubled points", "RUNNING in Optuna", "in MLflow"]
    print(f"| {' | '.join([*columns, 'stalled', 'wall'])} |\n{'| --- ' * 10}|", flush=True)
    for fault in given.faults:
        for name in given.sides:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                found = measured(name, fault, given.trials, Path(folder) / name)
                ended = "" if found.code == 0 else f" (exit code {found.code})"
                counts = [found.lost, found.doubled_runs, found.doubled_points, found.zombies_optuna]
                times = [f"{found.stalled_s:.0f} s", f"{found.wall_s:.0f} s"]
                cells = [fault, name + ended, given.trials, *counts, found.zombies_mlflow, *times]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
