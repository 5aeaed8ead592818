"""Simulated searches do what real ones do, in the time that the recorded trainings took."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from past_searches import curve, made_up, past_search
from sessions import hashes, work_all
from studies import tiny_study, write_study

from metaopt.errors import ArtifactError, ConfigError
from metaopt.meta.reference import find
from metaopt.search.folder import references
from metaopt.search.optuna_space import Proposals, TrialRow, read_rows
from metaopt.search.past_study import check_same, read_past_study
from metaopt.search.session import Session
from metaopt.search.simulation import Simulation, simulate
from metaopt.search.study import Study, load_study
from metaopt.search.surrogate import Surrogate
from metaopt.tracking import NullTracker
from metaopt.tracking.spooled_curves import spooled_curves
from metaopt.training import Outcome

TASK = {"data": "digits", "budget": 24, "n_samples": 60, "width": 12}
WILD: dict[str, Any] = {  # some diverge
    "schedule": {"family": "constant", "ranges": {"lr_d": {"low": 1e-4, "high": 4.0, "log": False}}},
    "tasks": [TASK | {"name": "a"}, TASK | {"name": "b", "width": 8, "loss": "hinge"}],
    "seeds": [0, 1, 2],
    "evaluations": 4,
}
SEARCH = {"trials": 18, "seed": 5, "sampler": "random"}


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A finished random search of trainings of which some diverged."""
    folder = tmp_path_factory.mktemp("wild") / "past"
    return folder, past_search(folder, **WILD, search=SEARCH)


def with_search(folder: Path, changes: dict[str, Any], **search: Any) -> Study:
    content = tiny_study(**changes | {"search": SEARCH | search})
    return load_study(str(write_study(folder, content)))


def again(folder: Path, study: Study, workers: int = 1) -> Simulation:
    past = read_past_study(folder)
    check_same(study, past, folder)
    return simulate(study, past, Surrogate(past), workers)


