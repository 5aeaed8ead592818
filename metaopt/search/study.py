"""A study as the search sees it: checked, frozen, and known by the key of its file."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from metaopt.errors import ConfigError
from metaopt.gan import Corruption, Task, task_from_spec
from metaopt.gan.datasets import same_files
from metaopt.meta import Objective
from metaopt.schedules import Family, NamedSchedule, as_point_of, find_family, find_schedule
from metaopt.search import yaml_file
from metaopt.search.initialisation_spec import InitialisationStudySpec
from metaopt.search.named_code import refuse_code
from metaopt.search.objectives import check_objectives
from metaopt.search.ranges import Range, searched
from metaopt.search.study_file import read_study
from metaopt.search.study_rules import check_search
from metaopt.search.study_spec import NO_PART_OF_THE_KEY, StudySpec, TaskSpec
from metaopt.search.validation import apply, place, validated
from metaopt.search.yaml_file import Document


@dataclass(frozen=True, kw_only=True)
class FirstTrial:
    """A published schedule as a point of the searched family."""

    schedule: NamedSchedule
    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Study:
    """A search: what varies, on which tasks, how long, with which sampler."""

    spec: StudySpec
    """The study as written, overrides applied."""
    tasks: tuple[Task, ...]
    family: Family
    space: Mapping[str, Range]
    """Parameter -> range, for every parameter of the family."""
    first: tuple[FirstTrial, ...]
    """The reference schedule and the baselines: trials 0, 1, ..."""
    validation: tuple[Task, ...] = ()
    """Tasks on which the winner is chosen."""
    members: tuple[Mapping[str, float], ...] = ()
    """With what the first members of a population begin, where another study has found it."""

    @property
    def name(self) -> str:
        """Name of the study and of its MLflow experiment."""
        return self.spec.name

    @property
    def reference(self) -> FirstTrial:
        """The schedule that the score is relative to: trial 0."""
        return self.first[0]

    @property
    def objective(self) -> Objective:
        """How the tasks' ratios become a score."""
        return Objective(name=self.spec.search.objective, tail=self.spec.search.tail)

    @property
    def objectives(self) -> tuple[str, ...]:
        """What is minimised; the score is the first."""
        return tuple(self.spec.search.objectives)

    @property
    def key(self) -> str:
        """Content key of the study: all but the number of trials, time, workers, validation and tracking.

        A schedule.json counts by what it holds.
        """
        left_out: Any = dict.fromkeys(("kind", "description", "tracking", "validation", "reference", "baselines"), True)
        left_out |= {"search": set(NO_PART_OF_THE_KEY), "schedule": {"start"}}
        search = self.spec.search
        left_out["search"] |= {  # younger than studies that are known by their key
            *(["pruner"] if search.pruner == "none" else []),
            *(["horizons"] if search.horizons == [1.0] else []),
            *(["objectives"] if search.objectives == ["quality"] else []),
            *(["population"] if search.population is None else []),
        }
        spec = self.spec.model_dump(exclude=left_out) | {"first": [dict(first.params) for first in self.first]}
        without_younger(spec)
        if search.population is not None:  # whose members are decided on together, and a folder counts by what it holds
            spec["search"]["population"]["first"] = [dict(params) for params in self.members]
            spec["search"]["trials"] = search.trials
        return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def without_younger(spec: dict[str, Any]) -> None:
    """Take keys out that are younger than studies which are known by their key, where they are not set."""
    resources = spec["search"]["resources"]
    if resources != "auto" and resources["memory_mb"] is None:
        del resources["memory_mb"]


def load_study(source: str, overrides: Sequence[str] = (), *, allow_import: bool = False) -> Study:
    """Read a study by name or path, and apply overrides like ``search.trials=20``.

    Raises:
        ConfigError: with file, line, rule and value, for anything that could not run as written, and for code that the
            file names, unless `allow_import`.
    """
    return study_from(*read_study(source, overrides, allow_import=allow_import))


def tasks_of(content: Mapping[str, Any], name: str, *, allow_import: bool = False) -> tuple[Task, ...]:
    """The training tasks of the study that a manifest holds; ConfigError where it is none. `name` is for messages.

    ConfigError as of `refuse_code`, unless `allow_import`.
    """
    if not allow_import:
        refuse_code(content, {}, name)
    spec = validated(StudySpec, Document(content=dict(content)), {}, name)
    return tuple(_task(spec, task, name) for task in spec.tasks)


def load_task(data: str, overrides: Sequence[str] = ()) -> Task:
    """A task as a study would have it, with overrides like ``loss=hinge`` or ``corruption.noise=0.2``.

    ConfigError for anything that could not run as written.
    """
    document, where = Document(content={"data": data}), dict[yaml_file.Path, str]()
    for override in overrides:
        apply(document, override, where)
    return _as_task(validated(TaskSpec, document, where, "task"))


