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


def test_resumed_search_stops_what_an_uninterrupted_one_stops(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    expected = outcome(work_all(opened(whole, trials=12, pruner="asha", **STUDY)))
    for jobs in (4, 3, 100):  # a new driver each time
        rows = work_all(opened(cut, trials=12, pruner="asha", **STUDY), most=jobs)
    assert outcome(rows) == expected
    assert {state for state, _ in expected} == {"COMPLETE", "PRUNED"}


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
