"""Reference trainings: run once, kept on disk, shared by all trials of a study."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import metaopt
from metaopt.errors import StorageError
from metaopt.gan import Task
from metaopt.meta.maml.meta_run import MetaRecord
from metaopt.meta.maml.meta_task import MetaTask
from metaopt.meta.objective import TrainingCurve, curve
from metaopt.schedules import NamedSchedule
from metaopt.training import Outcome, Record


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A finished training as it was recorded."""

    records: tuple[Record | MetaRecord, ...]
    grids: tuple[bytes, ...]
    """Sample grid of each evaluation, as PNG."""

    @property
    def curve(self) -> TrainingCurve:
        """FIDs and outcome."""
        return curve(self.records)


def training_key(task: Task | MetaTask, schedule: NamedSchedule, seed: int, identity: str) -> str:
    """Name of a training by what it is a function of; `identity` is that of the task's resources."""
    parts: Mapping[str, Any] = {
        "task": task.key(),
        "data": identity,
        "family": schedule.family,
        "params": dict(schedule.params),
        "seed": seed,
        "version": metaopt.__version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def store(folder: Path, key: str, recorded: Recorded) -> None:
    """Keep a finished training under `key`, all of it or nothing."""
    content = {
        "records": [record.as_dict() for record in recorded.records],
        "grids": [grid.hex() for grid in recorded.grids],
    }
    temporary = folder / f".{key}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(folder / f"{key}.json")
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StorageError(f"{folder} could not be written: {error.strerror}.") from error


def find(folder: Path, key: str) -> Recorded | None:
    """The training kept under `key`; None if there is none or its file is not whole."""
    try:
        content = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        return Recorded(
            records=tuple(_record(item) for item in content["records"]),
            grids=tuple(bytes.fromhex(grid) for grid in content["grids"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _record(item: dict[str, Any]) -> Record | MetaRecord:
    """Of a training, or of learning a start, which alone has an outer gradient."""
    kind: Any = MetaRecord if "gradient_norm" in item else Record
    ended = item["outcome"]
    found: Record | MetaRecord = kind(**item | {"outcome": None if ended is None else Outcome(ended)})
    return found
