"""What the driver decides, worked through without Ray: jobs are trained here, one after the other."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from sessions import opened, slices, work, work_all

from metaopt.errors import MetaoptError
from metaopt.schedules import build_schedule, load_schedule
from metaopt.search.folder import trial_folder
from metaopt.search.jobs import Job, Slice
from metaopt.search.session import Session
from metaopt.training import Training


def candidate_of(session: Session, job_id: str) -> Job:
    """The first candidate, handed out after the reference was trained."""
    reference = session.next_job("r")
    assert reference is not None
    work(session, "r", reference)
    candidate = session.next_job(job_id)
    assert candidate is not None
    return candidate


def test_references_are_trained_once_and_kept_for_the_next_driver(tmp_path: Path) -> None:
    first = opened(tmp_path, seeds=[0, 1])
    jobs = []
    for k in range(3):
        job = first.next_job(str(k))
        assert job is not None
        jobs.append((job.kind, job.training))
        work(first, str(k), job)
    assert jobs == [("reference", 0), ("reference", 1), ("candidate", -1)]
    second = opened(tmp_path, seeds=[0, 1])
    next_job = second.next_job("x")
    assert next_job is not None and next_job.kind == "candidate" and next_job.number == 2


def test_reference_scores_exactly_0_and_all_trials_end(tmp_path: Path) -> None:
    rows = work_all(opened(tmp_path))
    assert [row.state for row in rows] == ["COMPLETE"] * 4
    assert rows[0].verdict and rows[0].verdict.scores == [0.0, 0.0]
    assert all(row.verdict and len(row.verdict.scores) == 2 for row in rows)


def test_candidate_that_ends_before_the_references_is_scored_when_they_are_there(tmp_path: Path) -> None:
    plain = work_all(opened(tmp_path / "plain" if (tmp_path / "plain").mkdir() is None else tmp_path))
    (tmp_path / "late").mkdir()
    session = opened(tmp_path / "late")
    reference, candidate = session.next_job("r"), session.next_job("c")
    assert reference is not None and candidate is not None
    assert (reference.kind, candidate.kind, candidate.number) == ("reference", "candidate", 1)
    work(session, "c", candidate)
    assert [row.verdict for row in session.rows() if row.number < 2] == [None, None]
    work(session, "r", reference)
    scores = [row.verdict.score for row in session.rows() if row.verdict]
    assert scores == [row.verdict.score for row in plain[:2] if row.verdict]


def test_job_stopped_early_is_pruned_with_what_was_seen(tmp_path: Path) -> None:
    session = opened(tmp_path)
    candidate = candidate_of(session, "c")
    session.on_slice("c", next(iter(slices(session, candidate))))
    session.on_end("c")
    row = session.rows()[candidate.number]
    assert row.state == "PRUNED"
    assert row.verdict and len(row.verdict.scores) == 1


def test_broken_candidate_is_a_value_and_the_search_goes_on(tmp_path: Path) -> None:
    session = opened(tmp_path)
    candidate_of(session, "c")
    session.on_end("c", error="Traceback: a bug")
    rows = work_all(session)
    assert [row.state for row in rows] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert rows[1].verdict and rows[1].verdict.reason == "Traceback: a bug"


def test_a_worker_that_does_not_answer_has_not_died(tmp_path: Path) -> None:
    silent, now = "The actor 94d2 is unavailable: RPC error", [0.0]
    session = opened(tmp_path, evaluation_limit_s=20.0, clock=lambda: now[0])
    candidate = candidate_of(session, "0")
    session.on_death("0", "killed")  # has nothing to do with it
    for life in range(1, 11):
        assert session.next_job(f"{life}") == candidate
        session.on_death(f"{life}", silent)
    assert session.next_job("11") == candidate
    now[0] += 30.0
    session.on_death("11", silent)  # hung, maybe, which is its second death
    verdict = session.rows()[candidate.number].verdict
    assert verdict and verdict.reason == "no evaluation within 20 s, and its process was ended"


def test_a_worker_that_never_answers_makes_its_trial_an_error(tmp_path: Path) -> None:
    session = opened(tmp_path)
    candidate = candidate_of(session, "0")
    for life in range(11):
        assert session.rows()[candidate.number].verdict is None
        session.on_death(f"{life}", "The actor 94d2 is unavailable: RPC error")
        session.next_job(f"{life + 1}")
    verdict = session.rows()[candidate.number].verdict
    assert verdict and (verdict.status, verdict.reason) == ("error", "its worker did not answer 11 times")


def test_what_may_be_retried_is_an_error_only_then(tmp_path: Path) -> None:
    session = opened(tmp_path, retries=2)
    reference = session.next_job("r")
    assert reference is not None
    session.on_end("r", error="a bug")
    assert session.next_job("r2") == reference
    work(session, "r2", reference)
    candidate = session.next_job("c")
    assert candidate is not None
    for life, next_life in (("c", "c2"), ("c2", "c3")):
        session.on_end(life, error="a bug")
        assert session.rows()[candidate.number].verdict is None
        assert session.next_job(next_life) == candidate
    session.on_end("c3", error="the last one")
    verdict = session.rows()[candidate.number].verdict
    assert verdict and (verdict.status, verdict.reason) == ("error", "the last one")
    assert session.n_running == 0


def test_what_is_retried_keeps_its_larger_share(tmp_path: Path) -> None:
    session = opened(tmp_path, retries=1)
    candidate = candidate_of(session, "c")
    session.on_death("c", "MemoryError: much")
    larger = session.next_job("c2")
    assert larger == replace(candidate, larger=True)
    session.on_end("c2", error="a bug")
    assert session.next_job("c3") == larger


def test_retries_are_of_errors_and_not_of_deaths(tmp_path: Path) -> None:
    session = opened(tmp_path, retries=5)
    candidate = candidate_of(session, "c")
    session.on_death("c", "killed")
    assert session.next_job("c2") == candidate
    session.on_death("c2", "killed again")
    verdict = session.rows()[candidate.number].verdict
    assert verdict and verdict.status == "error"


def test_broken_reference_ends_the_search_with_its_reason(tmp_path: Path) -> None:
    session = opened(tmp_path)
    assert session.next_job("r") is not None
    with pytest.raises(MetaoptError, match="reference training of digits failed: a bug"):
        session.on_end("r", error="a bug")


def test_job_of_a_dead_worker_is_handed_out_once_more(tmp_path: Path) -> None:
    session = opened(tmp_path)
    reference = session.next_job("r")
    session.on_death("r", "killed")
    again = session.next_job("r2")
    assert again == reference and again is not None
    work(session, "r2", again)
    candidate = session.next_job("c")
    assert candidate is not None
    session.on_slice("c", next(iter(slices(session, candidate))))
    session.on_death("c", "killed")
    assert session.rows()[candidate.number].verdict is None
    assert session.next_job("c2") == candidate
    session.on_death("c2", "killed again")
    verdict = session.rows()[candidate.number].verdict
    assert verdict and (verdict.status, verdict.reason) == ("error", "killed again")
    assert session.n_running == 0


def test_job_that_finds_no_memory_gets_a_larger_share_once(tmp_path: Path) -> None:
    session = opened(tmp_path)
    reference = session.next_job("r")
    assert reference and not reference.larger
    session.on_death("r", "MemoryError: much")
    again = session.next_job("r2")
    assert again == replace(reference, larger=True)
    work(session, "r2", again)
    candidate = session.next_job("c")
    assert candidate and not candidate.larger
    session.on_death("c", "MemoryError: much")
    larger = session.next_job("c2")
    assert larger == replace(candidate, larger=True)
    session.on_death("c2", "killed")  # has nothing to do with it: the second life is not lost
    assert session.next_job("c3") == larger
    session.on_death("c3", "MemoryError: much")
    verdict = session.rows()[candidate.number].verdict
    assert verdict and verdict.status == "error"
    assert verdict.reason == "out of memory: MemoryError: much; also with up to twice the share"
    assert session.n_running == 0


@pytest.mark.parametrize(
    ("reason", "status"),
    [("the actor's node was terminated", None), ("MemoryError: much", None), ("killed", "error")],
)
def test_what_explains_itself_is_no_hang(tmp_path: Path, reason: str, status: str | None) -> None:
    now = [0.0]
    session = opened(tmp_path, evaluation_limit_s=20.0, clock=lambda: now[0])
    reference = session.next_job("r")
    assert reference
    work(session, "r", reference)
    job = session.next_job("0")
    assert job
    for k in range(2):
        now[0] += 35
        session.on_death(str(k), reason if k == 0 or status else "because its node has died")
        again = session.next_job(str(k + 1))
    verdict = session.rows()[job.number].verdict
    if status is None:
        assert verdict is None and again and again.number == job.number
        assert again.larger == ("Memory" in reason)
    else:
        assert verdict and verdict.reason == "no evaluation within 20 s, and its process was ended"


def test_a_job_that_waited_long_for_a_worker_is_no_hang(tmp_path: Path) -> None:
    now = [0.0]
    session = opened(tmp_path, evaluation_limit_s=20.0, clock=lambda: now[0])
    assert session.next_job("r", placed=False)
    now[0] = 100.0
    session.on_placed("r", True)
    now[0] = 101.0
    session.on_death("r", "killed")
    assert session.next_job("r2")
    with pytest.raises(MetaoptError, match="failed: killed again"):
        session.on_death("r2", "killed again")


def test_what_a_dead_driver_had_begun_to_tell_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened(tmp_path)
    for k in range(2):
        job = session.next_job(str(k))
        assert job
        work(session, str(k), job)
    last = session.next_job("last")
    assert last
    with monkeypatch.context() as broken, pytest.raises(OSError, match="no space"):
        broken.setattr(session.proposals._study, "tell", _no_space)
        work(session, "last", last)
    again = opened(tmp_path)
    row = again.rows()[last.number]
    assert row.state == "COMPLETE" and row.verdict and row.verdict.score is not None
    assert {row.state for row in work_all(again)} == {"COMPLETE"}


def _no_space(*_: object, **__: object) -> None:
    raise OSError("no space")


def test_memory_of_a_trial_is_recorded(tmp_path: Path) -> None:
    session = opened(tmp_path)
    for k in range(3):
        job = session.next_job(str(k))
        assert job
        for part in slices(session, job):
            session.on_slice(str(k), replace(part, memory_mb=700.0 + k, gpu_memory_mb=20.0 * k))
        session.on_end(str(k))
    last = [row.verdict for row in session.rows() if row.verdict][-1]
    assert (last.memory_mb, last.gpu_memory_mb) == (702.0, 40.0)


def test_study_is_complete_only_when_each_trial_has_ended(tmp_path: Path) -> None:
    session = opened(tmp_path)
    assert not session.complete
    work_all(session)
    assert session.complete
    for row in session.rows():
        assert load_schedule(trial_folder(tmp_path, row.number) / "schedule.json").params == row.params


def stages(session: Session, job: Job) -> Iterable[Slice]:
    """What a worker would report for a candidate in a race: one training after the other."""
    n = session.study.spec.evaluations
    schedule = build_schedule(job.family, job.params)
    for (i,) in session.trainings.stages(racing=True):
        training = Training(session.trainings.task(i), schedule, session.trainings.id(i)[1])
        for k in range(1, n + 1):
            yield Slice(records={i: list(training.run(k / n))}, wall_s=0.1)


def raced(session: Session, job_id: str, job: Job) -> int:
    """Work on a candidate until it is done or out; the number of trainings that it had."""
    trained = 0
    for part in stages(session, job):
        out = session.to_be_stopped(job_id, part)
        session.on_slice(job_id, part)
        (records,) = part.records.values()
        trained += records[-1].outcome is not None
        if out:
            break
    session.on_end(job_id)
    return trained


def test_candidate_that_is_clearly_worse_is_out_of_the_race(tmp_path: Path) -> None:
    slow = {"lr_g": {"low": 1e-8, "high": 2e-4}, "lr_d": 2e-4, "update_ratio": 1, "power": {"low": 0, "high": 1e-9}}
    schedule = {"family": "power_decay", "ranges": slow | {"warmup": 0}}
    tasks = [
        {"data": "digits", "name": name, "budget": 200, "n_samples": 100, "width": width}
        for name, width in (("narrow", 12), ("wide", 24))
    ]
    session = opened(tmp_path, trials=8, racing=True, seeds=[0, 1, 2, 3], schedule=schedule, tasks=tasks)
    assert session.trainings.stages(racing=True)[:3] == ((0,), (4,), (1,))
    n_trained = {0: 8}
    for k in range(100):
        job = session.next_job(str(k))
        if job is None:
            break
        if job.kind == "reference":
            work(session, str(k), job)
        else:
            n_trained[job.number] = raced(session, str(k), job)
    rows = session.rows()
    out = [row for row in rows if row.state == "PRUNED"]
    assert out and session.complete
    for row in out:
        assert row.verdict and row.verdict.score is None
        assert row.verdict.reason.startswith(
            f"race lost to trial 0 after {n_trained[row.number]} of 8 trainings, p 0.0"
        )
        assert 4 <= n_trained[row.number] < 8
        assert len(row.verdict.fids) == n_trained[row.number]
        assert len(row.verdict.scores) == 1 and row.verdict.scores[0] > 0
        assert row.params["lr_g"] < 2e-5
    assert all(n_trained[row.number] == 8 for row in rows if row.state == "COMPLETE")


def test_reference_and_first_candidate_run_to_their_ends(tmp_path: Path) -> None:
    session = opened(tmp_path, racing=True)
    reference = session.next_job("r")
    assert reference is not None
    for part in slices(session, reference):
        assert not session.to_be_stopped("r", part)
        session.on_slice("r", part)
    session.on_end("r")
