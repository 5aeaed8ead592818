"""A study of ``kind: initialisation`` as the search sees it: one problem of learning where to start."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaopt.errors import ConfigError
from metaopt.gan import Corruption, PairSpec, load_dataset
from metaopt.gan.datasets import absolute_spec
from metaopt.meta import Objective
from metaopt.meta.maml import find_algorithm
from metaopt.meta.maml.meta_task import GroupSpec, MetaTask
from metaopt.schedules import Family, NamedSchedule, find_family
from metaopt.search.initialisation_spec import GroupsSpec, InitialisationStudySpec
from metaopt.search.leave_out import left_out
from metaopt.search.ranges import Range, searched
from metaopt.search.study import FirstTrial, Located, Study, study_from, without_younger
from metaopt.search.study_file import KIND, kind_of, read_study
from metaopt.search.study_spec import NO_PART_OF_THE_KEY, RangeSpec
from metaopt.search.validation import place, validated
from metaopt.search.yaml_file import Path as YamlPath


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A parameter that is one of some names."""

    names: tuple[str, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.names


@dataclass(frozen=True, kw_only=True)
class InitialisationStudy:
    """A search for where to start; what it shares with `Study` has the same name there."""

    spec: InitialisationStudySpec
    tasks: tuple[MetaTask, ...]
    """One."""
    family: Family
    """Of the inner loop's schedule."""
    space: Mapping[str, Range | Choice]
    first: tuple[FirstTrial, ...]
    """The reference: trial 0."""

    @property
    def name(self) -> str:
        """Name of the study and of its MLflow experiment."""
        return self.spec.name

    @property
    def reference(self) -> FirstTrial:
        """What the score is relative to."""
        return self.first[0]

    @property
    def objective(self) -> Objective:
        """The mean: of one task, its ratio."""
        return Objective()

    @property
    def objectives(self) -> tuple[str, ...]:
        """The score alone."""
        return ("quality",)

    @property
    def key(self) -> str:
        """Content key: all but the number of trials, the time, the workers and the tracking."""
        left_out: Any = {"description": True, "tracking": True, "search": NO_PART_OF_THE_KEY}
        content = self.spec.model_dump(exclude=left_out)
        without_younger(content)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


AnyStudy = Study | InitialisationStudy


def load_any_study(
    source: str, overrides: Sequence[str] = (), leave_out: str | None = None, *, allow_import: bool = False
) -> AnyStudy:
    """A study of either kind, by name or path, without a data set or with all; ConfigError as of `load_study`."""
    document, where, name = read_study(source, overrides, allow_import=allow_import)
    if kind_of(document, where, name) != KIND:
        if leave_out is not None:
            document, where = left_out(document, leave_out, where, name)
        return study_from(document, where, name)
    if leave_out is not None:
        raise ConfigError(f"{name}: --leave-out is for studies of schedules, but `kind` is {KIND}.")
    return _study(validated(InitialisationStudySpec, document, where, name), where, name)


def _study(spec: InitialisationStudySpec, where: Mapping[YamlPath, str], name: str) -> InitialisationStudy:
    def at(*path: str | int) -> str:
        return place(where, path, name)

    for i, algorithm in enumerate(spec.algorithms):
        with Located(at("algorithms", i)):
            find_algorithm(algorithm)
    with Located(at("inner", "family")):
        family = find_family(spec.inner.family)
    space = _space(spec, family, at)
    if spec.search.resources.gpu:
        there = at("search", "resources", "gpu")
        raise ConfigError(f"{there}: starts are learned on the CPU, so that `gpu` must be 0, but got a share of one.")
    if all(_held(one) for one in space.values()):
        raise ConfigError(f"{at('inner')}: at least one parameter must have a range to search, but all are held.")
    with Located(at("episodes")):
        task = _task(spec)
    return InitialisationStudy(
        spec=spec, tasks=(task,), family=family, space=space, first=(_reference(spec, family, space, at),)
    )


def _space(spec: InitialisationStudySpec, family: Family, at: Callable[..., str]) -> dict[str, Range | Choice]:
    space: dict[str, Range | Choice] = {
        parameter.name: Range(low=parameter.search[0], high=parameter.search[1], log=parameter.log)
        for parameter in family.parameters
    }
    for key, value in spec.inner.ranges.items():
        with Located(at("inner", "ranges", key)):
            space[key] = searched(family, key, value)
    space["algorithm"] = Choice(names=tuple(dict.fromkeys(spec.algorithms)))
    space["outer_lr"] = _own_range(spec.outer_lr, at("outer_lr"), log=True)
    space["adam_lr"] = _own_range(spec.adam_lr, at("adam_lr"), log=True)
    space["inner_steps"] = _own_range(spec.inner.steps, at("inner", "steps"), log=False)
    return space


def _held(one: Range | Choice) -> bool:
    return len(one.names) == 1 if isinstance(one, Choice) else one.low == one.high


def _own_range(value: float | RangeSpec, there: str, *, log: bool) -> Range:
    """Of a rate (log) or of a whole number."""
    if isinstance(value, RangeSpec) and value.log not in (None, log):
        raise ConfigError(f"{there}: `log` must be {str(log).lower()} or left out there, but got {value.log!r}.")
    low, high = (value.low, value.high) if isinstance(value, RangeSpec) else (float(value), float(value))
    least = 0.0 if log else 1.0
    whole = log or (low.is_integer() and high.is_integer())
    if not (low <= high and (low > least or (low == least and not log)) and whole):
        rule = "0 < low <= high" if log else "1 <= low <= high, whole numbers,"
        raise ConfigError(f"{there}: `{rule}` must hold, but got low={low:g}, high={high:g}.")
    return Range(low=low, high=high, log=log, whole=not log)


def _reference(
    spec: InitialisationStudySpec, family: Family, space: Mapping[str, Range | Choice], at: Callable[..., str]
) -> FirstTrial:
    there, params = at("reference"), dict(spec.reference)
    if set(params) != set(space):
        raise ConfigError(
            f"{there}: `reference` must have the keys {', '.join(sorted(space))}, but has {', '.join(sorted(params))}."
        )
    for key, value in params.items():
        if value not in space[key]:
            rule = _text(key, space[key])
            raise ConfigError(f"{there}: the reference is always tried, so that {rule} must hold, but got {value!r}.")
    params["inner_steps"] = int(params["inner_steps"])
    schedule = NamedSchedule(name="reference", family=family.name, params=params, source=spec.name)  # type: ignore[arg-type]
    return FirstTrial(schedule=schedule, params=params)


def _text(key: str, space: Range | Choice) -> str:
    if isinstance(space, Choice):
        return f"`{key}` one of {', '.join(space.names)}"
    return f"`{space.low:g} <= {key} <= {space.high:g}`"


def _task(spec: InitialisationStudySpec) -> MetaTask:
    episodes, networks, learning = spec.episodes, spec.networks, spec.learning
    return MetaTask(
        name="adapted",
        train=tuple(_groups(one) for one in episodes.train),
        validation=tuple(_groups(one) for one in episodes.validation),
        test=tuple(_groups(one) for one in episodes.test),
        spec=PairSpec(
            network=networks.network,
            size=episodes.size,
            channels=episodes.channels,
            width=networks.width,
            z_dim=networks.z_dim,
            norm_g=networks.norm,
            norm_d=networks.norm,
            spectral_norm=False,
        ),
        loss=networks.loss,
        r1=networks.r1,
        corruptions=tuple(Corruption(**one.model_dump(exclude_none=True)) for one in episodes.corruption),
        shots=episodes.shots,
        query=episodes.query,
        batch=episodes.batch,
        meta_batch=learning.meta_batch,
        budget=learning.iterations,
        evaluations=spec.evaluations,
        adapt_steps=learning.adapt_steps,
        n_samples=learning.n_samples,
        features=learning.features,
    )


def _groups(spec: GroupsSpec) -> GroupSpec:
    data, classes = absolute_spec(spec.data), spec.classes
    if classes is None:
        return GroupSpec(data=data)
    if classes == "all":
        dataset = load_dataset(data)
        if dataset.y is None:
            raise ConfigError(f"`classes` must be left out of {spec.data!r}, whose images have none.")
        return GroupSpec(data=data, classes=tuple(dataset.y.unique().tolist()))
    if isinstance(classes, str):
        low, _, high = classes.partition("-")
        return GroupSpec(data=data, classes=tuple(range(int(low), int(high) + 1)))
    return GroupSpec(data=data, classes=tuple(classes))
