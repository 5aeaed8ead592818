"""How jobs pass between Tune's workers and the session, worked through without a cluster."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sessions import opened, slices

from metaopt.search.jobs import Job
from metaopt.search.ray_handing import SessionSearcher
from metaopt.search.ray_trial import ERROR, JOB, OVER, SLICE
from metaopt.search.session import Session


def handing(session: Session, room: int = 2) -> SessionSearcher:
    searcher = SessionSearcher(session, lambda _: None)
    searcher.room = lambda: room
    return searcher


def suggested(searcher: SessionSearcher, worker: str) -> Job:
    found = searcher.suggest(worker)
    assert isinstance(found, Mapping), found
    job = found[JOB]
    assert isinstance(job, Job)
    searcher.on_start(worker)
    return job


def reports(session: Session, job: Job) -> list[dict[str, Any]]:
    parts = list(slices(session, job))
    return [{SLICE: part, OVER: part is parts[-1]} for part in parts]


def work(searcher: SessionSearcher, session: Session, worker: str, job: Job) -> None:
    over = [searcher.take_in(worker, report) for report in reports(session, job)]
    assert over == [*[False] * (len(over) - 1), True]


def test_one_worker_does_a_whole_study(tmp_path: Path) -> None:
    session = opened(tmp_path, trials=4)
    searcher = handing(session, room=1)
    job: Job | None = suggested(searcher, "w")
    done = []
    while job is not None:
        assert searcher.suggest("other") is None  # no room for a second
        done.append(job.number)
        work(searcher, session, "w", job)
        job = searcher.next_job("w")
    assert done == [-1, 1, 2, 3]  # the reference training, which is trial 0 as well
    assert searcher.suggest("other") == searcher.FINISHED
    assert session.complete and searcher.failure is None


def test_a_worker_is_let_go_where_the_room_has_shrunk(tmp_path: Path) -> None:
    session = opened(tmp_path)
    searcher = handing(session)
    first, _ = suggested(searcher, "a"), suggested(searcher, "b")
    searcher.room = lambda: 1
    work(searcher, session, "a", first)
    assert searcher.next_job("a") is None
    assert session.n_running == 1


def test_the_job_of_a_dead_worker_goes_to_the_next_that_is_free(tmp_path: Path) -> None:
    session = opened(tmp_path)
    searcher = handing(session)
    reference, candidate = suggested(searcher, "a"), suggested(searcher, "b")
    searcher.on_death("b", "killed")
    work(searcher, session, "a", reference)
    assert searcher.next_job("a") == candidate


def test_a_death_between_two_jobs_costs_the_second_only(tmp_path: Path) -> None:
    session = opened(tmp_path)
    searcher = handing(session, room=1)
    work(searcher, session, "a", suggested(searcher, "a"))
    second = searcher.next_job("a")
    assert second is not None
    searcher.on_death("a", "killed")
    assert suggested(searcher, "b") == second
    work(searcher, session, "b", second)
    verdict = session.rows()[second.number].verdict
    assert verdict is not None and verdict.status == "finished"


def test_a_job_that_needs_a_larger_share_waits_for_a_worker_that_has_it(tmp_path: Path) -> None:
    session = opened(tmp_path)
    searcher = handing(session, room=1)
    work(searcher, session, "a", suggested(searcher, "a"))
    job = searcher.next_job("a")
    assert job is not None
    assert searcher.take_in("a", {ERROR: "MemoryError: no memory", OVER: True})
    assert searcher.next_job("a") is None
    larger = suggested(searcher, "b")
    assert (larger.number, larger.larger) == (job.number, True)
    work(searcher, session, "b", larger)
    assert searcher.next_job("b") is None  # the next one needs no more than others
    assert not suggested(searcher, "c").larger
    assert session.n_running == 1


def test_while_a_larger_share_is_waited_for_workers_are_let_go(tmp_path: Path) -> None:
    session = opened(tmp_path, trials=10)
    searcher = handing(session)
    for worker in ("a", "b"):
        suggested(searcher, worker)
    work(searcher, session, "a", searcher._jobs["a"][1])
    assert searcher.next_job("a") is not None
    assert searcher.take_in("a", {ERROR: "MemoryError: no memory", OVER: True})
    assert searcher.next_job("a") is None  # it is held for a worker with a larger share
    found = searcher.suggest("c")
    assert found[JOB].larger
    work(searcher, session, "b", searcher._jobs["b"][1])
    assert searcher.next_job("b") is None and searcher.suggest("d") is None  # room for it is made
    searcher.on_start("c")
    assert not suggested(searcher, "d").larger
    work(searcher, session, "c", found[JOB])


def test_an_error_in_a_job_is_told_and_the_worker_goes_on(tmp_path: Path) -> None:
    session = opened(tmp_path)
    searcher = handing(session, room=1)
    work(searcher, session, "a", suggested(searcher, "a"))
    job = searcher.next_job("a")
    assert job is not None
    assert searcher.take_in("a", {ERROR: "Traceback: a bug", OVER: True})
    verdict = session.rows()[job.number].verdict
    assert verdict is not None and (verdict.status, verdict.reason) == ("error", "Traceback: a bug")
    assert searcher.next_job("a") is not None


def test_a_failure_ends_the_handing_out(tmp_path: Path) -> None:
    session = opened(tmp_path)
    searcher = handing(session)
    suggested(searcher, "a")
    searcher.take_in("a", {ERROR: "a bug", OVER: True})  # in the reference, without which nothing can be scored
    assert "a bug" in str(searcher.failure)
    assert searcher.next_job("a") is None
    assert searcher.suggest("b") == searcher.FINISHED
