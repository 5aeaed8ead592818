"""A command under watch: memory, open files and log files of its driver, of Ray's own processes and of its workers."""

import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

PERIOD_S = 0.5
_SYSTEM = ("gcs_server", "raylet", "log_monitor.py", "dashboard", "agent", "monitor.py")
_MB = 2**20


@dataclass(frozen=True, kw_only=True)
class Group:
    """Processes of one kind at one moment, together."""

    n: int
    rss_mb: float
    """Resident; pages that processes share count in each of them."""
    private_mb: float
    """Resident and not a page of a file, such as PyTorch's libraries."""
    fds: int
    cpu_s: float
    """Seconds of a core so far."""

    def __add__(self, other: "Group") -> "Group":
        return Group(
            n=self.n + other.n,
            rss_mb=self.rss_mb + other.rss_mb,
            private_mb=self.private_mb + other.private_mb,
            fds=self.fds + other.fds,
            cpu_s=self.cpu_s + other.cpu_s,
        )


_NONE = Group(n=0, rss_mb=0.0, private_mb=0.0, fds=0, cpu_s=0.0)


@dataclass(frozen=True, kw_only=True)
class Look:
    """A command at one moment."""

    at_s: float
    groups: Mapping[str, Group]
    """`driver`, `ray` (its own processes) and `workers`, as far as there are any."""
    log_files: int
    """In Ray's session folder."""
    log_bytes: int


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What was seen of a command from its beginning to its end."""

    wall_s: float
    looks: Sequence[Look] = field(repr=False)
    whole: bool
    """Whether it came to its end, and not to its limit."""

    def peak(self, group: str, what: str) -> float:
        """The highest `what` (a field of `Group`) that a group has had; 0 if it never was."""
        return max((getattr(look.groups[group], what) for look in self.looks if group in look.groups), default=0)

    def over_time(self, n: int = 60) -> list[dict[str, object]]:
        """At most about `n` of the looks, evenly spaced, as plain values."""
        return [asdict(look) for look in self.looks[:: max(1, len(self.looks) // n)]]


def watched(command: Sequence[object], log: Path, limit_s: float | None = None) -> Watched:
    """Run a command to its end, or for `limit_s`, and look at it twice a second; its output goes to `log`.

    Raises:
        CalledProcessError: it failed; the end of what it said is printed.
    """
    looks: list[Look] = []
    ended = threading.Event()
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen([*map(str, command)], stdout=output, stderr=subprocess.STDOUT)
        watcher = threading.Thread(target=_watch, args=(psutil.Process(process.pid), looks, ended, started))
        watcher.start()
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
    wall_s = time.perf_counter() - started
    ended.set()
    watcher.join()
    if code is None:
        process.terminate()
        process.wait()
    elif code:
        print(log.read_text(encoding="utf-8", errors="replace")[-4000:])
        raise subprocess.CalledProcessError(code, [*map(str, command)])
    return Watched(wall_s=wall_s, looks=looks, whole=code is not None)


def _watch(driver: psutil.Process, looks: list[Look], ended: threading.Event, started: float) -> None:
    session: Path | None = None
    while not ended.wait(PERIOD_S):
        with suppress(psutil.Error):
            children = driver.children(recursive=True)
            session = session or _session(children)
            looks.append(_look(driver, children, session, time.perf_counter() - started))


def _look(driver: psutil.Process, children: Iterable[psutil.Process], session: Path | None, at_s: float) -> Look:
    groups: dict[str, Group] = {}
    for process in (driver, *children):
        with suppress(psutil.Error):
            kind = "driver" if process.pid == driver.pid else _kind(process)
            groups[kind] = groups.get(kind, _NONE) + _seen(process)
    logs = [file for file in (session / "logs").rglob("*") if file.is_file()] if session else []
    sizes = [_size(file) for file in logs]
    return Look(at_s=at_s, groups=groups, log_files=len(logs), log_bytes=sum(sizes))


def _seen(process: psutil.Process) -> Group:
    memory, cpu = process.memory_info(), process.cpu_times()
    return Group(
        n=1,
        rss_mb=memory.rss / _MB,
        private_mb=(memory.rss - memory.shared) / _MB,
        fds=process.num_fds(),
        cpu_s=cpu.user + cpu.system,
    )


def _kind(process: psutil.Process) -> str:
    if process.name().startswith("ray::"):
        return "workers"
    words = " ".join(process.cmdline()[:4])
    return "ray" if any(name in words for name in _SYSTEM) else "workers"


def _session(processes: Iterable[psutil.Process]) -> Path | None:
    """Ray's session folder, out of the command lines of its processes."""
    for process in processes:
        with suppress(psutil.Error):
            for word in process.cmdline():
                name, _, value = word.partition("=")
                if name.endswith(("session_dir", "session-dir")):
                    return Path(value)
    return None


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0
