"""What a study costs as it grows: time, memory, disk, MLflow rows, open files and logs; and stock Ray Tune beside it.

    python benchmarks/scale.py --sizes 100 1000 5000 --stock 1000 --out scale.json
    python benchmarks/scale.py --show --out scale.json

Each trial is one training of a fraction of a second (an MLP GAN on 8x8 digits: 40 iterations and four FIDs of 100
samples on one thread), as many at once as there are cores, through `metaopt search` as a user types it. The stock way
is a Ray Tune function trainable with OptunaSearch and MLflowLoggerCallback around a hand-written loop of as many
iterations and FIDs, ended once it has taken three times as long as metaopt did for as many trials, where the file has
that; it counts with those it has finished. A part that has ended is in the file of `--out` at once, so that parts can
be run apart, and a long run read later.
"""

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from overhead import EVALUATIONS, WORKERS
from watched import Watched, watched

ITERATIONS, N_SAMPLES = 40, 100
NAME = "scale"
METAOPT = (sys.executable, "-m", "metaopt.cli.main")
_MB = 2**20
_SENT = 20 * _MB
_TABLES = ("metrics", "params", "tags", "runs")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A study of one size, run in one way."""

    way: str
    """`metaopt` or `stock`, or why `trials` are fewer than were asked for."""
    trials: int
    wall_s: float
    """Of the whole command, start-up and delivery to MLflow included."""
    late_s: float
    """Of a `metaopt sync` after it, for what it did not deliver within its minute."""
    training_s: float
    """Inside one training, median."""
    driver_mb: float
    """Resident memory of the driver, the most that was seen; so are all of processes."""
    driver_private_mb: float
    """The same without pages of files."""
    ray_mb: float
    """Of Ray's own processes together; pages that they share count in each of them."""
    driver_cpu_s: float
    """Seconds of a core that the driver took, delivery to MLflow included."""
    driver_fds: float
    ray_fds: float
    processes: float
    """Of workers, at once."""
    log_files: int
    """In the folder of Ray's session, at the end."""
    log_mb: float
    files: int
    """In the study's folder."""
    disk_mb: float
    """Of the study's folder, MLflow's SQLite file and the artifacts included; sizes of files, not of blocks."""
    store_mb: float
    """Of it, MLflow's or stock Optuna's SQLite files."""
    artifacts_mb: float
    trials_mb: float
    spool_mb: float
    journal_mb: float
    rows: int
    """Of MLflow's tables of metrics, params, tags and runs."""
    metric_rows: int
    sending_rows_per_s: float = 0.0
    """By the sender alone, of the first 20 MB that the study has spooled, to a fresh store."""
    read_s: float = 0.0
    """To read all trials out of Optuna's journal."""
    runs_s: float = 0.0
    """To read all runs out of MLflow and to rank them, median of three."""
    compare_s: float = 0.0
    """`metaopt compare`, as a process."""
    report_s: float = 0.0
    """`metaopt report`, as a process."""
    over_time: Sequence[Mapping[str, Any]] = field(default=(), repr=False)


def run_metaopt(n: int, folder: Path) -> Measured:
    """`metaopt search` on a study of `n` trials, and what reads it afterwards."""
    from metaopt.search.optuna_space import read_rows

    study, out = folder / "scale.yaml", folder / "study"
    study.write_text(json.dumps(_study(n)), encoding="utf-8")
    seen = watched([*METAOPT, "search", study, "--out", out], folder / "search.log")
    late_s = _timed([*METAOPT, "sync", "--study", out]) if _waits(out) else 0.0
    began = time.perf_counter()
    rows = read_rows(out, NAME)
    read_s = time.perf_counter() - began
    training_s = statistics.median(row.verdict.wall_s for row in rows if row.verdict)
    compare_s = _timed([*METAOPT, "compare", out])
    report_s = _timed([*METAOPT, "report", "--study", out, "--out", folder / "report"])
    further = {"read_s": read_s, "runs_s": _runs(out), "compare_s": compare_s, "report_s": report_s}
    further["sending_rows_per_s"] = _sending(out, folder)
    return _measured("metaopt", n, seen, out, out / "mlflow.db", late_s=late_s, training_s=training_s, **further)


def _study(n: int) -> dict[str, Any]:
    return {
        "format": "metaopt.study/1",
        "name": NAME,
        "evaluations": EVALUATIONS,
        "tasks": [{"data": "digits", "budget": ITERATIONS, "n_samples": N_SAMPLES}],
        "schedule": {"family": "constant", "ranges": {"lr_g": {"low": 1e-4, "high": 1e-2}, "update_ratio": 1.0}},
        "search": {"trials": n, "workers": WORKERS},
    }


