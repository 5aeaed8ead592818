"""The studies in search_spaces/."""

from metaopt.search.initialisation_study import load_any_study
from metaopt.search.study import load_study
from metaopt.search.study_file import names_of_studies


def test_each_can_be_run_by_its_name() -> None:
    assert {"smoke", "transfer_static", "init_characters", "robust"} <= set(names_of_studies())
    assert [load_any_study(name).name for name in names_of_studies()] == names_of_studies()


def test_those_that_are_compared_have_the_same_tasks_and_trials() -> None:
    static, *others = (load_study(f"transfer_{of}") for of in ("static", "open", "closed"))
    for other in others:
        assert (other.tasks, other.validation) == (static.tasks, static.validation)
        assert (other.spec.seeds, other.spec.evaluations) == (static.spec.seeds, static.spec.evaluations)
        assert (other.spec.search.trials, other.objective) == (static.spec.search.trials, static.objective)
        assert other.spec.validation and static.spec.validation
        assert set(other.spec.validation.seeds).isdisjoint(static.spec.validation.seeds)  # the start was lucky on those
