"""Curves as a spool holds them, read without a tracking store and without holding the spool."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from metaopt.errors import ArtifactError
from metaopt.tracking.events import Event, Log, decode
from metaopt.tracking.spool import FORMAT

Curves = Mapping[str, Mapping[str, list[float]]]
"""Trial's uid -> key -> values in the order of their steps."""


def spooled_curves(path: Path, key: str) -> Curves:
    """The curves of all trials whose key ends in ``/key``; a step at or before the last one is a repeat and dropped.

    Raises:
        ArtifactError: the file is missing, or no spool.
    """
    found: dict[str, dict[str, list[float]]] = {}
    last: dict[tuple[str, str], int] = {}
    for event in _events(path, f'/{key}"'):
        if not isinstance(event, Log) or event.uid is None:
            continue
        for point in event.points:
            curve = event.uid, point.key
            if point.key.endswith(f"/{key}") and point.step > last.get(curve, -1):
                last[curve] = point.step
                found.setdefault(event.uid, {}).setdefault(point.key, []).append(point.value)
    return found


def _events(path: Path, text: str) -> Iterator[Event]:
    """The events of lines with `text`; a torn line is none."""
    try:
        with path.open(encoding="utf-8") as lines:
            if json.loads(next(lines, "null")).get("format") != FORMAT:
                raise ValueError
            for line in lines:
                if text in line:
                    try:
                        yield decode(line.encode())
                    except ValueError:  # a search that has just died, or is at it
                        continue
    except OSError as error:
        raise ArtifactError(f"{path} must be the spool of a study, but cannot be read: {error.strerror}.") from error
    except (ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} must begin with a {FORMAT} header, but does not.") from error