_LIMIT = 3
"""Times what metaopt took, after which the stock way is ended."""


def run_stock(n: int, folder: Path, limit_s: float | None) -> Measured:
    """The glue that one would write, in a process of its own."""
    out, result = folder / "stock", folder / "stock.json"
    out.mkdir()
    code = (
        "import json, os, sys; sys.path.insert(0, sys.argv[1]); os.environ['PYTHONPATH'] = sys.argv[1]; "
        "from pathlib import Path; from overhead import run_stock; "
        f"found = run_stock({n}, Path(sys.argv[2]), {ITERATIONS}, {N_SAMPLES}); "
        "Path(sys.argv[3]).write_text(json.dumps(found.training_s))"
    )
    seen = watched([sys.executable, "-c", code, Path(__file__).parent, out, result], folder / "stock.log", limit_s)
    store = out / "stock.db"
    if seen.whole:
        training_s = statistics.median(json.loads(result.read_text(encoding="utf-8")))
        return _measured("stock", n, seen, out, store, late_s=0.0, training_s=training_s)
    with sqlite3.connect(store) as database:
        (done,) = database.execute("select count(*) from runs where status = 'FINISHED'").fetchone()
    way = f"stock, ended early: of {n:,},"
    return _measured(way, done, seen, out, store, late_s=0.0, training_s=0.0)


def _measured(way: str, n: int, seen: Watched, out: Path, store: Path, **further: float) -> Measured:
    rows = _rows(store)
    return Measured(
        way=way,
        trials=n,
        wall_s=seen.wall_s,
        driver_mb=seen.peak("driver", "rss_mb"),
        driver_private_mb=seen.peak("driver", "private_mb"),
        ray_mb=seen.peak("ray", "rss_mb"),
        driver_cpu_s=seen.peak("driver", "cpu_s"),
        driver_fds=seen.peak("driver", "fds"),
        ray_fds=seen.peak("ray", "fds"),
        processes=seen.peak("workers", "n"),
        log_files=seen.looks[-1].log_files,
        log_mb=seen.looks[-1].log_bytes / _MB,
        files=sum(file.is_file() for file in out.rglob("*")),
        disk_mb=_size_mb(out, "**/*"),
        store_mb=_size_mb(out, "*.db*"),
        artifacts_mb=_size_mb(out, "mlartifacts/**/*"),
        trials_mb=_size_mb(out, "trials/**/*"),
        spool_mb=_size_mb(out, "spool/*"),
        journal_mb=_size_mb(out, "*.journal"),
        rows=sum(rows.values()),
        metric_rows=rows["metrics"],
        over_time=seen.over_time(),
        **further,
    )


def _size_mb(folder: Path, pattern: str) -> float:
    return sum(file.stat().st_size for file in folder.glob(pattern) if file.is_file()) / _MB


def _rows(store: Path) -> dict[str, int]:
    with sqlite3.connect(store) as database:
        return {table: database.execute(f"select count(*) from {table}").fetchone()[0] for table in _TABLES}


def _waits(out: Path) -> bool:
    """Whether the spool holds what MLflow has not yet."""
    spool = out / "spool" / "events.jsonl"
    note = spool.with_name(spool.name + ".ack")
    return not note.exists() or json.loads(note.read_text(encoding="utf-8"))["offset"] < spool.stat().st_size


def _timed(command: Sequence[object]) -> float:
    began = time.perf_counter()
    subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _sending(out: Path, folder: Path) -> float:
    """Rows a second that go to a store which has nothing yet, while nothing else is done."""
    from metaopt.tracking import open_tracker
    from metaopt.tracking.mlflow_connect import connect

    spool = folder / "fresh" / "spool"
    spool.mkdir(parents=True)
    events = (out / "spool" / "events.jsonl").read_bytes()[:_SENT]
    (spool / "events.jsonl").write_bytes(events[: events.rindex(b"\n") + 1])
    store = spool.parent / "mlflow.db"
    connect(f"sqlite:///{store}")
    began = time.perf_counter()
    open_tracker(f"sqlite:///{store}", NAME, spool).close(timeout_s=100_000)
    return sum(_rows(store).values()) / (time.perf_counter() - began)


def _runs(out: Path) -> float:
    """Median of three, after one that loads MLflow."""
    from metaopt.analysis.runs import study_runs

    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        study_runs(f"sqlite:///{(out / 'mlflow.db').absolute()}", NAME).sort_values("score")
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


