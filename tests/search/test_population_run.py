"""A population's driver, worked through without Ray: the winner's lineage is a training, and stops change nothing."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from populations import interval_of, outcome, population_study, session_of, train, train_all

from metaopt.schedules import Controls, Signals, build_schedule, load_schedule
from metaopt.search.folder import trial_folder
from metaopt.search.generations import Decision, Generations
from metaopt.search.jobs import Job, Slice
from metaopt.search.population import Step
from metaopt.search.session import Session
from metaopt.training import train as train_from_scratch

METHODS = pytest.mark.parametrize("method", ["pbt", "pb2"])


def finished(folder: Path, content: dict[str, Any]) -> Session:
    folder.mkdir(exist_ok=True)
    session = session_of(folder, content)
    train_all(session)
    assert session.complete
    return session


def advanced(session: Session, until: Callable[[Job], bool]) -> Job:
    """Work on jobs until one is handed out that the caller has a use for."""
    for k in range(100):
        job = session.next_job(f"job {k}")
        assert job is not None
        if until(job):
            return job
        train(session, f"job {k}", job)
    raise AssertionError("there was no such job")


@METHODS
def test_a_schedule_trained_from_scratch_is_the_member_bit_for_bit(tmp_path: Path, method: str) -> None:
    tasks = [
        {"data": "digits", "name": "small", "budget": 60, "n_samples": 100, "width": 12},
        {"data": "digits", "name": "hinge", "budget": 45, "n_samples": 100, "width": 8, "loss": "hinge", "ema": 0.2},
    ]
    session = finished(tmp_path, population_study(method, tasks=tasks, seeds=[0, 1], share=0.5))
    assert session.population is not None
    copied = [row for row in session.rows() if row.verdict and row.verdict.copied]
    assert len(copied) >= 2, "nobody was copied: the test would show nothing"
    for row in session.rows()[1:]:
        artifact = load_schedule(trial_folder(tmp_path, row.number) / "schedule.json")
        assert artifact.family == "steps"
        for i, records in session.population.records(row.number).items():
            task, seed = session.trainings.task(i), session.trainings.id(i)[1]
            assert list(train_from_scratch(task, build_schedule(artifact.family, artifact.params), seed)) == records


def test_a_copy_has_steps_in_its_schedule_and_says_whose_they_are(tmp_path: Path) -> None:
    session = finished(tmp_path, population_study(share=0.5))
    row = next(row for row in session.rows() if row.verdict and row.verdict.copied)
    assert row.verdict is not None
    schedule = load_schedule(trial_folder(tmp_path, row.number) / "schedule.json")
    intervals = row.verdict.intervals
    assert [one["evaluation"] for one in intervals] == [1, 2, 3]
    for one in intervals:
        middle = Signals(progress=(one["evaluation"] - 0.5) / 3)
        assert schedule.step((), middle)[1] == Controls(**one["params"])
    assert any(a["params"] != b["params"] for a, b in pairwise(intervals))
    assert intervals[-1]["trial"] == row.number
    last = max(map(int, row.verdict.copied))
    assert intervals[last - 1]["trial"] == row.verdict.copied[str(last)] != row.number


@METHODS
def test_drivers_that_stop_after_each_job_end_as_one_that_never_did(tmp_path: Path, method: str) -> None:
    content = population_study(method, share=0.5)
    undisturbed = outcome(finished(tmp_path / "whole", content).rows())
    (tmp_path / "stopped").mkdir()
    for k in range(100):
        session = session_of(tmp_path / "stopped", content)
        job = session.next_job(str(k))
        if job is None:
            break
        train(session, str(k), job)
    assert k > 10 and session.complete
    assert outcome(session.rows()) == undisturbed


@pytest.mark.parametrize("n", range(0, 14, 3))
def test_a_driver_that_dies_with_jobs_in_the_hands_of_workers(tmp_path: Path, n: int) -> None:
    """Some of them have reported, some not; all that was decided stays, and what was not kept is trained again."""
    content = population_study()
    undisturbed = outcome(finished(tmp_path / "whole", content).rows())
    (tmp_path / "dead").mkdir()
    first = session_of(tmp_path / "dead", content)
    train_all(first, n)
    held = [(str(k), job) for k in range(100, 103) if (job := first.next_job(str(k)))]
    for job_id, job in held[:1]:
        for part in interval_of(first, job) if job.kind == "interval" else ():
            first.on_slice(job_id, part)
    second = session_of(tmp_path / "dead", content)
    train_all(second)
    assert second.complete
    assert outcome(second.rows()) == undisturbed


def test_all_members_have_reached_an_evaluation_before_one_goes_on(tmp_path: Path) -> None:
    session = session_of(tmp_path, population_study())
    assert session.population is not None
    reference = session.next_job("r")
    handed = [job for k in range(4) if (job := session.next_job(str(k)))]
    assert reference is not None and reference.kind == "reference"
    assert [(job.kind, job.number, job.evaluation) for job in handed] == [("interval", n, 1) for n in (1, 2, 3, 4)]
    for k, job in enumerate(handed):
        train(session, str(k), job)
    wait = session.next_job("w")
    assert wait is not None and wait.kind == "wait", "the reference, which scores are relative to, is being trained"
    train(session, "r", reference)
    job = session.next_job("x")
    assert job is not None and (job.number, job.evaluation, job.since) == (1, 2, 1)
    assert session.population.news[0].startswith("evaluation 1 of 3: best ")


def test_saved_trainings_of_two_evaluations_are_kept_and_none_in_the_end(tmp_path: Path) -> None:
    content = population_study() | {"evaluations": 5}
    session = session_of(tmp_path, content)
    for k in (2, 3, 4, 5):
        advanced(session, lambda job, k=k: job.evaluation == k)  # type: ignore[misc]
        session = session_of(tmp_path, content)  # that job is handed out again
        kept = {int(path.name.split("-")[1]) for path in (tmp_path / "population").glob("*.pt")}
        assert kept == {k - 2, k - 1} - {0}
    train_all(session)
    assert session.complete
    assert list((tmp_path / "population").glob("*.pt")) == []


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "flipped": lambda path: path.write_bytes(
        bytes([path.read_bytes()[0], path.read_bytes()[1] ^ 1]) + path.read_bytes()[2:]
    ),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize(("damaged", "since"), [([2], 1), ([1, 2], 0)])
def test_a_damaged_save_is_passed_over_for_an_older_one_and_said(
    tmp_path: Path, how: str, damaged: list[int], since: int
) -> None:
    content = population_study()
    undisturbed = finished(tmp_path / "whole", content).rows()
    (tmp_path / "damaged").mkdir()
    session = session_of(tmp_path / "damaged", content)
    job = advanced(session, lambda job: job.evaluation == 3)
    session = session_of(tmp_path / "damaged", content)
    for evaluation in damaged:
        for path in (tmp_path / "damaged" / "population").glob(f"*-{evaluation:02d}-*.pt"):
            DAMAGE[how](path)
    again = session.next_job("again")
    assert again is not None
    assert (again.number, again.evaluation, again.since) == (job.number, 3, since)
    train(session, "again", again)
    rows = train_all(session)
    said = "the trainings saved at evaluation 2 were damaged or gone, and trained again from "
    said += "evaluation 1" if since else "the beginning"
    for before, after in zip(undisturbed[1:], rows[1:], strict=True):
        assert before.verdict and after.verdict
        assert (before.params, before.verdict.scores) == (after.params, after.verdict.scores)
        assert before.verdict.intervals == after.verdict.intervals
        assert after.verdict.reason.startswith(said)
    assert session.population is not None and f"trial {job.number}: {said}" in session.population.news


def test_a_torn_record_or_decision_is_made_again(tmp_path: Path) -> None:
    content = population_study()
    undisturbed = outcome(finished(tmp_path / "whole", content).rows())
    (tmp_path / "torn").mkdir()
    advanced(session_of(tmp_path / "torn", content), lambda job: job.evaluation == 3)
    for name in ("00002-01.json", "00003-02.json", "decided-02.json"):
        path = tmp_path / "torn" / "population" / name
        text = path.read_text()
        path.write_text(text[:-20] if "-02" in name else text.replace("0.", "1.", 1))
    session = session_of(tmp_path / "torn", content)
    train_all(session)
    assert session.complete
    assert [(row[:3], row[3]["scores"], row[3]["intervals"]) for row in outcome(session.rows())] == [
        (row[:3], row[3]["scores"], row[3]["intervals"]) for row in undisturbed
    ]


def test_a_decision_that_was_kept_is_not_taken_again(tmp_path: Path) -> None:
    """Another machine may differ in the last bit; what is trained must follow from what was decided."""
    content = population_study()
    advanced(session_of(tmp_path, content), lambda job: job.evaluation == 2)
    kept = Generations(tmp_path)
    decision = kept.decision(1)
    assert decision is not None
    steps = {n: Step(source=step.source, params={**step.params, "lr_g": 1.5e-3}) for n, step in decision.steps.items()}
    kept.decide(1, Decision(standings=decision.standings, steps=steps))
    job = advanced(session_of(tmp_path, content), lambda job: job.evaluation == 2)
    assert job.params["lr_g_1"] == 1.5e-3


def test_an_interval_of_a_dead_worker_is_handed_out_once_more_then_the_member_is_out(tmp_path: Path) -> None:
    session = session_of(tmp_path, population_study())
    job = advanced(session, lambda job: (job.number, job.evaluation) == (2, 2))
    job_id = next(job_id for job_id, running in session._running.items() if running.job is job)
    session.on_death(job_id, "killed")
    again = session.next_job("again")
    assert again is job and again.start, "what it goes on from was kept for the second try"
    session.on_death("again", "killed again")
    rows = train_all(session)
    assert session.complete
    assert [row.state for row in rows] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert rows[2].verdict and (rows[2].verdict.status, rows[2].verdict.reason) == ("error", "killed again")
    assert session.population is not None
    for decision in session.population._past[1:]:
        assert [one.number for one in decision.standings] == [1, 3, 4]


def test_a_member_that_has_diverged_is_replaced_and_lives_again(tmp_path: Path) -> None:
    ranges = {"lr_g": 2e-4, "lr_d": {"low": 1e-4, "high": 5.0, "log": False}}
    content = population_study(trials=7, share=0.5, schedule={"family": "constant", "ranges": ranges})
    session = finished(tmp_path, content)
    assert session.population is not None
    n_diverged = 0
    for number in range(1, 7):
        done = session.population._find(number, 1)
        assert done is not None
        n_diverged += done.records[0][-1].outcome is not None
    assert 2 <= n_diverged < 6
    statuses = [row.verdict.status for row in session.rows() if row.verdict]
    assert statuses.count("diverged") < n_diverged


def test_a_worker_without_work_waits_until_the_evaluation_has_decided(tmp_path: Path) -> None:
    """Else its process would be let go, and another one started for the next interval."""
    session = session_of(tmp_path, population_study())
    advanced(session, lambda job: (job.number, job.evaluation) == (3, 1))
    last = session.next_job("last")
    assert last is not None and (last.number, last.evaluation) == (4, 1)
    wait = session.next_job("wait")
    assert wait is not None and wait.kind == "wait"
    nothing = Slice(records={}, wall_s=0.0)
    (held,) = [job_id for job_id, running in session._running.items() if running.job.number == 3]
    train(session, held, session._running[held].job)
    assert not session.to_be_stopped("wait", nothing)
    for part in interval_of(session, last):
        session.on_slice("last", part)
    session.on_end("last")
    assert session.to_be_stopped("wait", nothing)
    session.on_slice("wait", nothing)
    session.on_end("wait")
    handed = [session.next_job(str(k)) for k in range(4)]
    assert {(job.number, job.evaluation) for job in handed if job} == {(n, 2) for n in (1, 2, 3, 4)}


def test_no_worker_waits_while_a_job_needs_its_place(tmp_path: Path) -> None:
    """Jobs without a worker would wait for places that only waiting workers have, for ever."""
    session = session_of(tmp_path, population_study())
    advanced(session, lambda job: (job.number, job.evaluation) == (3, 1))
    assert session.next_job("last", placed=False) is not None
    assert session.next_job("w") is None
    session.on_placed("last", True)
    wait = session.next_job("w")
    assert wait is not None and wait.kind == "wait"
    session.on_placed("last", False)
    assert session.to_be_stopped("w", Slice(records={}, wall_s=0.0))


def test_a_worker_that_waits_takes_over_from_one_that_dies(tmp_path: Path) -> None:
    session = session_of(tmp_path, population_study())
    job = advanced(session, lambda job: (job.number, job.evaluation) == (4, 1))
    wait = session.next_job("wait")
    assert wait is not None and wait.kind == "wait"
    (held,) = [job_id for job_id, running in session._running.items() if running.job is job]
    session.on_death(held, "killed")
    assert session.to_be_stopped("wait", Slice(records={}, wall_s=0.0))
    session.on_death("wait", "killed, too")
    assert session.next_job("again") is job and session.n_running == 1


def test_in_the_last_interval_a_worker_without_work_goes_home(tmp_path: Path) -> None:
    session = session_of(tmp_path, population_study())
    advanced(session, lambda job: (job.number, job.evaluation) == (4, 3))
    assert session.next_job("x") is None and session.n_running == 1
