"""What a job on a cluster needs of this machine, in one folder that Ray copies to every node.

It holds the study with its overrides, schedules that it names, data under a relative path, and one's own networks: what
the study names, and nothing beside it.
"""

import importlib.util
import json
import shutil
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaopt.errors import ConfigError, StorageError
from metaopt.gan import DATASETS
from metaopt.gan.datasets import FOLDERS, file_source
from metaopt.gan.image_folder import image_files
from metaopt.search.folder import MANIFEST, study_folder
from metaopt.search.initialisation_study import AnyStudy, load_any_study
from metaopt.search.optuna_space import JOURNAL
from metaopt.search.packed_data import DATA, digest_of, place_of
from metaopt.search.study import Study
from metaopt.user_code import imported_module, is_import_path

STUDY = "study.yaml"
MAX_BYTES = 200 * 2**20
"""Ray's control store, which hands the folder on, refuses half a gigabyte."""
_SCHEDULES, _STUDIES = "schedules", "studies"
_WEIGHTS = "inception:"
_OURS = "metaopt"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A folder that a search can start from."""

    folder: Path
    study: str
    """Its name."""
    elsewhere: tuple[str, ...]
    """Files by an absolute path, which are not in the folder: every node must have them."""


def pack(
    source: str, overrides: Sequence[str], leave_out: str | None, folder: Path, *, allow_import: bool = False
) -> Package:
    """Write what a study, by name or path, needs into a new folder.

    Data under a relative path get one that is the same on every machine, under /tmp (see `link_data`), and is made of
    their content, so that the study is the same one whenever it is submitted with the same data.

    Raises:
        ConfigError: the study could not run as written, or what it names is too large or not there, or is code,
            unless `allow_import`.
        StorageError: the disk is full or not writable.
    """
    study = load_any_study(source, overrides, leave_out, allow_import=allow_import)
    packing = _Packing(folder)
    try:
        content = packing.content(study)
        packing.write()
        (folder / STUDY).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")  # is YAML, too
    except OSError as error:
        raise StorageError(f"{error.filename or folder} could not be packed: {error.strerror or error}.") from error
    return Package(folder=folder, study=study.name, elsewhere=tuple(packing.elsewhere))


@dataclass
class _Packing:
    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    """Path in the folder -> file that goes there."""
    elsewhere: dict[str, None] = field(default_factory=dict)

    def content(self, study: AnyStudy) -> dict[str, Any]:
        """What the study says, with paths as they are in a job."""
        said: dict[str, Any] = study.spec.model_dump(mode="json", exclude_unset=True)
        content: dict[str, Any] = _mapped(
            said,
            {
                **{"data": self._data, "foreign_data": self._data},
                **{"network": self._code, "features": self._features},
                **{"start": self._schedule, "reference": self._schedule, "baselines": self._schedule},
                "first": self._record,
            },
        )
        if isinstance(study, Study):
            for now, before, task in zip(_tasks(content), _tasks(said), [*study.tasks, *study.validation], strict=True):
                if now["data"] != before["data"]:
                    now["name"] = now.get("name") or task.name  # by where its data were
        return content

    def write(self) -> None:
        """Copy the files; ConfigError, and nothing copied, if they are too large."""
        _check_size(self.files.values())
        self.folder.mkdir(parents=True, mode=0o700)
        for name, file in self.files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, self.folder / name)

    def _data(self, spec: str) -> str:
        if spec in DATASETS:
            return spec
        source, path = file_source(spec)
        if path.is_absolute():
            self.elsewhere[spec] = None
        if path.is_absolute() or source == "hf":
            return spec
        if source in FOLDERS:
            files = {name: path / name for name in image_files(path)}
            if source == "readable":  # a link to nowhere cannot be sent
                files = {name: file for name, file in files.items() if file.is_file()}
        else:
            files = {"": path}
        _check_size(files.values())  # before all of it is read
        name = f"{digest_of(files)}-{path.absolute().name}"
        for below, file in files.items():
            self.files[f"{DATA}/{name}/{below}" if below else f"{DATA}/{name}"] = file
        return f"{source}:{place_of(name)}"

    def _features(self, spec: str) -> str:
        if not spec.startswith(_WEIGHTS):
            return self._code(spec)
        if not Path(spec.removeprefix(_WEIGHTS)).expanduser().is_absolute():
            raise ConfigError(f"weights must have an absolute path, which every node has, but got {spec!r}.")
        self.elsewhere[spec] = None
        return spec

    def _code(self, spec: str) -> str:
        if is_import_path(spec):
            imported_module(spec, what="what is to be sent,")
            self.files.update(_own_code(spec.partition(":")[0].partition(".")[0]))
        return spec

    def _record(self, spec: str) -> str:
        """Of another study, what its trials are read from."""
        folder = study_folder(spec)
        files = {name: folder / name for name in (MANIFEST, JOURNAL)}
        name = f"{_STUDIES}/{digest_of(files)}"
        self.files |= {f"{name}/{file}": path for file, path in files.items()}
        return name

    def _schedule(self, spec: str) -> str:
        if not spec.endswith(".json"):
            return spec
        file = Path(spec).expanduser()
        name = f"{_SCHEDULES}/{digest_of({'': file})}/{file.name}"  # two may have one name
        self.files[name] = file
        return name


def _check_size(files: Iterable[Path]) -> None:
    size = sum(file.stat().st_size for file in files)
    if size > MAX_BYTES:
        raise ConfigError(
            f"What the study names must be at most {MAX_BYTES >> 20} MiB to be sent, but has {size >> 20} MiB. Copy "
            "the data to this machine and every node, and name them by an absolute path."
        )


def _tasks(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [*content["tasks"], *(content.get("validation") or {}).get("tasks", [])]


def _mapped(content: Any, names: dict[str, Callable[[str], str]], key: str = "") -> Any:
    """The content with the values of some keys changed, wherever they stand."""
    if isinstance(content, dict):
        return {name: _mapped(value, names, name) for name, value in content.items()}
    if isinstance(content, list):
        return [_mapped(value, names, key) for value in content]
    return names[key](content) if isinstance(content, str) and key in names else content


# One's own code


def _own_code(module: str) -> dict[str, Path]:
    """Path in the package -> Python files of an imported module of one's own, and of those beside it that it imported.

    A module that is installed here is to be installed on the nodes, too.
    """
    spec = importlib.util.find_spec(module)
    places = [] if spec is None else [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]
    if not places or _installed(Path(places[0])) or module == _OURS:
        return {}
    root = Path(places[0]).parent
    found = {str(file.relative_to(root)): file for place in places if Path(place).is_dir() for file in _python(place)}
    for other in list(sys.modules.values()):
        file = Path(getattr(other, "__file__", None) or "")
        own = file.suffix == ".py" and file.is_relative_to(root) and not _installed(file)
        if own and other.__name__.partition(".")[0] not in (_OURS, "__main__"):
            found[str(file.relative_to(root))] = file
    return found


def _python(folder: str) -> Iterator[Path]:
    for file in sorted(Path(folder).rglob("*.py")):
        if not any(part.startswith(".") for part in file.relative_to(folder).parts):
            yield file


def _installed(path: Path) -> bool:
    places = [*sysconfig.get_paths().values(), site.getusersitepackages()]
    return any(path.resolve().is_relative_to(Path(place).resolve()) for place in places)
