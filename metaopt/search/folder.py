"""The folder of one study: whose it is, who works in it, and where things lie."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import metaopt
from metaopt.errors import ConfigError
from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.problems import Problem
from metaopt.search.study_file import KIND
from metaopt.tracking.redact import redacted
from metaopt.whole_file import write_whole

MANIFEST = "study.json"
_TEMPORARY = f".{MANIFEST}."
START = "initialisation.safetensors"
"""What a trial has learned, in its folder, where that is a start."""
_LOCK = ".driver.lock"
_TRACKED = ".tracking_uri"


def study_folder(study: str) -> Path:
    """The folder of a study given by name or path: ``runs/NAME``, or the path itself if something is there."""
    path = Path(study).expanduser()
    return path if (path / MANIFEST).exists() else Path("runs") / study


def references(folder: Path) -> Path:
    """Where finished reference trainings are kept."""
    return folder / "references"


def trial_uid(name: str, key: str, number: int) -> str:
    """One identity a trial, in MLflow and in schedule.json, from the study's name and key."""
    return f"{name}-{key}-{number:05d}"


def tracking_uri(own: str | None, folder: Path) -> str:
    """The study's own, or MLFLOW_TRACKING_URI, or the one that it has begun with, or an SQLite file in the folder.

    ConfigError where the study has begun with another one than the environment has: half of it would be in either.
    """
    given, begun = os.environ.get("MLFLOW_TRACKING_URI"), _begun_with(folder)
    if own:
        return own
    if given and begun and given != begun:
        raise ConfigError(
            f"{folder} has begun with the MLFLOW_TRACKING_URI {redacted(begun)}, not {redacted(given)}: unset it, "
            f"or, if the same store has moved, remove {folder / _TRACKED}."
        )
    return given or begun or _own_store(folder)


def _own_store(folder: Path) -> str:
    return f"sqlite:///{(folder / 'mlflow.db').absolute()}"


def remember_tracking(folder: Path, uri: str) -> None:
    """Keep the store that a study has begun with, where it is not the folder's own: the environment may forget it."""
    if uri != _own_store(folder) and not _begun_with(folder):
        descriptor = os.open(folder / _TRACKED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # it may hold a password
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(uri + "\n")


def _begun_with(folder: Path) -> str | None:
    try:
        return (folder / _TRACKED).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def trial_folder(folder: Path, number: int) -> Path:
    """What is kept of one trial: its schedule.json and its sample grids."""
    return folder / "trials" / f"{number:05d}"


def grid_name(label: str, evaluation: int) -> str:
    """File name of the sample grid of a training at its n-th evaluation, from 1."""
    return f"{label.replace('/', '-')}-{evaluation:03d}.png"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What study lives in a folder: enough to export from it where its data are not at hand."""

    name: str
    key: str
    trained_on: str
    """As of `trained_on`."""
    family: str
    reference: str
    """Name of the reference schedule."""
    tasks: Sequence[str]
    """Names of the tasks."""
    budgets: Sequence[int]
    """Iterations of each task."""
    losses: Sequence[str]
    seeds: Sequence[int]
    tracking_uri: str | None
    """The study's own; None if it comes from the environment or is the folder's SQLite file."""
    spec: Mapping[str, Any]
    """The study file as it was read, overrides applied."""

    @property
    def learns_starts(self) -> bool:
        """Whether it searches for where to start, and not for a schedule."""
        return self.spec.get("kind") == KIND


def manifest_of(study: AnyStudy, identities: Sequence[str]) -> Manifest:
    """The manifest of a study whose tasks' resources have those identities."""
    return Manifest(
        name=study.name,
        key=study.key,
        trained_on=trained_on(study.tasks, identities),
        family=study.family.name,
        reference=study.reference.schedule.name,
        tasks=[task.name for task in study.tasks],
        budgets=[task.budget for task in study.tasks],
        losses=[task.loss for task in study.tasks],
        seeds=study.spec.seeds,
        tracking_uri=study.spec.tracking.uri,
        spec=study.spec.model_dump(),
    )


def trained_on(tasks: Sequence[Problem], identities: Sequence[str]) -> str:
    """Hash of tasks, of the identities of their resources, and of metaopt's version."""
    parts = [[task.key() for task in tasks], list(identities), metaopt.__version__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> Manifest | None:
    """What study lives in `folder`; None if none does. ConfigError if the manifest is not whole."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: the manifest of the study cannot be read: {error}.") from error


def claim(folder: Path, ours: Manifest, *, resume: bool) -> None:
    """Make `folder` the study's; ConfigError, and nothing written, if it is another's or `resume` is needed."""
    manifest = read_manifest(folder) if folder.exists() else None
    if manifest is None:
        if folder.exists() and any(not item.name.startswith(_TEMPORARY) for item in folder.iterdir()):
            raise ConfigError(f"{folder} is not empty and holds no study; choose another --out.")
        _write_manifest(folder, ours)
        return
    if (manifest.name, manifest.key) != (ours.name, ours.key):
        raise ConfigError(
            f"{folder} holds another study: {manifest.name!r} with key {manifest.key}, "
            f"but this one is {ours.name!r} with key {ours.key}. Choose another --out."
        )
    if manifest.trained_on != ours.trained_on:
        raise ConfigError(
            f"{folder} holds study {ours.name!r} on other images, task defaults or another version of metaopt; "
            "its trials cannot be compared with new ones. Choose another --out."
        )
    if not resume:
        raise ConfigError(f"{folder} already holds study {ours.name!r}; add --resume to go on with it.")


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    write_whole(folder / MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the kernel lets go of it however the process ends."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"Another search is running in {folder}; wait for it, or end it.") from error
        yield
    finally:
        os.close(descriptor)
