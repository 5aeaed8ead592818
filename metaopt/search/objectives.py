"""What a study minimises: the score alone, or several numbers of which none can be had without the others."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from metaopt.errors import ConfigError
from metaopt.gan import Task
from metaopt.meta import TrainingCurve, score
from metaopt.meta.compute import log_compute
from metaopt.search.problems import Problem
from metaopt.search.study_spec import StudySpec

if TYPE_CHECKING:
    from metaopt.search.initialisation_study import AnyStudy
    from metaopt.search.trainings import Trainings

QUALITY, COMPUTE, ROBUSTNESS = "quality", "compute", "robustness"
SEVERAL_SAMPLERS = ("tpe", "random", "gp", "nsga2")
"""Those that can propose for several objectives."""
_FEWEST_EVALUATIONS = 4


def counts_for_quality(objectives: Sequence[str], task: Problem) -> bool:
    """Whether `quality` looks at a task: at those without corruption where `robustness` looks at the others."""
    return ROBUSTNESS not in objectives or not isinstance(task, Task) or task.corruption.off


def measured(
    study: "AnyStudy",
    trainings: "Trainings",
    curves: Mapping[int, TrainingCurve],
    reference: Mapping[int, TrainingCurve],
) -> dict[str, float]:
    """Each objective of a trial that has ended, in the study's order; empty where there is but one, the score.

    `quality` is the score, of tasks without corruption alone if `robustness`, the same of those with corruption, is an
    objective too; `compute` is `log_compute` over all trainings. Lower is better, and the reference has 0 in the first
    two, and at most 0 in `compute`.
    """
    n = study.spec.evaluations

    def scored(clean: bool) -> float:
        some = [i for i in trainings.at(-1) if counts_for_quality(study.objectives, trainings.task(i)) == clean]
        ours, theirs = ({trainings.id(i): of[i] for i in some} for of in (curves, reference))
        return score(ours, theirs, n, study.objective)

    def compute() -> float:
        ours, theirs = ({trainings.id(i): of[i] for i in trainings.at(-1)} for of in (curves, reference))
        return log_compute(ours, theirs, n)

    measures: Mapping[str, Callable[[], float]] = {
        QUALITY: lambda: scored(True),
        COMPUTE: compute,
        ROBUSTNESS: lambda: scored(False),
    }
    return {} if len(study.objectives) == 1 else {name: measures[name]() for name in study.objectives}


def check_objectives(spec: StudySpec, tasks: Sequence[Task], at: Callable[..., str]) -> None:
    """ConfigError where a study cannot have its objectives; `at` says where a key stands."""
    objectives, there, search = spec.search.objectives, at("search", "objectives"), spec.search
    if objectives[:1] != [QUALITY] or len(set(objectives)) < len(objectives):
        raise ConfigError(f"{there}: `objectives` must begin with quality and differ, but got {objectives!r}.")
    several = len(objectives) > 1
    if several and search.sampler not in SEVERAL_SAMPLERS:
        raise ConfigError(
            f"{at('search', 'sampler')}: `sampler` must be one of {', '.join(SEVERAL_SAMPLERS)} for several "
            f"`objectives`, but got {search.sampler}."
        )
    if not several:
        if search.sampler == "nsga2":
            raise ConfigError(f"{at('search', 'sampler')}: `objectives` must be several for nsga2, but is one.")
        return
    for key, refused in (("pruner", search.pruner != "none"), ("racing", search.racing)):
        if refused:
            raise ConfigError(
                f"{at('search', key)}: `{key}` must be left out where there are several `objectives`, as it stops "
                f"trials by one of them, but got {getattr(search, key)}."
            )
    if spec.validation is not None:
        raise ConfigError(
            f"{at('validation')}: `validation` must be left out where there are several `objectives`, as there is no "
            "single winner to choose."
        )
    if COMPUTE in objectives and spec.evaluations < _FEWEST_EVALUATIONS:
        raise ConfigError(
            f"{there}: `evaluations >= {_FEWEST_EVALUATIONS}` must hold for the objective compute, "
            f"but got {spec.evaluations}."
        )
    if ROBUSTNESS in objectives and len({task.corruption.off for task in tasks}) == 1:
        raise ConfigError(
            f"{there}: `tasks` must be both with and without `corruption` for the objective robustness, but all are "
            f"{'without' if tasks[0].corruption.off else 'with'}."
        )
