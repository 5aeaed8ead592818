"""A search that may take so long: what was evaluated by then counts."""

from pathlib import Path

import pytest
from search_checks import check_whole
from sessions import opened, work, work_all
from studies import metaopt, tiny_study, write_study

from metaopt.errors import ConfigError


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
    done = metaopt("search", study, "--out", out, *auto)
    assert done.returncode == 2
    assert "`search.gpu_budget_s` needs trials on a GPU, but is 10, and the cluster has no GPU." in done.stderr


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
    for settings, said in (
        (["search.trials=3"], ""),
        (
            ["search.trials=500", "search.time_budget_s=0.001"],
            "Ended after 3 of 500 trials: the time budget of 0.001 s was",
        ),
        (["search.trials=5"], ""),
    ):
        overrides = [part for setting in settings for part in ("--set", setting)]
        done = metaopt("search", study, "--out", out, "--resume", *overrides)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Leaderboard" in done.stdout and ("time budget" in done.stdout) == bool(said)
        assert said in done.stdout
    check_whole(out, "tiny", 5, n_points=21)
