"""Training records as files: flat dicts, one a line, each there for other programs once it is written."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from metaopt.errors import ConfigError, StorageError

Record = Mapping[str, str | int | float | bool | None]


class JsonlWriter:
    """Writes a new file with one JSON object a line, as a context manager.

    Floats read back equal. NaN and infinities are written as ``NaN``, ``Infinity``, ``-Infinity``, which
    Python's json reads.

    Raises:
        StorageError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file = _LineFile(path)

    def write(self, record: Record) -> None:
        """Add one record."""
        self._file.write(json.dumps({key: _plain(value) for key, value in record.items()}) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class CsvWriter:
    """Writes a new CSV file with the columns ``fields``, as a context manager.

    Floats are written with repr, so that they read back equal; NaN and infinities as ``nan``, ``inf``,
    ``-inf``; None and missing fields are empty.

    Raises:
        StorageError: the file cannot be written.
    """

    def __init__(self, path: Path, fields: Sequence[str]) -> None:
        if len(set(fields)) != len(fields) or not fields:
            raise ConfigError(f"a CSV file must have columns with unique names, but got {list(fields)}")
        self._fields = tuple(fields)
        self._file = _LineFile(path)
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(self._fields)

    def write(self, record: Record) -> None:
        """Add one record.

        Raises:
            ConfigError: it has a field without a column.
        """
        if unknown := record.keys() - set(self._fields):
            raise ConfigError(f"a record may have only the fields {self._fields}, but got {sorted(unknown)} too")
        self._rows.writerow([_plain(record.get(field)) for field in self._fields])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class _LineFile:
    """A text file that hands every write on at once and names itself when the disk fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise StorageError(f"{path} must be writable, but got: {error}") from error

    def write(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            raise StorageError(f"{self._path} must be writable, but got: {error}") from error

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise StorageError(f"{self._path} must be writable, but got: {error}") from error


def _plain(value: str | int | float | bool | None) -> str | int | float | bool | None:
    # numpy's float64 is a float whose repr names its type
    return float(value) if isinstance(value, float) else value
