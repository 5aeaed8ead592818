"""The calls of a `Tracker` as values, and each as one line of JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from metaopt.tracking.types import Point, Status, Value


@dataclass(frozen=True, kw_only=True)
class StartStudy:
    """The parent run begins or is taken up again."""

    time_ms: int
    params: Mapping[str, Value]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class StartTrial:
    """The run of a trial begins or is taken up again."""

    time_ms: int
    uid: str
    name: str
    params: Mapping[str, Value]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Log:
    """New points of a trial; of the parent run if ``uid`` is None."""

    uid: str | None
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file for a trial; for the parent run if ``uid`` is None."""

    uid: str | None
    path: str
    folder: str


@dataclass(frozen=True, kw_only=True)
class EndTrial:
    """The run of a trial is over."""

    time_ms: int
    uid: str
    status: Status
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class EndStudy:
    """The parent run is over."""

    time_ms: int
    status: Status
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


Event = StartStudy | StartTrial | Log | Artifact | EndTrial | EndStudy

_KINDS: Mapping[str, type[Event]] = {
    "start_study": StartStudy,
    "start_trial": StartTrial,
    "log": Log,
    "artifact": Artifact,
    "end_trial": EndTrial,
    "end_study": EndStudy,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(event: Event) -> bytes:
    """One line of strict JSON with its newline; NaN and infinities are the strings "nan", "inf", "-inf".

    Raises:
        TypeError, ValueError: a field cannot be turned into its declared type.
    """
    data: dict[str, Any] = {field.name: getattr(event, field.name) for field in fields(event)}
    if isinstance(event, Log):
        data["points"] = [
            (str(p.key), _portable(p.value), _int64(p.step), _int64(p.timestamp_ms)) for p in event.points
        ]
    for name in data.keys() & {"params", "tags"}:
        data[name] = {str(key): _text(value) for key, value in data[name].items()}
    if "metrics" in data:
        data["metrics"] = {str(key): _portable(value) for key, value in data["metrics"].items()}
    return json.dumps({"kind": _NAMES[type(event)], **data}, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> Event:
    """The event of a line.

    Raises:
        ValueError: the line is not JSON, of an unknown kind, or lacks a field.
    """
    try:
        data = json.loads(line)
        kind = _KINDS[data.pop("kind")]
        if "points" in data:
            data["points"] = tuple(
                Point(key=str(key), value=float(value), step=int(step), timestamp_ms=int(time_ms))
                for key, value, step, time_ms in data["points"]
            )
        if "metrics" in data:
            data["metrics"] = {key: float(value) for key, value in data["metrics"].items()}
        if "status" in data and data["status"] not in get_args(Status):
            raise ValueError(f"`status in {get_args(Status)}` must hold, but got {data['status']!r}")
        return kind(**data)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"not an event ({type(error).__name__}: {error}): {line[:80]!r}") from error


def _portable(value: float) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _int64(value: int) -> int:
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"a step or time must fit into 64 bits, but got {number}")
    return number


def _text(value: Value) -> str:
    # repr of numpy's floats names their type; that of plain floats reads back equal
    return repr(float(value)) if isinstance(value, float) else str(value)
