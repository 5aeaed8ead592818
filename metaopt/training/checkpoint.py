"""Save and load a training: all of it or nothing, the previous state kept, a torn file detected."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from metaopt.errors import ArtifactError
from metaopt.training.training import Training
from metaopt.whole_file import whole_file

FORMAT = "metaopt.training/1"
_PREVIOUS = ".previous"
_DOS_FOLDER = 0x10


def save_training(training: Training, path: str | Path) -> None:
    """Write the state to `path` atomically; the state that was there becomes ``<path>.previous``."""
    path = Path(path)
    with whole_file(path) as file:
        try:
            torch.save({"format": FORMAT} | training.state_dict(), file)
            file.flush()
            os.fsync(file.fileno())  # before the state that was there gives way
        except RuntimeError as error:  # torch reports a full disk as a RuntimeError of its zip writer
            raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from error
        if path.exists():
            path.replace(_previous(path))


def load_training(training: Training, path: str | Path) -> Path:
    """Load the newest whole state into `training`; returns the file that was used.

    A torn newest file is passed over for ``<path>.previous``. ArtifactError if neither can be used, or if the
    state is of another task, data set or seed. No code in the file is ever run.
    """
    path = Path(path)
    problems = []
    for candidate in (path, _previous(path)):
        try:
            state = _read(candidate, training)
        except ArtifactError as error:
            problems.append(str(error))
            continue
        _check_identity(candidate, state, training.state_dict())
        training.load_state_dict(state)
        return candidate
    raise ArtifactError(" ".join(problems))


def pack_training(training: Training) -> bytes:
    """The state as `save_training` would write it, to be sent elsewhere."""
    content = io.BytesIO()
    torch.save({"format": FORMAT} | training.state_dict(), content)
    return content.getvalue()


def unpack_training(training: Training, content: bytes) -> None:
    """Load what `pack_training` gave; ArtifactError as of `load_training`. No code in it is ever run."""
    name = Path("what was sent")
    state = _read(name, training, io.BytesIO(content))
    _check_identity(name, state, training.state_dict())
    training.load_state_dict(state)


def _previous(path: Path) -> Path:
    return path.with_name(path.name + _PREVIOUS)


def _check_identity(path: Path, state: dict[str, Any], ours: dict[str, Any]) -> None:
    for key in ("task", "data", "seed"):
        if state[key] != ours[key]:
            raise ArtifactError(f"{path}: `{key}` must be {ours[key]!r}, but the saved one is {state[key]!r}.")


def _marked_as_folder(archive: zipfile.ZipFile) -> str | None:
    """A part that a flipped bit has made a folder: torch reads nothing there, and says nothing."""
    return next((info.filename for info in archive.infolist() if info.external_attr & _DOS_FOLDER), None)


def _read(path: Path, training: Training, content: BinaryIO | None = None) -> dict[str, Any]:
    """The state in the file at `path`, or in `content`, which goes by that name in messages."""
    source = content or path
    try:
        with zipfile.ZipFile(source) as archive:  # torch does not check the checksums it writes
            damaged = archive.testzip() or _marked_as_folder(archive)
        if content is not None:
            content.seek(0)
        state = None if damaged else torch.load(source, map_location=training.device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ArtifactError(f"{path} holds more than tensors and numbers: {error}.") from error
    except Exception as error:  # of any type: damage takes the parsers of zip, pickle and torch anywhere
        raise ArtifactError(f"{path} is not a whole checkpoint: {error}.") from error
    if damaged:
        raise ArtifactError(f"{path} is not a whole checkpoint: `{damaged}` in it is damaged.")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ArtifactError(f"{path}: `format` must be {FORMAT!r}.")
    missing = sorted(training.state_dict().keys() - state.keys())
    if missing:
        raise ArtifactError(f"{path}: `{missing[0]}` must be there, but it is missing.")
    return state
