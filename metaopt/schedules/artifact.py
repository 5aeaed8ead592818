"""schedule.json: write, read, validate. Data only, never code; what is wrong is refused, never repaired."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from metaopt.errors import ArtifactError, ConfigError
from metaopt.schedules.families import check_params, find_family, is_finite_number
from metaopt.schedules.types import LOG_4, Controls, Schedule, Signals, State
from metaopt.whole_file import write_whole

FORMAT = "metaopt.schedule/1"
SHIPPED: Mapping[str, str] = {"static": "static.json", "learned": "static.json"}
"""Name -> file of what metaopt's own studies found: the best static schedule, and the winner on unseen data of all."""
MAX_BYTES = 1_000_000
_MAX_MESSAGE = 500


@dataclass(frozen=True, kw_only=True)
class ScheduleArtifact:
    """A schedule with where it comes from. It is itself a `Schedule`: pass it wherever one is taken."""

    family: str
    """Name of the family in `FAMILIES`."""
    params: Mapping[str, float]
    """The family's parameters, all of them."""
    ideal_d_loss: float = LOG_4
    """V*, the discriminator loss where the generator is perfect; signals are relative to it; >= 0."""
    budget: float | None = None
    """Iterations (one D plus one G update) of the trainings it was learned on."""
    trained_on: tuple[str, ...] = ()
    """Names of the tasks it was learned on."""
    score: float | None = None
    """ln(FID / FID of the reference) over those tasks, put together by the study's objective; < 0 is better."""
    baselines: Mapping[str, float] = field(default_factory=dict)
    """Scores of the reference and of other published rules in the same study."""
    provenance: Mapping[str, str | int | float | None] = field(default_factory=dict)
    """Study, trial, MLflow run, versions, date."""

    def __post_init__(self) -> None:
        if not _number("ideal_d_loss", self.ideal_d_loss) >= 0:
            raise ConfigError(f"`ideal_d_loss >= 0` must hold, but got ideal_d_loss={self.ideal_d_loss!r}.")
        if self.budget is not None and not _number("budget", self.budget) > 0:
            raise ConfigError(f"`budget > 0` must hold, but got budget={self.budget!r}.")
        if self.score is not None:
            _number("score", self.score)
        baselines = {key: _number(f"baselines.{key}", value) for key, value in self.baselines.items()}
        provenance = {key: _scalar(f"provenance.{key}", value) for key, value in self.provenance.items()}
        object.__setattr__(self, "baselines", baselines)
        object.__setattr__(self, "provenance", provenance)
        object.__setattr__(self, "params", check_params(find_family(self.family), self.params))
        object.__setattr__(self, "_schedule", find_family(self.family).build(**self.params))

    @property
    def closed_loop(self) -> bool:
        """Whether it reads live signals."""
        return find_family(self.family).closed_loop

    @property
    def reads_kid(self) -> bool:
        """Whether it needs tests of the generator; see `Signals.kid_tests`."""
        return bool(getattr(self._inner, "reads_kid", False))

    def init(self) -> State:
        """State of the schedule before the first step."""
        return self._inner.init()

    def step(self, state: State, signals: Signals) -> tuple[State, Controls]:
        """Controls in force at `signals`."""
        return self._inner.step(state, signals)

    @property
    def _inner(self) -> Schedule:
        inner: Schedule = self.__dict__["_schedule"]
        return inner


def save_schedule(artifact: ScheduleArtifact, path: str | Path) -> Path:
    """Write `artifact` as JSON, all of it or nothing; returns the path."""
    path = _expanded(path)
    text = json.dumps({"format": FORMAT} | asdict(artifact), indent=2, allow_nan=False)
    write_whole(path, text + "\n")
    return path


def _file_of(source: str | Path) -> Path:
    """The file of a schedule: of one that ships, by its name, else the path itself."""
    if isinstance(source, str) and source in SHIPPED:
        return Path(__file__).parent / "shipped" / SHIPPED[source]
    return _expanded(source)


def load_schedule(path: str | Path) -> ScheduleArtifact:
    """Read a schedule.json, or one that ships by its name (``./static`` is a file of that name).

    ArtifactError names the file, the key, the rule and the value that breaks it.
    """
    try:
        path = _file_of(path)
        return _checked(_read(path))
    except ConfigError as error:
        message = str(error)
        shown = message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}..."
        raise ArtifactError(f"{path}: {shown}") from error


def _expanded(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"the home folder of {str(path)!r} must exist, but it does not.") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            size = max(path.stat().st_size, len(raw))
            raise ArtifactError(f"a schedule file must be at most {MAX_BYTES} bytes, but it has {size}.")
        content = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except ArtifactError:
        raise
    except OSError as error:
        raise ArtifactError(f"the file cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, too deep, or too many digits
        raise ArtifactError(f"a schedule file must be JSON, but it is not: {error}.") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"a schedule file must be a JSON object, but got {type(content).__name__}.")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ArtifactError(f"each key must be given once, but `{name}` is there twice.")
        content[name] = value
    return content


_KEYS = ("family", "params", "ideal_d_loss", "budget", "trained_on", "score", "baselines", "provenance")
_REQUIRED = ("format", "family", "params", "ideal_d_loss")


def _checked(content: dict[str, Any]) -> ScheduleArtifact:
    if content.get("format", FORMAT) != FORMAT:
        raise ArtifactError(f"`format` must be {FORMAT!r}, but got {content['format']!r}.")
    for key in _REQUIRED:
        if key not in content:
            raise ArtifactError(f"`{key}` must be there, but it is missing.")
    for key in content:
        if key not in ("format", *_KEYS):
            raise ArtifactError(f"unknown key `{key}`; known: {', '.join(_KEYS)}.")
    if not isinstance(content["family"], str):
        raise ArtifactError(f"`family` must be a string, but got {content['family']!r}.")
    for key in ("params", "baselines", "provenance"):
        if not isinstance(content.get(key, {}), dict):
            raise ArtifactError(f"`{key}` must be an object, but got {content[key]!r}.")
    return ScheduleArtifact(
        family=content["family"],
        params=content["params"],
        ideal_d_loss=content["ideal_d_loss"],
        budget=content.get("budget"),
        trained_on=_strings("trained_on", content.get("trained_on", [])),
        score=content.get("score"),
        baselines=content.get("baselines", {}),
        provenance=content.get("provenance", {}),
    )


def _number(key: str, value: object) -> float:
    if not is_finite_number(value):
        raise ConfigError(f"`{key}` must be a finite number, but got {value!r}.")
    return float(value)


def _strings(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ArtifactError(f"`{key}` must be a list of strings, but got {value!r}.")
    return tuple(value)


def _scalar(key: str, value: object) -> str | int | float | None:
    if value is None or isinstance(value, str) or is_finite_number(value):
        return value
    raise ConfigError(f"`{key}` must be a string, a finite number or null, but got {value!r}.")
