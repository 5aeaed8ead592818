"""A study file as it is read, before anything heavy is imported: its text, and whether it has the form of one."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from metaopt.errors import ConfigError
from metaopt.search import yaml_file
from metaopt.search.initialisation_spec import InitialisationStudySpec
from metaopt.search.named_code import refuse_code
from metaopt.search.study_spec import StudySpec
from metaopt.search.validation import apply, place, validated
from metaopt.search.yaml_file import Document

KIND = "initialisation"
"""Of studies that search for where to start; those of schedules are the others."""


def names_of_studies() -> list[str]:
    """Studies that come with metaopt."""
    folder = files("metaopt.search_spaces")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_study(
    source: str, overrides: Sequence[str] = (), *, allow_import: bool = False
) -> tuple[Document, dict[yaml_file.Path, str], str]:
    """What a study file says, overrides applied; the place of each value, and of the whole, for messages.

    ConfigError as of `refuse_code`, unless `allow_import`.
    """
    text, name = _text(source)
    document = yaml_file.parse(text, name)
    where: dict[yaml_file.Path, str] = {path: f"{name}:{line}" for path, line in document.lines.items()}
    for override in overrides:
        apply(document, override, where)
    if not allow_import:
        refuse_code(document.content, where, name, overrides)
    return document, where, name


def kind_of(document: Document, where: Mapping[yaml_file.Path, str], name: str) -> str:
    """`schedule` or `initialisation`; ConfigError if it is something else."""
    kind = document.content.get("kind", "schedule") if isinstance(document.content, dict) else "schedule"
    if kind not in (KIND, "schedule"):
        raise ConfigError(f"{place(where, ('kind',), name)}: `kind` must be schedule or {KIND}, but got {kind!r}.")
    return str(kind)


def check_form(source: str, overrides: Sequence[str] = (), *, allow_import: bool = False) -> None:
    """ConfigError, in a fraction of a second, for a file that no study can be: keys, types, ranges of single values."""
    document, where, name = read_study(source, overrides, allow_import=allow_import)
    kind = kind_of(document, where, name)
    validated(InitialisationStudySpec if kind == KIND else StudySpec, document, where, name)


def _text(source: str) -> tuple[str, str]:
    if source in names_of_studies():
        return (files("metaopt.search_spaces") / f"{source}.yaml").read_text(encoding="utf-8"), f"{source}.yaml"
    path = Path(source).expanduser()
    if not _exists(path):
        near = get_close_matches(source, names_of_studies(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        known = ", ".join(names_of_studies())
        raise ConfigError(f"There is no study {source!r}, by name or as a file{hint} Known: {known}.")
    try:
        if path.stat().st_size > 4 * yaml_file.MAX_BYTES:
            raise ConfigError(f"{path}: a study must be at most {yaml_file.MAX_BYTES} characters.")
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the study cannot be read: {error}.") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # its name is too long, or a folder above it is not for this user
        raise ConfigError(f"{str(path)[:200]}: the study cannot be read: {error.strerror}.") from error
