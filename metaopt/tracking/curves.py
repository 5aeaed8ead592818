"""Which points of a curve go to the store: one value a step, and at most 2,500 of them.

The choice depends on the points alone, in their order, so a second reading of a spool chooses the same ones.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from itertools import islice

from metaopt.tracking.events import Artifact, EndStudy, EndTrial, Event, Log, StartStudy, StartTrial
from metaopt.tracking.types import Point

MAX_POINTS = 2_500
"""What the MLflow UI draws of one curve."""
_N_WHOLE = 1_500
_GAP_GROWTH = 100


def _kept_indices() -> Iterator[int]:
    index = 0
    while True:
        yield index
        index += 1 + max(0, index - _N_WHOLE) // _GAP_GROWTH


_KEPT = frozenset(islice(_kept_indices(), MAX_POINTS - 1))  # one place stays for the final value


@dataclass(slots=True)
class _Curve:
    n_seen: int = 0
    last_step: int = 0
    last_kept: tuple[int, float] | None = None


class CurveFilter:
    """Thins the curves of all runs of a study.

    The first 1,500 points of a curve are kept whole. From there on the gap grows by one for every 100 further
    points (1 % of the way since then), so that 2,499 kept points reach over one million. A step at or before
    the last one seen is a repeat and dropped. Final metrics become points too: at the last step of their
    curve, or at step 0 if they have none. The end of a trial that says what the one before has said is a repeat too: a
    resumed search closes all trials again.
    """

    def __init__(self) -> None:
        self._ended: dict[str, int] = {}
        """Trials that have ended, and a hash of how."""
        self._curves: dict[str | None, defaultdict[str, _Curve]] = {}
        """By run and key."""
        self._put_away: dict[str, str] = {}
        """Those of trials that have ended, which may begin again, as text, which takes a fraction of the memory."""

    def reduce(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events to deliver: points thinned and joined run by run, final metrics turned into points.

        Within one call, points of different runs may change places, and a run's points come after its files; other
        events of a run keep their order.
        """
        waiting: dict[str | None, list[Point]] = {}
        for event in events:
            uid = None if isinstance(event, StartStudy | EndStudy) else event.uid
            if self._repeated(event):
                continue
            points = waiting.setdefault(uid, [])
            if isinstance(event, Log):
                points.extend(self._chosen(uid, event.points))
                continue
            if isinstance(event, Artifact):  # that points wait for it saves a request at every evaluation
                yield event
                continue
            if isinstance(event, EndTrial | EndStudy):
                points.extend(self._finals(uid, event.metrics, event.time_ms))
            yield from _as_log(uid, waiting.pop(uid))
            if isinstance(event, EndTrial):
                self._put_away[event.uid] = _as_text(self._curves.pop(event.uid))
            yield replace(event, metrics={}) if isinstance(event, EndTrial | EndStudy) else event
        for uid, points in waiting.items():
            yield from _as_log(uid, points)

    def _repeated(self, event: Event) -> bool:
        if isinstance(event, EndTrial):
            how = hash((event.status, frozenset(event.metrics.items()), frozenset(event.tags.items())))
            before, self._ended[event.uid] = self._ended.get(event.uid), how
            return how == before
        if isinstance(event, StartTrial | Log) and event.uid is not None:
            self._ended.pop(event.uid, None)
        return False

    def _of(self, uid: str | None) -> defaultdict[str, _Curve]:
        if uid not in self._curves:
            away = None if uid is None else self._put_away.pop(uid, None)
            self._curves[uid] = defaultdict(_Curve) if away is None else _from_text(away)
        return self._curves[uid]

    def _chosen(self, uid: str | None, points: Iterable[Point]) -> Iterator[Point]:
        curves = self._of(uid)
        for point in points:
            curve = curves[point.key]
            if curve.n_seen > 0 and point.step <= curve.last_step:
                continue
            if curve.n_seen in _KEPT:
                curve.last_kept = (point.step, point.value)
                yield point
            curve.n_seen += 1
            curve.last_step = point.step

    def _finals(self, uid: str | None, metrics: Mapping[str, float], time_ms: int) -> Iterator[Point]:
        curves = self._of(uid)
        for key, value in metrics.items():
            curve = curves[key]
            if curve.last_kept is not None and _same(curve.last_kept, (curve.last_step, value)):
                continue
            curve.last_kept = (curve.last_step, value)
            yield Point(key=key, value=value, step=curve.last_step, timestamp_ms=time_ms)


def _as_text(curves: Mapping[str, _Curve]) -> str:
    return json.dumps({key: astuple(curve) for key, curve in curves.items()})


def _from_text(text: str) -> defaultdict[str, _Curve]:
    curves = defaultdict(_Curve)
    for key, (n_seen, last_step, kept) in json.loads(text).items():
        curves[key] = _Curve(n_seen, last_step, None if kept is None else (kept[0], kept[1]))
    return curves


def _as_log(uid: str | None, points: list[Point]) -> Iterator[Log]:
    if points:
        yield Log(uid=uid, points=tuple(points))


def _same(a: tuple[int, float], b: tuple[int, float]) -> bool:
    return a[0] == b[0] and (a[1] == b[1] or (math.isnan(a[1]) and math.isnan(b[1])))
