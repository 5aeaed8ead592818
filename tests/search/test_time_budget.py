"""A search that may take so long: what was evaluated by then counts."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from commands import search_without_ray
from search_checks import check_whole
from sessions import opened, work, work_all
from studies import metaopt, tiny_study, write_study

from metaopt.errors import ConfigError
from metaopt.search.jobs import Slice


def test_trials_end_at_the_evaluation_after_which_time_is_over(tmp_path: Path) -> None:
    now = [0.0]
    session = opened(tmp_path, trials=6, time_budget_s=100.0, clock=lambda: now[0])
    for name in ("reference", "a"):
        job = session.next_job(name)
        assert job is not None
        work(session, name, job)
    job = session.next_job("b")
    assert job is not None and not session.budget.over()
    now[0] = 101.0
    work(session, "b", job)
    assert session.next_job("c") is None
    assert session.complete
    reference, whole, cut = session.rows()
    assert reference.state == whole.state == "COMPLETE"
    assert whole.verdict and whole.verdict.reason == ""
    assert cut.state == "PRUNED" and cut.verdict and len(cut.verdict.scores) == 1
    assert cut.verdict.reason.startswith("the time budget of 100 s was over")


def test_a_budget_of_gpu_seconds(tmp_path: Path) -> None:
    session = opened(tmp_path, trials=20, gpu_budget_s=0.12, resources={"gpu": 0.5})
    rows = work_all(session)  # each job says that it has taken 0.1 s
    assert session.complete and session.budget.over() == "the budget of 0.12 GPU-seconds was over"
    assert [row.state for row in rows] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert rows[2].verdict and len(rows[2].verdict.scores) == 1
    assert rows[2].verdict.reason.startswith("the budget of 0.12 GPU-seconds was over")


def test_gpu_seconds_without_a_gpu_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs trials on a GPU, .* but got 10 with `resources.gpu` of 0"):
        opened(tmp_path, gpu_budget_s=10)
    study, out = write_study(tmp_path, tiny_study()), tmp_path / "out"
    auto = ("--set", "search.gpu_budget_s=10", "--set", "search.resources=auto")
    done = metaopt("search", study, "--out", out, *auto, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2
    assert "`search.gpu_budget_s` needs trials on a GPU, but no node has one now" in done.stderr
    assert not (out / "footprints.json").exists()


def test_gpu_seconds_of_a_larger_share_and_of_a_dead_worker(tmp_path: Path) -> None:
    now = [0.0]
    session = opened(tmp_path, gpu_budget_s=10.0, resources={"gpu": 0.4}, clock=lambda: now[0])
    job = session.next_job("a")
    assert job is not None and not job.larger
    now[0] = 5.0
    session.on_death("a", "CUDA out of memory")
    assert not session.budget.over(seconds=19.9) and session.budget.over(seconds=20.1)  # 0.4 x 25 s
    assert session.next_job("b") == replace(job, larger=True)
    session.on_slice("b", Slice(records={}, wall_s=9.0))  # 0.4 x 5 s + 0.8 x 9 s
    assert not session.budget.over(seconds=1.9) and session.budget.over(seconds=2.1)
    assert not session.budget.over(seconds=0.9, larger=True) and session.budget.over(seconds=1.1, larger=True)


def test_nothing_is_counted_while_a_worker_is_looked_for(tmp_path: Path) -> None:
    now = [0.0]
    session = opened(tmp_path, gpu_budget_s=10.0, resources={"gpu": 1.0}, clock=lambda: now[0])
    assert session.next_job("a", placed=False)
    now[0] = 50.0
    session.on_death("a", "The node has gone")
    assert not session.budget.over()


def test_a_budget_that_is_over_before_any_score_is_no_ctrl_c(tmp_path: Path) -> None:
    study, out = write_study(tmp_path, tiny_study()), tmp_path / "out"
    done = metaopt("search", study, "--out", out, "--set", "search.time_budget_s=1e-6")
    assert done.returncode == 1
    assert "metaopt: No trial has a score, and the time budget of 1e-06 s was over." in done.stderr
    assert "Go on, with the budget anew, by: " in done.stderr
    assert "Stopped." not in done.stderr


def test_a_trial_that_ends_as_time_does_is_whole(tmp_path: Path) -> None:
    now = [0.0]
    session = opened(tmp_path, trials=6, time_budget_s=100.0, clock=lambda: now[0], evaluations=1)
    for name in ("reference", "a"):
        job = session.next_job(name)
        assert job is not None
        if name == "a":
            now[0] = 101.0
        work(session, name, job)
    assert [row.state for row in session.rows()] == ["COMPLETE", "COMPLETE"]
    assert [row.verdict.reason for row in session.rows() if row.verdict] == ["", ""]


def test_a_job_that_was_to_be_run_again_does_not_keep_a_study_open(tmp_path: Path) -> None:
    now = [0.0]
    session = opened(tmp_path, trials=6, time_budget_s=100.0, clock=lambda: now[0])
    for name in ("reference", "a"):
        job = session.next_job(name)
        assert job is not None
        work(session, name, job)
    assert session.next_job("b") is not None
    now[0] = 101.0
    assert not session.complete
    session.on_death("b", "killed")
    assert session.next_job("c") is None and session.complete


def test_more_time_is_the_same_study(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert opened(tmp_path / "a", time_budget_s=5.0).study.key == opened(tmp_path / "b").study.key


def test_without_a_score_it_is_not_complete(tmp_path: Path) -> None:
    session = opened(tmp_path, time_budget_s=1e-9)
    assert all(row.verdict is None for row in work_all(session))
    assert not session.complete


def test_a_search_whose_time_is_over_ends_well_and_goes_on(tmp_path: Path) -> None:
    study, out = write_study(tmp_path, tiny_study()), tmp_path / "out"
    begun = search_without_ray(study, "--out", out, "--set", "search.trials=3")
    overrides = ("--set", "search.trials=500", "--set", "search.time_budget_s=0.001")
    ended = metaopt("search", study, "--out", out, "--resume", *overrides)
    gone_on = search_without_ray(study, "--out", out, "--resume", "--set", "search.trials=5")
    for done in (begun, ended, gone_on):
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Leaderboard" in done.stdout and ("time budget" in done.stdout) == (done is ended)
    assert "Ended after 3 of 500 trials: the time budget of 0.001 s was" in ended.stdout
    check_whole(out, "tiny", 5, n_points=21)
