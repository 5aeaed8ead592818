"""Tasks: one training problem each: networks, loss, data, budget and evaluation."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from metaopt.errors import ConfigError, DataError
from metaopt.gan.augment import check_augment
from metaopt.gan.choice import unknown
from metaopt.gan.corruption import Corruption
from metaopt.gan.datasets import DATASETS, FOLDERS, Dataset, absolute_spec, check_spec, file_source, load_dataset
from metaopt.gan.diff_augment import check_diff_augment
from metaopt.gan.image_folder import DEFAULT_SIZE
from metaopt.gan.images import MIN_SIZE, check_size
from metaopt.gan.layers import Norm
from metaopt.gan.losses import LOSSES
from metaopt.gan.networks import (
    NETWORKS,
    PairSpec,
    check_network,
    check_norm,
    make_pair,
    resolved,
)
from metaopt.gan.user_pair import user_pair_version
from metaopt.user_code import is_import_path

_NAME = re.compile(r"\w[\w.-]*")
_CLEAN = Corruption()
_LEAST = {"width": 1, "z_dim": 1, "batch": 2, "budget": 1, "evaluations": 1, "n_samples": 2, "lookahead": 0}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training problem. Checked at birth: ConfigError names the rule and the value that breaks it."""

    name: str
    """What people and metric names call it: letters, digits, ``_ . -``, and no ``.`` or ``-`` first."""
    data: str
    """Spec of the data set; see `load_dataset`."""
    size: int | None = None
    """Pixels along one side, in [8, 64]; None: the data's own size (32 for a folder)."""
    corruption: Corruption = _CLEAN
    """What is wrong with the images that are trained on; those that are compared with stay clean."""
    augment: str = ""
    """Augmentations of the real images, such as ``flip,crop``; see `metaopt.gan.augment`."""
    network: str = "mlp"
    """A key of `NETWORKS`, or the import path ``package.module:function`` of one's own."""
    width: int = 64
    """Hidden units (mlp), channels next to the image (dcgan) or everywhere (sngan), >= 1."""
    z_dim: int = 32
    """Length of the noise vector, >= 1."""
    conditional: bool = False
    """Whether both networks are told the class of each image; the data must have classes."""
    norm_g: Norm | None = None
    """Normalisation in G: batch, group or none; None: the network's own."""
    norm_d: Norm | None = None
    """Normalisation in D, likewise."""
    spectral_norm: bool | None = None
    """Spectral norm on D; None: the network's own choice."""
    loss: str = "non_saturating"
    """A key of `LOSSES`."""
    r1: float = 0.0
    """Weight gamma of the R1 penalty ``gamma / 2 E|grad D(x)|^2``, >= 0 (Mescheder et al. 2018)."""
    diff_augment: str = ""
    """Differentiable augmentations of all that D sees, such as ``translation,cutout`` (Zhao et al. 2020)."""
    ema: float = 0.0
    """Memory of the average of G that is evaluated, as a share of the budget, in [0, 1); 0: G itself."""
    lookahead: int = 0
    """G updates between two steps of both players to their slow weights, >= 0; 0: none (Chavdarova et al. 2021)."""
    batch: int = 64
    """Images per update, >= 2 (BatchNorm needs two)."""
    budget: int
    """Iterations, >= 1. One is the compute of one D update plus one G update."""
    evaluations: int = 4
    """FIDs taken during the training, >= 1, equally spaced, the last at its end; the untrained is extra."""
    n_samples: int = 1000
    """Generated images per evaluation, >= 2."""
    features: str = "small"
    """What is compared: small, lite0, inception, or the import path of one's own; see docs/metrics.md."""
    metrics: tuple[str, ...] = ("fid",)
    """What is measured at each evaluation; `fid` always."""
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
        for field in ("beta1", "beta2", "ema"):
            _check_decay(field, getattr(self, field))
        _check_r1(self.r1)
        _check_metrics(self.metrics)
        for field in ("conditional", "spectral_norm"):
            _check_switch(field, getattr(self, field), or_none=field == "spectral_norm")
        check_augment(self.augment)
        check_diff_augment(self.diff_augment)
        for field in ("norm_g", "norm_d"):
            check_norm(field, getattr(self, field))
        if is_import_path(self.network):
            _check_own_network(self)
        check_size(self.size)
        _spec(self, size=MIN_SIZE if self.size is None else self.size, channels=1, n_classes=0)

    def key(self) -> str:
        """SHA-256, in hex, over all fields but `name`: tasks of one key are the same problem.

        One's own networks count with the text of their source file, which is imported for it.
        """
        content = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}
        if not self.lookahead:  # younger than trainings that are kept by their key
            del content["lookahead"]
        content |= {name: float(content[name]) for name in ("beta1", "beta2", "ema", "r1")}
        content["corruption"] = asdict(self.corruption)
        if is_import_path(self.network):
            content["network_source"] = user_pair_version(self.network)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_own_network(task: Task) -> None:
    for field in ("norm_g", "norm_d", "spectral_norm"):
        if getattr(task, field) is not None:
            raise ConfigError(
                f"`{field}` must be left out with a network of your own, which has its own layers, "
                f"but got {field}={getattr(task, field)!r}."
            )


def _check_strings(task: Task) -> None:
    for field in ("name", "data", "network", "loss", "features"):
        value = getattr(task, field)
        if not isinstance(value, str):
            raise ConfigError(f"`{field}` must be a string, but got {value!r}.")
    if not _NAME.fullmatch(task.name):
        raise ConfigError(
            f"`name` must be made of letters, digits, `_`, `.` and `-`, with no `.` or `-` first,"
            f" but got {task.name!r}."
        )
    check_spec(task.data)
    check_network(task.network)
    if task.loss not in LOSSES:
        raise ConfigError(unknown("loss", task.loss, LOSSES))


