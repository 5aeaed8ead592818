"""Pruners: which candidates stop at which evaluation, and that a resumed search stops the same ones."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from sessions import opened, work_all
from studies import tiny_study, write_study

from metaopt.errors import ConfigError
from metaopt.search.optuna_space import TrialRow
from metaopt.search.study import load_study

SLOW = {"lr_g": {"low": 1e-6, "high": 1e-2}, "lr_d": 2e-4, "update_ratio": 1, "power": {"low": 0, "high": 1e-9}}
STUDY: dict[str, Any] = {
    "schedule": {"family": "power_decay", "ranges": SLOW | {"warmup": 0}},
    "evaluations": 4,
    "tasks": [{"data": "digits", "budget": 80, "n_samples": 100, "width": 12}],
}


def outcome(rows: list[TrialRow]) -> list[tuple[str, list[float]]]:
    return [(row.state, list(row.verdict.scores)) for row in rows if row.verdict]


@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median"])
def test_a_pruner_stops_some_and_says_where(tmp_path: Path, pruner: str) -> None:
    rows = work_all(opened(tmp_path, trials=14, pruner=pruner, **STUDY))
    assert len(rows) == 14
    pruned = [row for row in rows if row.state == "PRUNED"]
    assert pruned and any(row.state == "COMPLETE" for row in rows[1:])
    for row in pruned:
        assert row.verdict and row.verdict.score is None and row.verdict.status == "pruned"
        step = len(row.verdict.scores)
        assert step < 4
        said = f"pruned at evaluation {step} of 4, with a score of {row.verdict.scores[-1]:+.3f} there"
        assert row.verdict.reason.startswith(said)
    assert min(len(row.verdict.scores) for row in rows if row.verdict and row.state == "COMPLETE") == 4


def test_asha_is_that_of_its_definition(tmp_path: Path) -> None:
    rows = work_all(opened(tmp_path, trials=16, pruner="asha", **STUDY))
    seen: dict[int, list[float]] = {1: [], 3: []}  # evaluations 3^k: the rungs of a third
    for row in rows:
        assert row.verdict
        scores = list(row.verdict.scores)
        for rung, before in seen.items():
            if len(scores) < rung:
                break
            before.append(scores[rung - 1])
            best = sorted(before)[: max(1, len(before) // 3)]
            promoted = scores[rung - 1] <= best[-1]
            if row.number > 0:  # the reference is never pruned
                assert promoted == (len(scores) > rung), (row.number, rung, scores)


@pytest.mark.parametrize("how", [{"pruner": "asha"}, {"pruner": "hyperband"}, {"pruner": "median"}, {"racing": True}])
def test_resumed_search_stops_what_an_uninterrupted_one_stops(tmp_path: Path, how: dict[str, Any]) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    wild = {"family": "constant", "ranges": {"lr_d": {"low": 1e-4, "high": 4.0, "log": False}}}
    short = [{"data": "digits", "budget": 24, "n_samples": 60, "width": 12}]
    racing = STUDY | {"seeds": [0, 1, 2, 3, 4, 5], "schedule": wild, "tasks": short}
    several = racing if "racing" in how else STUDY
    expected = outcome(work_all(opened(whole, trials=14, **how, **several)))
    for jobs in (4, 3, 100):  # a new driver each time
        rows = work_all(opened(cut, trials=14, **how, **several), most=jobs)
    assert outcome(rows) == expected
    assert {state for state, _ in expected} >= {"COMPLETE", "PRUNED"}


def test_candidate_whose_driver_died_before_it_stopped_stops_at_the_same_evaluation(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    expected = outcome(work_all(opened(whole, trials=12, pruner="asha", **STUDY)))
    number = next(i for i, (state, _) in enumerate(expected) if state == "PRUNED")
    first = opened(cut, trials=12, pruner="asha", **STUDY)
    work_all(first, most=number)  # the reference and the candidates before it
    job = first.next_job("dies")
    assert job is not None and job.number == number
    from sessions import slices

    for part in slices(first, job):
        stop = first.to_be_stopped("dies", part)
        first.on_slice("dies", part)
        if stop:
            break  # asked and answered, and then the driver is gone
    assert outcome(work_all(opened(cut, trials=12, pruner="asha", **STUDY))) == expected


HORIZONS = STUDY | {"horizons": [0.1, 0.3, 1.0], "evaluations": 2}


def test_horizons_are_complete_trainings_of_their_own(tmp_path: Path) -> None:
    session = opened(tmp_path, trials=10, pruner="asha", seeds=[0, 1], **HORIZONS)
    assert [session.trainings.task(i).budget for i in range(6)] == [8, 8, 24, 24, 80, 80]
    assert [session.trainings.id(i) for i in (0, 3, 5)] == [("digits-at-0.1", 0), ("digits-at-0.3", 1), ("digits", 1)]
    assert session.stages == ((0, 1), (2, 3), (4, 5))
    rows = work_all(session)
    lengths = [len(row.verdict.scores) for row in rows if row.verdict]
    assert set(lengths) >= {1, 3} and lengths[0] == 3
    for row in rows:
        assert row.verdict
        complete = len(row.verdict.scores) == 3
        assert (row.state == "COMPLETE") == complete == (row.verdict.score is not None)
        if complete:
            assert set(row.verdict.fids) == {"digits/seed0", "digits/seed1"}
            assert row.verdict.score == row.verdict.scores[-1]
        else:
            assert row.verdict.reason.startswith(f"pruned at horizon {len(row.verdict.scores)} of 3")


def test_full_horizon_scores_as_a_study_without_shorter_ones(tmp_path: Path) -> None:
    plain, with_horizons = tmp_path / "plain", tmp_path / "horizons"
    for folder in (plain, with_horizons):
        folder.mkdir()
    expected = work_all(opened(plain, trials=8, **STUDY | {"evaluations": 2}))
    found = work_all(opened(with_horizons, trials=8, pruner="asha", **HORIZONS))
    assert [row.params for row in found] == [row.params for row in expected]
    whole = [row for row in found if row.state == "COMPLETE"]
    assert len(whole) > 1
    for row in whole:
        assert row.verdict and row.verdict.score == expected[row.number].verdict.score  # type: ignore[union-attr]


def test_each_horizon_is_a_rung(tmp_path: Path) -> None:
    rows = work_all(opened(tmp_path, trials=14, pruner="asha", **HORIZONS))
    seen: list[list[float]] = [[], [], []]
    for row in rows:
        assert row.verdict
        for rung, score in enumerate(row.verdict.scores):
            seen[rung].append(score)
            promoted = score <= sorted(seen[rung])[max(1, len(seen[rung]) // 3) - 1]
            if row.number > 0 and rung < 2:
                assert promoted == (len(row.verdict.scores) > rung + 1), (row.number, rung)


def test_published_schedules_run_to_their_ends(tmp_path: Path) -> None:
    study = STUDY | {"schedule": {"family": "power_decay"}, "baselines": ["ttur", "sagan", "wgan_gp"]}
    rows = work_all(opened(tmp_path, trials=8, pruner="asha", **study))
    assert [row.name for row in rows[:4]] == ["dcgan", "ttur", "sagan", "wgan_gp"]
    assert all(row.state == "COMPLETE" for row in rows[:4])


def test_pruned_trials_are_pruned_for_optuna_too(tmp_path: Path) -> None:
    rows = work_all(opened(tmp_path, trials=12, pruner="median", **STUDY))
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.journal"))
    )
    trials = optuna.load_study(study_name="tiny", storage=storage).trials
    for row, trial in zip(rows, trials, strict=True):
        assert row.verdict and list(trial.intermediate_values.values()) == list(row.verdict.scores)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search": {"trials": 4, "pruner": "asha", "racing": True}}, "`pruner` must be none where `racing` is true"),
        ({"search": {"trials": 4, "pruner": "median", "sampler": "es"}}, "`pruner` must be none for the sampler `es`"),
        ({"search": {"trials": 4, "horizons": [0.5, 1.0]}}, "`pruner` must not be none where there are several"),
        ({"search": {"trials": 4, "pruner": "asha", "horizons": [0.5]}}, "`horizons` must ascend to 1, but got"),
        ({"search": {"trials": 4, "pruner": "asha", "horizons": [0.5, 0.2, 1.0]}}, "`horizons` must ascend to 1"),
        ({"search": {"trials": 4, "pruner": "asha"}, "evaluations": 1}, "`evaluations >= 2` must hold for a pruner"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"study.yaml:\\d+: {said}"):
        load_study(str(write_study(tmp_path, tiny_study(**changes))))


def test_studies_without_a_pruner_keep_their_key(tmp_path: Path) -> None:
    plain = load_study(str(write_study(tmp_path, tiny_study())))
    spec = tiny_study()
    spec["search"] = spec["search"] | {"pruner": "none"}
    assert load_study(str(write_study(tmp_path, spec))).key == plain.key
    spec["search"] = spec["search"] | {"pruner": "asha"}
    assert load_study(str(write_study(tmp_path, spec))).key != plain.key
