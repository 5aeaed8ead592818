"""The tracker for those who want none."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from metaopt.tracking.types import Point, Status, Value


class NullTracker:
    """Takes everything and keeps nothing."""

    error: Exception | None = None
    """Nothing can go wrong here."""

    def start_study(self, *, params: Mapping[str, Value], tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def start_trial(self, uid: str, *, name: str, params: Mapping[str, Value], tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def log(self, uid: str, metrics: Sequence[Point]) -> None:
        """Do nothing."""

    def log_artifact(self, uid: str | None, path: Path, folder: str = "") -> None:
        """Do nothing."""

    def end_trial(
        self,
        uid: str,
        *,
        status: Status,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        time_ms: int | None = None,
    ) -> None:
        """Do nothing."""

    def end_study(self, *, status: Status, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def close(self, timeout_s: float) -> int:
        """Nothing is ever left to deliver: 0."""
        return 0
