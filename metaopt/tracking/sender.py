"""A tracker that writes to a spool at once and lets a thread of its own deliver to the store behind it."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from metaopt.tracking.curves import CurveFilter
from metaopt.tracking.events import Artifact, EndStudy, EndTrial, Event, Log, StartStudy, StartTrial
from metaopt.tracking.redact import redacted
from metaopt.tracking.spool import Spool
from metaopt.tracking.types import Point, Status, Value

THREAD_NAME = "metaopt-tracking"
PERIOD_S = 1.0
"""Deliveries begin at most this often, so that points travel in batches."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Between attempts while the store does not answer; doubled each time."""
GIVE_UP_S = 600.0
"""How long one event is tried whose failure may lie in the event as well as in the store."""

log = logging.getLogger(__name__)


class RefusedError(Exception):
    """The store will never take this event."""


class NotReadyError(Exception):
    """The store cannot be reached or is not ready: the event waits for it as long as it takes."""


class Sink(Protocol):
    """Where events are delivered to."""

    def deliver(self, event: Event) -> None:
        """Store one event; storing it again changes nothing.

        Final metrics of ended runs come before as a `Log`. ``Log.uid`` None means the parent run.

        Raises:
            RefusedError: never to be tried again.
            NotReadyError: to be tried again without end.
            Exception: whose fault it is cannot be told; tried again for `GIVE_UP_S` seconds.
        """


class SpooledTracker:
    """The `Tracker` of a search: calls cost one write to a local file, whatever the store does.

    Takes the spool over and closes it. What an earlier process left in the spool is delivered first.
    """

    def __init__(self, spool: Spool, sink: Sink) -> None:
        self.error: Exception | None = None
        """The first error of the spool's disk (full, say), or what ended the sender; for the driver."""
        self._spool = spool
        self._sink = sink
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._stopped = threading.Event()
        self._closing_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def start_study(self, *, params: Mapping[str, Value], tags: Mapping[str, str]) -> None:
        """See `Tracker`."""
        self._append(StartStudy(time_ms=_now_ms(), params=params, tags=tags))

    def start_trial(self, uid: str, *, name: str, params: Mapping[str, Value], tags: Mapping[str, str]) -> None:
        """See `Tracker`."""
        self._append(StartTrial(time_ms=_now_ms(), uid=uid, name=name, params=params, tags=tags))

    def log(self, uid: str, metrics: Sequence[Point]) -> None:
        """See `Tracker`."""
        if metrics:
            self._append(Log(uid=uid, points=tuple(metrics)))

    def log_artifact(self, uid: str | None, path: Path, folder: str = "") -> None:
        """See `Tracker`."""
        self._append(Artifact(uid=uid, path=str(path.absolute()), folder=folder))

    def end_trial(
        self,
        uid: str,
        *,
        status: Status,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        time_ms: int | None = None,
    ) -> None:
        """See `Tracker`."""
        self._append(EndTrial(time_ms=time_ms or _now_ms(), uid=uid, status=status, metrics=metrics, tags=tags))

    def end_study(self, *, status: Status, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """See `Tracker`."""
        self._append(EndStudy(time_ms=_now_ms(), status=status, metrics=metrics, tags=tags))

    def close(self, timeout_s: float) -> int:
        """See `Tracker`. What is left stays in the spool; the next tracker on it delivers it."""
        with self._closing_lock:
            self._closing.set()
            self._wake.set()
            self._thread.join(timeout_s)
            self._stopped.set()
            # a thread between two attempts ends at once; one that hangs in a request closes the spool later
            self._thread.join(0.5)
            if not self._thread.is_alive():
                self._guarded(self._spool.close)
            return self._spool.n_pending()

    def _append(self, event: Event) -> None:
        if self._closing.is_set():
            log.warning("ignored an event that came after the tracker was closed: %.200r", event)
            return
        try:
            self._spool.append(event)
        except OSError as error:
            self._note(error)
        except Exception as error:
            log.warning("ignored an event with a field of a wrong type: %.200r: %r", event, error)
        self._wake.set()

    def _note(self, error: Exception) -> None:
        if self.error is None:
            log.warning("tracking to %s fails: %r", self._spool.path, error)
            self.error = error

    def _guarded(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self._note(error)

    def _run(self) -> None:
        try:
            self._deliver_all()
        except Exception as error:
            log.exception("delivery ended; events are kept in %s", self._spool.path)
            self._note(error)
        if self._stopped.is_set():
            self._guarded(self._spool.close)

    def _deliver_all(self) -> None:
        curves = self._recalled()
        while not self._stopped.is_set():
            self._guarded(self._spool.sync)
            closing = self._closing.is_set()
            self._wake.clear()
            events, end = self._spool.read(self._spool.acknowledged)
            if end > self._spool.acknowledged:
                if not all(self._delivered(event) for event in curves.reduce(events)):
                    return
                self._guarded(partial(self._spool.acknowledge, end))
                self._closing.wait(0.0 if closing else PERIOD_S)
            elif closing:
                return
            else:
                self._wake.wait()

    def _recalled(self) -> CurveFilter:
        curves, offset, stop = CurveFilter(), self._spool.start, self._spool.acknowledged
        while offset < stop and not self._stopped.is_set():
            events, offset = self._spool.read(offset, stop)
            for _ in curves.reduce(events):
                pass
        return curves

    def _delivered(self, event: Event) -> bool:
        """Deal with the event for good; False if the tracker was stopped before that."""
        pause_s, began = FIRST_PAUSE_S, time.monotonic()
        warned = False
        while (error := self._attempt(event)) is not None:
            patient = isinstance(error, NotReadyError) or time.monotonic() - began < GIVE_UP_S
            if isinstance(error, RefusedError) or not patient:
                log.warning("the tracking store refuses %.200r: %s", event, redacted(str(error)))
                return True
            if not warned:
                log.warning("tracking store not ready, numbers wait in %s: %s", self._spool.path, redacted(str(error)))
                warned = True
            if not self._paused(pause_s):
                return False
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        if warned:
            log.warning("tracking store is ready again")
        return True

    def _attempt(self, event: Event) -> Exception | None:
        try:
            self._sink.deliver(event)
        except Exception as error:
            return error
        return None

    def _paused(self, seconds: float) -> bool:
        # closing ends a long pause early, for one more attempt; after it, pauses are short
        hurried = self._closing.is_set()
        until = time.monotonic() + (min(seconds, 1.0) if hurried else seconds)
        while (left_s := until - time.monotonic()) > 0 and not self._stopped.is_set():
            self._guarded(self._spool.sync)
            if (self._stopped if hurried else self._closing).wait(min(left_s, 1.0)):
                break
        return not self._stopped.is_set()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