def _check_at_least(field: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"`{field}` must be a whole number, but got {value!r}.")
    if value < least:
        raise ConfigError(f"`{field} >= {least}` must hold, but got {field}={value}.")


def _check_decay(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(f"`0 <= {field} < 1` must hold, but got {field}={value!r}.")


def _check_switch(field: str, value: object, *, or_none: bool) -> None:
    if not (isinstance(value, bool) or (or_none and value is None)):
        raise ConfigError(f"`{field}` must be true or false, but got {value!r}.")


def _check_metrics(value: object) -> None:
    if not isinstance(value, tuple) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"`metrics` must be a tuple of names, but got {value!r}.")


def _check_r1(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"`0 <= r1 < inf` must hold, but got r1={value!r}.")


def task_from_spec(spec: str, **overrides: Any) -> Task:
    """The task of that name, or a default task on another data set; ConfigError if it is neither.

    Args:
        spec: a key of `TASKS`, or the spec of a data set (see `load_dataset`). It gets a dcgan, or an mlp if its
            size does not fit one. Paths become absolute, so that the task means the same from any working
            folder; the task's name is that of the file or folder.
        overrides: fields of `Task` to set otherwise.
    """
    known = [field.name for field in fields(Task)]
    for field in overrides:
        if field not in known:
            raise ConfigError(unknown("field of a task called", field, known))
    if "corruption" in overrides:
        overrides["corruption"] = _absolute(overrides["corruption"])
    if str(overrides.get("features", "")).startswith(_INCEPTION_FILE):
        file = Path(overrides["features"].removeprefix(_INCEPTION_FILE)).expanduser().absolute()
        overrides["features"] = f"{_INCEPTION_FILE}{file}"
    if spec in TASKS:
        return replace(TASKS[spec], **overrides)
    data, name = _own_data(spec)
    network = overrides.get("network") or _default_network(data, overrides.get("size"))
    own: dict[str, Any] = {
        "name": name,
        "data": data,
        "network": network,
        "width": 128 if network == "mlp" else 16,
        "budget": 1500,
        "augment": _AUGMENTED.get(spec, ""),
    }
    return Task(**(own | overrides))


_INCEPTION_FILE = "inception:"
_AUGMENTED: Mapping[str, str] = {"cifar10": "flip,crop"}
"""What is usual for a data set; digits and letters must not be mirrored."""


def _absolute(corruption: Corruption) -> Corruption:
    return replace(corruption, foreign_data=corruption.foreign_data and absolute_spec(corruption.foreign_data))


def _own_data(spec: str) -> tuple[str, str]:
    """Spec with an absolute path, and a name for the task."""
    if spec in DATASETS:
        return spec, spec
    source, path = file_source(spec, what="task", named=dict.fromkeys((*TASKS, *DATASETS)))
    return absolute_spec(spec), _name(path.stem if source in ("npz", "npy") else path.absolute().name) or source


def _default_network(data: str, size: int | None) -> str:
    if size is None:
        size = DEFAULT_SIZE if data.partition(":")[0] in (*FOLDERS, "hf") else load_dataset(data).size
    return "dcgan" if size in NETWORKS["dcgan"].sizes else "mlp"


def _name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).lstrip(".-")


def check_dataset(task: Task, dataset: Dataset) -> None:
    """DataError unless `task` can be trained on `dataset`: enough images, of a size its networks make.

    One's own networks are built once, and their contract is checked (ConfigError).
    """
    if len(dataset) < task.batch:
        raise DataError(
            f"{dataset.name} holds {len(dataset):,} images, but at least {task.batch} (the batch size) are needed."
        )
    if task.size is not None and dataset.size != task.size:
        raise DataError(f"{dataset.name}: images must be `size` = {task.size} pixels a side, but are {dataset.size}.")
    spec = pair_spec(task, dataset)
    if is_import_path(task.network):
        make_pair(spec, torch.Generator().manual_seed(0))


def pair_spec(task: Task, dataset: Dataset) -> PairSpec:
    """What the networks of `task` are built from on `dataset`, with nothing left to choose.

    DataError where they are to be told classes that the data do not have.
    """
    if task.conditional and dataset.n_classes == 0:
        raise DataError(f"{dataset.name}: images must have classes for a conditional GAN, but have none.")
    n_classes = dataset.n_classes if task.conditional else 0
    return _spec(task, size=dataset.size, channels=dataset.channels, n_classes=n_classes)


def _spec(task: Task, *, size: int, channels: int, n_classes: int) -> PairSpec:
    spec = PairSpec(
        network=task.network,
        size=size,
        channels=channels,
        width=task.width,
        z_dim=task.z_dim,
        n_classes=n_classes,
        norm_g=task.norm_g,
        norm_d=task.norm_d,
        spectral_norm=task.spectral_norm,
    )
    if is_import_path(task.network):
        return spec
    loss = LOSSES[task.loss]
    return resolved(
        spec, gradient_penalty=task.r1 > 0 or loss.gradient_penalty > 0, weight_clip=loss.weight_clip is not None
    )


TASKS: Mapping[str, Task] = {
    "digits": Task(name="digits", data="digits", network="mlp", width=64, z_dim=16, budget=4000),
    "mnist5k": Task(name="mnist5k", data="mnist5k", network="dcgan", width=16, z_dim=32, budget=1500),
}
