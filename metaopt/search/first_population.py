"""What a study with a population must be, and where its first members come from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metaopt.errors import ConfigError
from metaopt.schedules import NamedSchedule, as_point_of, find_family
from metaopt.schedules.steps import PIECES
from metaopt.search.export import scored, study_in
from metaopt.search.folder import study_folder
from metaopt.search.optuna_space import TrialRow, read_rows
from metaopt.search.population import followed
from metaopt.search.ranges import Range
from metaopt.search.study_spec import StudySpec

FAMILY = "constant"
"""Whose parameters may change in the middle of a training, and stay within it."""


def check_population(spec: StudySpec, at: Callable[..., str]) -> None:
    """ConfigError where a study has a population that could not be run; `at` gives the place of a key."""
    search, n_published = spec.search, 1 + len(spec.baselines)

    def refuse(key: str, rule: str) -> None:
        raise ConfigError(f"{at('search', key)}: {rule}")

    if spec.schedule.family != FAMILY:
        raise ConfigError(
            f"{at('schedule', 'family')}: `family` must be {FAMILY} for a population, whose controls change at the "
            f"evaluations, but got {spec.schedule.family}."
        )
    if "sampler" in search.model_fields_set:
        refuse(
            "sampler", f"`sampler` must be left out for a population, which proposes itself, but is {search.sampler}."
        )
    if search.pruner != "none":
        refuse("pruner", f"`pruner` must be none for a population, which replaces its worst, but is {search.pruner}.")
    if search.racing:
        refuse("racing", "`racing` must be false for a population, whose members train side by side, but is true.")
    for key, budget in (("time_budget_s", search.time_budget_s), ("gpu_budget_s", search.gpu_budget_s)):
        if budget is not None:
            refuse(
                key,
                f"`{key}` must be left out for a population, which has no winner before its last evaluation, but is "
                f"{budget:g}.",
            )
    if len(search.horizons) > 1:
        refuse("horizons", f"`horizons` must be left out for a population, but are {search.horizons!r}.")
    if len(search.objectives) > 1:
        refuse("objectives", f"`objectives` must be quality alone for a population, but are {search.objectives!r}.")
    if not 2 <= spec.evaluations <= PIECES:
        raise ConfigError(
            f"{at('evaluations')}: `2 <= evaluations <= {PIECES}` must hold for a population, but got "
            f"{spec.evaluations}."
        )
    if search.trials < n_published + 2:
        refuse(
            "trials",
            f"`search.trials` must be at least {n_published + 2}, the published schedules and two members of a "
            f"population, but got {search.trials}.",
        )
    population = search.population
    only_pbt = {"factors", "resample"} & (population.model_fields_set if population else set())
    if population and population.method != "pbt" and only_pbt:
        name = min(only_pbt)
        refuse(
            "population", f"`{name}` is for the method pbt and must be left out, but the method is {population.method}."
        )


def first_population(
    spec: StudySpec, space: Mapping[str, Range], published: Sequence[Mapping[str, float]]
) -> tuple[Mapping[str, float], ...]:
    """The best trials of the study in `search.population.first`, as many as there are members; none without it.

    Args:
        spec: the study of the population.
        space: parameter -> range, in which they must lie.
        published: trials of their own, which are no members.

    Raises:
        ConfigError: no study there, one that is not finished, or a trial that is no constant schedule in the ranges.
    """
    population = spec.search.population
    if population is None or population.first is None:
        return ()
    folder = study_folder(population.first)
    found: list[Mapping[str, float]] = []
    for row in _finished(folder):
        params = _constant(folder, row)
        if params not in [*published, *found]:
            _check_inside(folder, row, params, space)
            found.append(params)
    return tuple(found[: spec.search.trials - len(published)])


def _finished(folder: Path) -> list[TrialRow]:
    """The trials that count, best first."""
    manifest = study_in(folder)
    rows = read_rows(folder, manifest.name)
    n = sum(row.verdict is not None for row in rows)
    if n < manifest.spec["search"]["trials"]:
        raise ConfigError(
            f"`first` must be the folder of a finished study, but {folder} has {n} of "
            f"{manifest.spec['search']['trials']} trials."
        )
    if manifest.learns_starts:
        raise ConfigError(f"`first` must be the folder of a study of schedules, but {folder} is one of starts.")
    return [row for _, row in scored(rows)]


def _constant(folder: Path, row: TrialRow) -> Mapping[str, float]:
    family, params = followed(study_in(folder).family, row.params, row.verdict.intervals if row.verdict else ())
    found = as_point_of(NamedSchedule(name="", family=family, params=params, source=""), find_family(FAMILY))
    if found is None:
        raise ConfigError(
            f"`first` must be the folder of a study of constant schedules, but trial {row.number} of {folder} is one "
            f"of family {family}."
        )
    return found


def _check_inside(folder: Path, row: TrialRow, params: Mapping[str, Any], space: Mapping[str, Range]) -> None:
    for name, value in params.items():
        if value not in space[name]:
            where = space[name]
            raise ConfigError(
                f"the range of `{name}`, [{where.low:g}, {where.high:g}], must contain the first members, but in trial "
                f"{row.number} of {folder} it is {value:g}."
            )