def study_from(document: Document, where: Mapping[yaml_file.Path, str], name: str) -> Study:
    """The study that a document holds; `where` and `name` are for messages."""
    spec = validated(StudySpec, document, where, name)

    def at(*path: str | int) -> str:
        return place(where, path, name)

    tasks = tuple(_task(spec, task, at("tasks", i)) for i, task in enumerate(spec.tasks))
    for i, task in enumerate(tasks):
        if task.name in [other.name for other in tasks[:i]]:
            raise ConfigError(
                f"{at('tasks', i)}: names of tasks must differ, but `{task.name}` is there twice; set `name`."
            )
    if len(set(spec.seeds)) < len(spec.seeds):
        raise ConfigError(f"{at('seeds')}: `seeds` must differ, but got {spec.seeds!r}.")
    with Located(at("schedule", "family")):
        family = find_family(spec.schedule.family)
    space = {
        parameter.name: Range(low=parameter.search[0], high=parameter.search[1], log=parameter.log)
        for parameter in family.parameters
    }
    reference, there = spec.reference, at("reference")
    if spec.schedule.start is not None:
        reference, there = spec.schedule.start, at("schedule", "start")
        if "reference" in spec.model_fields_set:
            raise ConfigError(
                f"{at('reference')}: `reference` must be left out where `schedule.start` takes its place."
            )
        with Located(there):
            space |= _held(find_schedule(reference), family)
    for key, value in spec.schedule.ranges.items():
        with Located(at("schedule", "ranges", key)):
            space[key] = searched(family, key, value)
    check_search(spec, space, at)
    check_objectives(spec, tasks, at)
    first = [_first("reference", reference, family, space, there)]
    for i, baseline in enumerate(spec.baselines):
        if baseline in [other.schedule.name for other in first]:
            raise ConfigError(
                f"{at('baselines', i)}: `reference` and `baselines` must differ, but {baseline!r} is there twice."
            )
        first.append(_first("baseline", baseline, family, space, at("baselines", i)))
    for i, one in enumerate(first[1:]):
        if one.params in [other.params for other in first[: i + 1]]:
            twice = one.schedule.name
            raise ConfigError(
                f"{at('baselines', i)}: first trials must differ, but {twice!r} is there by another name."
            )
    if spec.search.trials < len(first):
        raise ConfigError(
            f"{at('search', 'trials')}: `search.trials` must be at least the {len(first)} reference schedules, "
            f"but got {spec.search.trials}."
        )
    return Study(
        spec=spec,
        tasks=tasks,
        family=family,
        space=space,
        first=tuple(first),
        validation=_validation(spec, tasks, at),
        members=_members(spec, space, first, at),
    )


def _members(
    spec: StudySpec, space: Mapping[str, Range], first: Sequence[FirstTrial], at: Callable[..., str]
) -> tuple[Mapping[str, float], ...]:
    """What the first members of a population begin with; none where there is no population."""
    if spec.search.population is None:
        return ()
    from metaopt.search.first_population import first_population  # which reads records of studies

    with Located(at("search", "population", "first")):
        return first_population(spec, space, [one.params for one in first])


def _validation(spec: StudySpec, tasks: Sequence[Task], at: Callable[..., str]) -> tuple[Task, ...]:
    """Tasks and seeds that the search has not seen."""
    if spec.validation is None:
        return ()
    found = tuple(_task(spec, task, at("validation", "tasks", i)) for i, task in enumerate(spec.validation.tasks))
    if not found:
        raise ConfigError(
            f"{at('validation', 'tasks')}: `validation.tasks` must hold a task, unless --leave-out moves one there, "
            "but there is none."
        )
    names = [task.name for task in (*tasks, *found)]
    for i, task in enumerate(found):
        if names.count(task.name) > 1:
            raise ConfigError(
                f"{at('validation', 'tasks', i)}: names of tasks must differ, but `{task.name}` is there twice."
            )
        if same_files(task.data) in [same_files(other.data) for other in tasks]:
            raise ConfigError(
                f"{at('validation', 'tasks', i)}: data sets of `validation` must be apart from those of `tasks`, "
                f"but `{task.data}` is one of them."
            )
    twice = set(spec.validation.seeds) & set(spec.seeds)
    if twice or len(set(spec.validation.seeds)) < len(spec.validation.seeds):
        raise ConfigError(
            f"{at('validation', 'seeds')}: `validation.seeds` must differ from each other and from `seeds`, "
            f"but got {spec.validation.seeds!r}."
        )
    return found


def _held(start: NamedSchedule, family: Family) -> dict[str, Range]:
    """What a start schedule fixes: the parameters that its own family has."""
    if as_point_of(start, family) is None:
        raise ConfigError(f"`start` must be a point of family {family.name!r}, but {start.name!r} is not.")
    own = {
        parameter.name
        for family in (find_family(start.family), find_family("constant"))
        for parameter in family.parameters
    }
    point = as_point_of(start, family) or {}
    return {name: Range(low=value, high=value, log=False) for name, value in point.items() if name in own}


class Located:
    """Put the place in front of a ConfigError."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ConfigError):
            raise type(error)(f"{self._place}: {error}") from error


def _task(spec: StudySpec, task: TaskSpec, where: str) -> Task:
    with Located(where):
        return _as_task(task, evaluations=spec.evaluations)


def _as_task(spec: TaskSpec, **fields: Any) -> Task:
    given = spec.model_dump(exclude={"data"}, exclude_none=True)
    if "metrics" in given:
        given["metrics"] = tuple(given["metrics"])
    if "corruption" in given:
        given["corruption"] = Corruption(**given["corruption"])
    return task_from_spec(spec.data, **fields, **given)


def _first(role: str, name: str, family: Family, space: Mapping[str, Range], place: str) -> FirstTrial:
    with Located(place):
        schedule = find_schedule(name)
        params = as_point_of(schedule, family)
        if params is None:
            raise ConfigError(f"the {role} {name!r} must be a point of family {family.name!r}, but it is not.")
        for key, value in params.items():
            if value not in space[key]:
                raise ConfigError(
                    f"the range of `{key}`, [{space[key].low:g}, {space[key].high:g}], must contain the "
                    f"{role} {name!r}, which is always tried, but there {key}={value:g}."
                )
        return FirstTrial(schedule=schedule, params=params)


def study_schema() -> str:
    """The JSON schema of study files, for editors; kept in the repository as study.schema.json (`make schema`)."""
    either: TypeAdapter[StudySpec | InitialisationStudySpec] = TypeAdapter(StudySpec | InitialisationStudySpec)
    return json.dumps(either.json_schema(), indent=2) + "\n"