def test_gpu_seconds_need_a_share_of_a_gpu(wild: tuple[Path, Study], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`search.gpu_budget_s` of 9 needs `resources.gpu`: .* `resources: auto`"):
        again(wild[0], with_search(tmp_path, WILD, gpu_budget_s=9, resources="auto"))
    whole = again(wild[0], with_search(tmp_path, WILD))
    half = again(wild[0], with_search(tmp_path, WILD, gpu_budget_s=whole.wall_s / 4, resources={"gpu": 0.5}))
    assert 0 < len(half.trials) < len(whole.trials)
    assert half.wall_s == pytest.approx(whole.wall_s / 2, rel=0.1)


def ends(rows: list[TrialRow]) -> list[tuple[int, str, float | None]]:
    return [(row.number, row.verdict.status, row.verdict.score) for row in rows if row.verdict]


def simulated_ends(of: Simulation) -> list[tuple[int, str, float | None]]:
    return sorted((trial.number, trial.status, trial.score) for trial in of.trials)


def test_the_same_search_is_replayed_to_the_last_digit(wild: tuple[Path, Study]) -> None:
    folder, study = wild
    rows = read_rows(folder, study.name)
    assert {row.verdict.status for row in rows if row.verdict} >= {"finished", "diverged"}
    for workers in (1, 3):
        found = again(folder, study, workers)
        assert simulated_ends(found) == ends(rows)
        assert all(trial.recorded for trial in found.trials)


def test_one_worker_takes_as_long_as_all_that_was_recorded(wild: tuple[Path, Study]) -> None:
    folder, study = wild
    kept = [found for path in references(folder).glob("*.json") if (found := find(path.parent, path.stem))]
    trials = [row.verdict.wall_s for row in read_rows(folder, study.name)[1:] if row.verdict]
    found = again(folder, study)
    assert found.wall_s == pytest.approx(sum(one.records[-1].wall_s for one in kept) + sum(trials))
    assert found.busy == pytest.approx(1.0)


@pytest.mark.parametrize("changes", [{"pruner": "asha"}, {"pruner": "median"}, {"racing": True}], ids=str)
def test_pruners_and_races_stop_what_they_stop_in_a_real_search(
    wild: tuple[Path, Study], tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder, _ = wild
    found = again(folder, with_search(tmp_path, WILD, **changes))
    real = work_all_of(tmp_path, **changes)
    assert simulated_ends(found) == ends(real)
    assert {trial.status for trial in found.trials} >= {"finished", "pruned"}
    assert found.wall_s < again(folder, with_search(tmp_path, WILD)).wall_s


def work_all_of(folder: Path, **search: Any) -> list[TrialRow]:
    """A real search with the same proposals."""
    study = with_search(folder, WILD, **search)
    out = folder / "real"
    out.mkdir()
    return work_all(Session(study, out, hashes(study), Proposals(out, study), NullTracker()))


def test_horizons_that_were_recorded_are_replayed(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"tasks": [TASK], "evaluations": 2}
    search = SEARCH | {"pruner": "asha", "horizons": [0.2, 0.5, 1.0]}
    study = past_search(tmp_path / "past", **changes, search=search)
    rows = read_rows(tmp_path / "past", study.name)
    assert {row.state for row in rows} == {"COMPLETE", "PRUNED"}
    assert simulated_ends(again(tmp_path / "past", study)) == ends(rows)
    fewer = with_search(tmp_path, changes, pruner="asha", horizons=[0.5, 1.0])
    assert len(again(tmp_path / "past", fewer).trials) == SEARCH["trials"]
    other = with_search(tmp_path, changes, pruner="asha", horizons=[0.4, 1.0])
    with pytest.raises(ConfigError, match=r"`horizons` are \[0\.2, 0\.5, 1\.0\] there, but \[0\.4, 1\.0\] here"):
        again(tmp_path / "past", other)


@pytest.mark.parametrize(
    ("workers", "wall_s", "busy"), [(1, 18, 1), (2, 10, 0.9), (3, 6, 1), (4, 6, 0.75), (100, 2, 0.09)]
)
def test_clock_of_trials_that_take_two_seconds_each(tmp_path: Path, workers: int, wall_s: int, busy: float) -> None:
    study = load_study(str(write_study(tmp_path, tiny_study(search=SEARCH | {"trials": 9}))))
    past = made_up(study, [(study.reference.params, [curve(50, 40)], 1.0)])  # all is answered by the reference
    found = simulate(study, past, Surrogate(past), workers)
    assert found.wall_s == wall_s
    assert found.busy == pytest.approx(busy)
    assert [trial.ended_s for trial in found.trials] == sorted(2 * (n // workers + 1) for n in [0, *range(1, 9)])
    assert [trial.best for trial in found.trials] == [0.0] * 9
    assert len(found.at(1.9)) == 0 and len(found.at(wall_s)) == 9


def test_training_that_diverges_takes_the_time_until_then(tmp_path: Path) -> None:
    study = load_study(str(write_study(tmp_path, tiny_study(search=SEARCH | {"trials": 5}))))
    lost = curve(outcome=Outcome.DIVERGED)
    first = dict(study.reference.params)
    past = made_up(study, [(first, [curve(50, 40)], 1.0), (first | {"lr_g": 1e-2, "lr_d": 1e-2}, [lost], 1.0)])
    found = simulate(study, past, Surrogate(past, n_neighbours=1), workers=1)
    n_lost = sum(trial.status == "diverged" for trial in found.trials)
    assert 0 < n_lost < 4
    assert found.wall_s == 2 * (5 - n_lost) + n_lost
    for trial in found.trials:  # ln(100 / 40), of the untrained generator
        assert trial.score == pytest.approx(0.9163 if trial.status == "diverged" else 0.0, abs=1e-4)
    assert all(trial.best == 0.0 for trial in found.trials)


def test_score_is_known_when_the_references_are(tmp_path: Path) -> None:
    study = load_study(str(write_study(tmp_path, tiny_study(seeds=[0, 1], search=SEARCH | {"trials": 3}))))
    first = dict(study.reference.params)
    past = made_up(study, [(first, [curve(50, 40), curve(50, 40)], 1.0)])
    past = replace(past, seconds={0: [1.0, 1.0], 1: [10.0, 10.0]})
    found = simulate(study, past, Surrogate(past), workers=4)
    assert [trial.ended_s for trial in found.trials] == [20.0, 22.0, 22.0]  # a candidate does both trainings
    past = replace(
        past, trials=[*past.trials, replace(past.trials[0], number=1, params=first | {"lr_g": 5e-3}, pace=0.1)]
    )
    found = simulate(study, past, Surrogate(past, n_neighbours=1), workers=4)
    assert min(trial.ended_s for trial in found.trials) == 20.0


def test_time_budget_is_of_simulated_seconds(tmp_path: Path) -> None:
    study = load_study(str(write_study(tmp_path, tiny_study(search=SEARCH | {"trials": 9, "time_budget_s": 7.0}))))
    past = made_up(study, [(study.reference.params, [curve(50, 40)], 1.0)])
    found = simulate(study, past, Surrogate(past), workers=1)
    assert [(trial.status, trial.ended_s) for trial in found.trials] == [
        ("finished", 2.0), ("finished", 4.0), ("finished", 6.0), ("pruned", 7.0),
    ]  # fmt: skip


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "es", "gp"])
def test_the_same_seed_is_the_same_simulation(wild: tuple[Path, Study], tmp_path: Path, sampler: str) -> None:
    study = with_search(tmp_path, WILD, sampler=sampler, trials=50)
    first = again(wild[0], study, workers=4)
    assert first == again(wild[0], study, workers=4)
    assert not all(trial.recorded for trial in first.trials)


def test_a_past_that_pruned_can_be_simulated_from(tmp_path: Path) -> None:
    changes = {"tasks": [TASK], "evaluations": 4}
    study = past_search(tmp_path / "past", **changes, search=SEARCH | {"pruner": "asha"})
    found = again(tmp_path / "past", study)
    assert simulated_ends(found) == ends(read_rows(tmp_path / "past", study.name))
    whole = again(tmp_path / "past", with_search(tmp_path, changes))
    assert {trial.status for trial in whole.trials} == {"finished"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluations": 3}, "`evaluations` is 4 there, but 3 here"),
        ({"seeds": [0, 2]}, r"`seeds` is \[0, 1, 2\] there, but \[0, 2\] here"),
        ({"tasks": [TASK | {"name": "a"}]}, "task b is there alone"),
        (
            {"tasks": [WILD["tasks"][0] | {"width": 16}, WILD["tasks"][1]]},
            "task a is here alone, or has other settings",
        ),
        ({"schedule": {"family": "power_decay"}}, "`family` is constant there, but power_decay here"),
        ({"reference": "ttur"}, "the reference is dcgan there, but ttur here"),
        (
            {"schedule": {"family": "constant", "ranges": {"lr_d": {"low": 1e-4, "high": 9.0, "log": False}}}},
            r"`lr_d` was searched in \[0.0001, 4\], but is in \[0.0001, 9\] here",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_was_not_recorded_is_refused_by_name(
    wild: tuple[Path, Study], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        again(wild[0], with_search(tmp_path, WILD | changes))


def test_all_that_differs_is_named_at_once(wild: tuple[Path, Study], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`evaluations` is .*; `seeds` is .*; the reference is "):
        again(wild[0], with_search(tmp_path, WILD | {"evaluations": 3, "seeds": [7], "reference": "ttur"}))


def test_populations_are_refused(wild: tuple[Path, Study], tmp_path: Path) -> None:
    members = {"trials": 9, "seed": 5, "population": {"method": "pbt"}}
    population = load_study(str(write_study(tmp_path, tiny_study(**WILD | {"search": members}))))
    with pytest.raises(ConfigError, match=r"`search\.population` must be left out here and in the study in"):
        again(wild[0], population)
    past = read_past_study(wild[0])
    with pytest.raises(ConfigError, match=r"`search\.population` must be left out here and in the study in"):
        check_same(past.study, replace(past, study=population), wild[0])


def test_narrower_ranges_and_more_trials_are_allowed(wild: tuple[Path, Study], tmp_path: Path) -> None:
    narrower = {"schedule": {"family": "constant", "ranges": {"lr_d": {"low": 1e-4, "high": 3.0, "log": False}}}}
    assert len(again(wild[0], with_search(tmp_path, WILD | narrower, trials=30)).trials) == 30


def test_folder_without_a_finished_reference_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be the folder of a study"):
        read_past_study(tmp_path)
    past_search(tmp_path / "past", search=SEARCH | {"trials": 2})
    for path in references(tmp_path / "past").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="references must hold all reference trainings"):
        read_past_study(tmp_path / "past")
    (tmp_path / "past" / "spool" / "events.jsonl").write_text("{}\n")
    with pytest.raises(ArtifactError, match=r"must begin with a metaopt\.spool/1 header"):
        read_past_study(tmp_path / "past")
    (tmp_path / "past" / "spool" / "events.jsonl").unlink()
    with pytest.raises(ArtifactError, match="must be the spool of a study, but cannot be read: No such file"):
        read_past_study(tmp_path / "past")


def test_curves_of_a_spool_have_each_step_once(tmp_path: Path) -> None:
    def log(uid: str, *points: tuple[str, float, int]) -> str:
        listed = ", ".join(f'["{key}", {value}, {step}, 5]' for key, value, step in points)
        return f'{{"kind": "log", "uid": "{uid}", "points": [{listed}]}}\n'

    lines = [
        '{"format": "metaopt.spool/1", "uid": "x"}\n',
        log("s-00001", ("a/fid", 9, 0), ("a/loss_d", 1, 0), ("a/fid", 8, 10), ("b/fid", 7, 0)),
        log("s-00001", ("a/fid", 9, 0), ("a/fid", 8, 10), ("a/fid", 6, 20)),  # run once more
        log("s-00002", ("a/fid", 5, 0), ("a/fidelity", 5, 0)),
        '{"kind": "log", "uid": "s-00002", "points": [["a/fid", 4, 1',  # torn
    ]
    (tmp_path / "events.jsonl").write_text("".join(lines))
    assert spooled_curves(tmp_path / "events.jsonl", "fid") == {
        "s-00001": {"a/fid": [9, 8, 6], "b/fid": [7]},
        "s-00002": {"a/fid": [5]},
    }
