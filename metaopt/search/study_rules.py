"""What the keys of a study's `search` must be to one another."""

from collections.abc import Callable, Mapping

from metaopt.errors import ConfigError
from metaopt.search.ranges import Range
from metaopt.search.study_spec import StudySpec


def check_search(spec: StudySpec, space: Mapping[str, Range], at: Callable[..., str]) -> None:
    """ConfigError where they do not go together; `at` gives the place of a key."""
    if all(where.low == where.high for where in space.values()):
        raise ConfigError(f"{at('schedule')}: at least one parameter must have a range to search, but all are held.")
    if spec.search.population is not None:
        from metaopt.search.first_population import check_population

        check_population(spec, at)
    resources, gpu_s = spec.search.resources, spec.search.gpu_budget_s
    if gpu_s is not None and not isinstance(resources, str) and not resources.gpu:
        raise ConfigError(
            f"{at('search', 'gpu_budget_s')}: `gpu_budget_s` needs trials on a GPU, by `resources.gpu` or `resources: "
            f"auto`, but got {gpu_s:g} with `resources.gpu` of 0."
        )
    _check_horizons(spec, at("search", "horizons"))
    if spec.search.pruner != "none":
        _check_pruner(spec, at)
    if spec.search.racing and spec.search.sampler == "es":
        raise ConfigError(
            f"{at('search', 'racing')}: `racing` must be false for the sampler `es`, which compares its pairs on "
            "all trainings, but got true."
        )


def _check_horizons(spec: StudySpec, there: str) -> None:
    horizons = spec.search.horizons
    if not horizons or horizons != sorted(set(horizons)) or horizons[-1] != 1:
        raise ConfigError(f"{there}: `horizons` must ascend to 1, but got {horizons!r}.")
    if len(horizons) > 1 and spec.search.pruner == "none":
        raise ConfigError(f"{there}: `pruner` must not be none where there are several `horizons`, but is.")


def _check_pruner(spec: StudySpec, at: Callable[..., str]) -> None:
    there, pruner = at("search", "pruner"), spec.search.pruner
    if spec.search.racing:
        raise ConfigError(f"{there}: `pruner` must be none where `racing` is true, but got {pruner}.")
    if spec.search.sampler == "es":
        raise ConfigError(
            f"{there}: `pruner` must be none for the sampler `es`, which compares its pairs on all trainings, "
            f"but got {pruner}."
        )
    if spec.evaluations < 2 and len(spec.search.horizons) == 1:
        raise ConfigError(f"{there}: `evaluations >= 2` must hold for a pruner, but got {spec.evaluations}.")