SHOWN: Mapping[str, tuple[str, str]] = {
    "trials per second": ("trials_per_s", "{:.2f}"),
    "wall, s": ("total_s", "{:.0f}"),
    "one training, s": ("training_s", "{:.3f}"),
    "driver, core seconds": ("driver_cpu_s", "{:.0f}"),
    "driver, MiB resident": ("driver_mb", "{:.0f}"),
    "driver, MiB private": ("driver_private_mb", "{:.0f}"),
    "Ray's own processes, MiB": ("ray_mb", "{:.0f}"),
    "driver, open files": ("driver_fds", "{:.0f}"),
    "Ray, open files": ("ray_fds", "{:.0f}"),
    "worker processes": ("processes", "{:.0f}"),
    "Ray's log files": ("log_files", "{:.0f}"),
    "Ray's logs, MiB": ("log_mb", "{:.1f}"),
    "study, files": ("files", "{:.0f}"),
    "study, MiB on disk": ("disk_mb", "{:.1f}"),
    "of them MLflow's SQLite file": ("store_mb", "{:.1f}"),
    "its artifacts": ("artifacts_mb", "{:.1f}"),
    "the folders of the trials": ("trials_mb", "{:.1f}"),
    "the spool": ("spool_mb", "{:.1f}"),
    "Optuna's journal": ("journal_mb", "{:.2f}"),
    "MLflow, rows": ("rows", "{:.0f}"),
    "MLflow, rows per second": ("rows_per_s", "{:.0f}"),
    "sender alone, rows per second": ("sending_rows_per_s", "{:.0f}"),
    "read Optuna's journal, s": ("read_s", "{:.2f}"),
    "all runs out of MLflow, s": ("runs_s", "{:.2f}"),
    "`metaopt compare`, s": ("compare_s", "{:.1f}"),
    "`metaopt report`, s": ("report_s", "{:.1f}"),
}
"""Row of the table -> what it shows, and how."""
_RATES = ("trials_per_s", "rows_per_s", "sending_rows_per_s", "training_s")


def values(found: Measured) -> dict[str, float]:
    """All numbers of a study, with those that follow from them."""
    total_s = found.wall_s + found.late_s
    numbers = {key: value for key, value in asdict(found).items() if isinstance(value, int | float)}
    return numbers | {
        "total_s": total_s,
        "trials_per_s": found.trials / total_s,
        "rows_per_s": found.rows / total_s,
    }


def table(found: Sequence[Measured]) -> str:
    """One column a study, then what each further trial adds from one size of metaopt's to the next."""
    ours = sorted((one for one in found if one.way == "metaopt"), key=lambda one: one.trials)
    columns = [*ours, *(one for one in found if one.way != "metaopt")]
    pairs = list(pairwise(ours))
    head = [f"{one.way} {one.trials:,}" for one in columns] + [f"per trial to {b.trials:,}" for _, b in pairs]
    lines = ["| | " + " | ".join(head) + " |", "| --- |" + " ---: |" * len(head)]
    for label, (key, shown) in SHOWN.items():
        cells = [shown.format(values(one)[key]) if values(one)[key] else "" for one in columns]
        for a, b in pairs:
            added = (values(b)[key] - values(a)[key]) / (b.trials - a.trials)
            cells.append("" if key in _RATES else f"{added:.3g}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def load(file: Path) -> list[Measured]:
    """The parts that a file holds."""
    return [Measured(**one) for one in json.loads(file.read_text(encoding="utf-8"))] if file.exists() else []


def main() -> None:
    """Run the parts asked for, in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1_000, 5_000], help="trials, through metaopt")
    parser.add_argument("--stock", type=int, nargs="*", default=[1_000], help="trials, the stock way")
    parser.add_argument("--out", type=Path, default=Path("scale.json"), help="is added to")
    parser.add_argument("--show", action="store_true", help="print what the file holds, run nothing")
    arguments = parser.parse_args()
    parts = [] if arguments.show else [("metaopt", n) for n in arguments.sizes]
    parts += [] if arguments.show else [("stock", n) for n in arguments.stock]
    for way, n in parts:
        found = load(arguments.out)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            if way == "metaopt":
                found.append(run_metaopt(n, Path(folder)))
            else:
                ours = [_LIMIT * one.wall_s for one in found if (one.way, one.trials) == ("metaopt", n)]
                found.append(run_stock(n, Path(folder), min(ours, default=None)))
        arguments.out.write_text(json.dumps([asdict(one) for one in found]), encoding="utf-8")
        print(table(found), flush=True)
    if arguments.show:
        print(table(load(arguments.out)))


if __name__ == "__main__":
    main()
