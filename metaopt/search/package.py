"""What a job on a cluster needs of this machine, in one folder that Ray copies to every node.

It holds the study with its overrides, schedules that it names, data under a relative path, and one's own networks: what
the study names, and nothing beside it.
"""

import hashlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaopt.errors import ConfigError, StorageError
from metaopt.gan import DATASETS
from metaopt.gan.datasets import file_source
from metaopt.gan.image_folder import SUFFIXES
from metaopt.search.initialisation_study import AnyStudy, load_any_study
from metaopt.search.packed_data import DATA, place_of
from metaopt.search.study import Study
from metaopt.user_code import is_import_path

PACKAGE, STUDY = "package", "study.yaml"
MAX_BYTES = 200 * 2**20
"""Ray's control store, which hands the folder on, refuses half a gigabyte."""
_SCHEDULES = "schedules"
_LINKS = Path("/tmp")


@dataclass(frozen=True, kw_only=True)
class Package:
    """A folder that a search can start from."""

    folder: Path
    name: str
    """Of the study."""
    elsewhere: tuple[str, ...]
    """Data by an absolute path, which are not in the folder: every node must have them."""


def pack(source: str, overrides: list[str], leave_out: str | None, parent: Path) -> Package:
    """Write the folder of a study, by name or path, as ``parent/NAME/package``; one that is there is replaced.

    Data under a relative path get one that is the same on every machine, under /tmp (see `link_data`), and
    is made of their content, so that the study is the same one whenever it is submitted with the same data.

    Raises:
        ConfigError: the study could not run as written, or what it names is too large or not there.
        StorageError: the disk is full or not writable.
    """
    study = load_any_study(source, overrides, leave_out)
    folder = parent / study.name / PACKAGE
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        content, elsewhere = _packed(study, folder)
        (folder / STUDY).write_text(json.dumps(content, indent=2), encoding="utf-8")  # JSON is YAML
    except OSError as error:
        raise StorageError(f"{error.filename or folder} could not be packed: {error.strerror or error}.") from error
    size = sum(file.stat().st_size for file in folder.rglob("*"))
    if size > MAX_BYTES:
        raise ConfigError(
            f"What the study names must be at most {MAX_BYTES >> 20} MiB to be sent, but has {size >> 20} MiB. Copy "
            "the data to every node, and name them by an absolute path."
        )
    return Package(folder=folder, name=study.name, elsewhere=elsewhere)


def _packed(study: AnyStudy, folder: Path) -> tuple[Any, tuple[str, ...]]:
    """What a study says with what it names in `folder`, and names of data that are not there."""
    elsewhere: dict[str, None] = {}

    def data(spec: str) -> str:
        found = _pack_data(spec, folder)
        if found is None:
            return spec
        if found == spec:
            elsewhere[spec] = None
        return found

    def code(spec: str) -> str:
        if is_import_path(spec):
            _pack_code(spec.partition(":")[0].partition(".")[0], folder)
        return spec

    def schedule(spec: str) -> str:
        return _pack_schedule(spec, folder) if spec.endswith(".json") else spec

    names: dict[str, Callable[[str], str]] = {
        **{"data": data, "foreign_data": data},
        **{"network": code, "features": code},
        **{"start": schedule, "reference": schedule, "baselines": schedule},
    }
    said: dict[str, Any] = study.spec.model_dump(mode="json", exclude_unset=True)
    content = _mapped(said, names)
    if isinstance(study, Study):
        for now, before, task in zip(_tasks(content), _tasks(said), [*study.tasks, *study.validation], strict=True):
            if now["data"] != before["data"]:
                now.setdefault("name", task.name)  # by where its data were
    return content, tuple(elsewhere)


def _tasks(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [*content["tasks"], *(content.get("validation") or {}).get("tasks", [])]


def _mapped(content: Any, names: dict[str, Callable[[str], str]], key: str = "") -> Any:
    """The content with the values of some keys changed, wherever they stand."""
    if isinstance(content, dict):
        return {name: _mapped(value, names, name) for name, value in content.items()}
    if isinstance(content, list):
        return [_mapped(value, names, key) for value in content]
    return names[key](content) if isinstance(content, str) and key in names else content


# Files


def _pack_data(spec: str, folder: Path) -> str | None:
    """Where data are on every node; None for those that metaopt or a node fetches itself."""
    if spec in DATASETS:
        return None
    source, path = file_source(spec)
    if source == "hf":
        return None
    if path.is_absolute():
        return spec
    files = [path] if path.is_file() else sorted(_images(path))
    if not files:
        raise ConfigError(f"{spec}: there must be images to be sent, but {path.absolute()} has none.")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path)}\n{file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    name = f"{digest.hexdigest()[:16]}-{path.absolute().name}"
    for file in files:
        _copy(file, folder / DATA / name / file.relative_to(path) if path.is_dir() else folder / DATA / name)
    return f"{source}:{place_of(name)}"


def _images(path: Path) -> Iterator[Path]:
    """The files that `load_folder` reads, and no others: a folder may hold what is nobody's business."""
    for file in path.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if not hidden and file.suffix.lower() in SUFFIXES and file.is_file():
            yield file


def _pack_code(module: str, folder: Path) -> None:
    """Python files of a module of one's own; one that is installed here is to be installed on the nodes, too."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ConfigError(f"module {module!r} must be importable; put its folder on PYTHONPATH.")
    origin = Path(found.origin).resolve()
    if any(origin.is_relative_to(Path(prefix).resolve()) for prefix in (sys.prefix, sys.base_prefix)):
        return
    root = origin.parent if origin.name == "__init__.py" else origin
    for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
        _copy(file, folder / file.relative_to(root.parent))


def _pack_schedule(spec: str, folder: Path) -> str:
    """The path of a schedule.json in the folder: by its content, as two may have one name."""
    file = Path(spec).expanduser()
    name = f"{_SCHEDULES}/{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}/{file.name}"
    _copy(file, folder / name)
    return name


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)
