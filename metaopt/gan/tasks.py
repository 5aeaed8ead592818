"""Tasks: one training problem each: networks, loss, data, budget and evaluation."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from metaopt.errors import ConfigError, DataError
from metaopt.gan.choice import unknown
from metaopt.gan.datasets import DATASETS, Dataset, file_source, load_dataset
from metaopt.gan.image_folder import DEFAULT_SIZE
from metaopt.gan.images import check_size
from metaopt.gan.losses import LOSSES
from metaopt.gan.networks import NETWORKS, check_network_size

_NAME = re.compile(r"\w[\w.-]*")
_LEAST = {"width": 1, "z_dim": 1, "batch": 2, "budget": 1, "evaluations": 1, "n_samples": 2}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training problem. Checked at birth: ConfigError names the rule and the value that breaks it."""

    name: str
    """What people and metric names call it: letters, digits, ``_ . -``, and no ``.`` or ``-`` first."""
    data: str
    """Spec of the data set; see `load_dataset`."""
    size: int | None = None
    """Pixels along one side, in [8, 32]; None: the data's own size (32 for a folder)."""
    network: str = "mlp"
    """A key of `NETWORKS`."""
    width: int = 64
    """Hidden units (mlp) or channels next to the image (dcgan), >= 1."""
    z_dim: int = 32
    """Length of the noise vector, >= 1."""
    loss: str = "non_saturating"
    """A key of `LOSSES`."""
    batch: int = 64
    """Images per update, >= 2 (BatchNorm needs two)."""
    budget: int
    """Iterations, >= 1. One is the compute of one D update plus one G update."""
    evaluations: int = 4
    """FIDs taken during the training, >= 1, equally spaced, the last at its end; the untrained is extra."""
    n_samples: int = 1000
    """Generated images per FID, >= 2."""
    beta1: float = 0.5
    """Adam's decay of the mean gradient, in [0, 1) (0.5: Radford et al. 2016)."""
    beta2: float = 0.999
    """Adam's decay of the squared gradient, in [0, 1)."""

    def __post_init__(self) -> None:
        _check_strings(self)
        for field, least in _LEAST.items():
            _check_at_least(field, getattr(self, field), least)
        if self.evaluations > self.budget:
            raise ConfigError(
                f"`evaluations <= budget` must hold, but got evaluations={self.evaluations}, budget={self.budget}."
            )
        for field in ("beta1", "beta2"):
            _check_decay(field, getattr(self, field))
        check_size(self.size)
        if self.size is not None:
            check_network_size(self.network, self.size)

    def key(self) -> str:
        """SHA-256, in hex, over all fields but `name`: tasks of one key are the same problem."""
        content = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}
        content |= {"beta1": float(self.beta1), "beta2": float(self.beta2)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_strings(task: Task) -> None:
    for field in ("name", "data", "network", "loss"):
        value = getattr(task, field)
        if not isinstance(value, str):
            raise ConfigError(f"`{field}` must be a string, but got {value!r}.")
    if not _NAME.fullmatch(task.name):
        raise ConfigError(
            f"`name` must be made of letters, digits, `_`, `.` and `-`, with no `.` or `-` first,"
            f" but got {task.name!r}."
        )
    if task.data not in DATASETS:
        file_source(task.data)
    for what, value, table in (("network", task.network, NETWORKS), ("loss", task.loss, LOSSES)):
        if value not in table:
            raise ConfigError(unknown(what, value, table))


def _check_at_least(field: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"`{field}` must be a whole number, but got {value!r}.")
    if value < least:
        raise ConfigError(f"`{field} >= {least}` must hold, but got {field}={value}.")


def _check_decay(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(f"`0 <= {field} < 1` must hold, but got {field}={value!r}.")


TASKS: Mapping[str, Task] = {
    "digits": Task(name="digits", data="digits", network="mlp", width=64, z_dim=16, budget=4000),
    "mnist5k": Task(name="mnist5k", data="mnist5k", network="dcgan", width=16, z_dim=32, budget=1500),
}


def task_from_spec(spec: str, **overrides: Any) -> Task:
    """The task of that name, or a default task on the user's own images; ConfigError if it is neither.

    Args:
        spec: a key of `TASKS`, ``npz:FILE`` or ``folder:DIR``. Own images get a dcgan, or an mlp if their
            size does not fit one. Their path becomes absolute, so that the task means the same from any
            working folder; the task's name is that of the file or folder.
        overrides: fields of `Task` to set otherwise.
    """
    known = [field.name for field in fields(Task)]
    for field in overrides:
        if field not in known:
            raise ConfigError(unknown("field of a task called", field, known))
    if spec in TASKS:
        return replace(TASKS[spec], **overrides)
    source, path = file_source(spec, what="task", named=TASKS)
    absolute = path.absolute()
    data = f"{source}:{absolute}"
    network = overrides.get("network") or _default_network(data, overrides.get("size"))
    own: dict[str, Any] = {
        "name": _name(absolute.stem if source == "npz" else absolute.name) or source,
        "data": data,
        "network": network,
        "width": 16 if network == "dcgan" else 128,
        "budget": 1500,
    }
    return Task(**(own | overrides))


def _default_network(data: str, size: int | None) -> str:
    if size is None:
        size = DEFAULT_SIZE if data.startswith("folder:") else load_dataset(data).size
    return "dcgan" if size in NETWORKS["dcgan"].sizes else "mlp"


def _name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).lstrip(".-")


def check_dataset(task: Task, dataset: Dataset) -> None:
    """ConfigError unless `task` can be trained on `dataset`: enough images, of a size its networks make."""
    if len(dataset) < task.batch:
        raise DataError(
            f"{dataset.name} holds {len(dataset):,} images, but at least {task.batch} (the batch size) are needed."
        )
    if task.size is not None and dataset.size != task.size:
        raise DataError(f"{dataset.name}: images must be `size` = {task.size} pixels a side, but are {dataset.size}.")
    check_network_size(task.network, dataset.size)
