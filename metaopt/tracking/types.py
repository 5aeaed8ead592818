"""What the rest of metaopt knows about tracking: points, and where to hand them in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Status = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run ended, in MLflow's words. A diverged training is a FINISHED run with a tag that says so."""

Value = str | int | float
"""A parameter as it is handed in; the store keeps its text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One number of one curve."""

    key: str
    """Name of the curve, e.g. ``mnist5k/fid``."""
    value: float
    """The number; NaN and infinities are allowed."""
    step: int
    """Position on the curve, usually in iterations."""
    timestamp_ms: int
    """When the number was born, ms since 1970 UTC: sent twice with the same time, it is one row."""


class Tracker(Protocol):
    """Takes the numbers of one study: a parent run, and below it one run a trial, named by its uid.

    Nothing here raises into a search, and nothing waits for a server. All calls may be repeated, as a resumed
    search does: a run that exists is found again, parameters count once, and a curve takes one value a step
    (the steps of a key rise, and a point at or before the last one is a repeat and dropped). Calls after
    `close` are ignored.
    """

    error: Exception | None
    """The first error of the spool's disk; numbers handed in since then may be lost. None: all is well."""

    def start_study(self, *, params: Mapping[str, Value], tags: Mapping[str, str]) -> None:
        """Open the parent run, or take it up again."""

    def start_trial(self, uid: str, *, name: str, params: Mapping[str, Value], tags: Mapping[str, str]) -> None:
        """Open the run of a trial, or take it up again; ``uid`` is for the study, ``name`` for people."""

    def log(self, uid: str, metrics: Sequence[Point]) -> None:
        """Add points to the curves of a trial."""

    def log_artifact(self, uid: str | None, path: Path, folder: str = "") -> None:
        """Attach a file (no folder) to a trial; to the parent run if ``uid`` is None. It is read when sent."""

    def end_trial(
        self,
        uid: str,
        *,
        status: Status,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        time_ms: int | None = None,
    ) -> None:
        """Close the run of a trial, at `time_ms` (ms since 1970 UTC; None: now).

        A final metric ends the curve of its name, at that curve's last step.
        """

    def end_study(self, *, status: Status, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Close the parent run."""

    def close(self, timeout_s: float) -> int:
        """Deliver for at most about ``timeout_s`` seconds; the number of events left then (0 = none)."""
