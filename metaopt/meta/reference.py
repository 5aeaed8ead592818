"""Reference trainings: run once, kept on disk, shared by all trials of a study."""

import hashlib
import json
import logging
from collections.abc import Mapping
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
from metaopt.whole_file import read_checked, write_checked

log = logging.getLogger(__name__)


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
    write_checked(folder / f"{key}.json", content)


def find(folder: Path, key: str) -> Recorded | None:
    """The training kept under `key`; None if there is none, or its file is not whole, which is said."""
    path = folder / f"{key}.json"
    found = _read(path) if path.exists() else None
    if found is None and path.exists():
        log.warning("%s is not whole: that training is done again", path)
    return found


def _read(path: Path) -> Recorded | None:
    try:
        content = read_checked(path, or_unchecked=True) or {}
        return Recorded(
            records=tuple(record_from(item) for item in content["records"]),
            grids=tuple(bytes.fromhex(grid) for grid in content["grids"]),
        )
    except (StorageError, ValueError, KeyError, TypeError, AttributeError):
        return None


def record_from(item: dict[str, Any]) -> Record | MetaRecord:
    """What its `as_dict` gave; of a training, or of learning a start, which alone has an outer gradient."""
    kind: Any = MetaRecord if "gradient_norm" in item else Record
    ended = item["outcome"]
    found: Record | MetaRecord = kind(**item | {"outcome": None if ended is None else Outcome(ended)})
    return found
