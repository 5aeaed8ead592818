"""The durable record: what Optuna holds after each way a trial or a driver can end."""

import math
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from studies import tiny_study, write_study

from metaopt.errors import StorageError
from metaopt.search.optuna_space import JOURNAL, Proposals, Verdict, read_rows
from metaopt.search.study import Study, load_study


def study_of(folder: Path, **search: object) -> Study:
    settings = {"trials": 12, "seed": 1, "sampler": "random"} | search
    return load_study(str(write_study(folder, tiny_study(search=settings))))


def stock_study(folder: Path) -> optuna.Study:
    """The record as any Optuna program sees it."""
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    return optuna.load_study(study_name="tiny", storage=storage)


def ask(proposals: Proposals) -> int:
    proposal = proposals.ask("ray-0")
    assert proposal is not None
    return proposal.number


def finished(score: float) -> Verdict:
    return Verdict(status="finished", score=score, scores=[score + 1, score])


def test_reference_is_asked_first_and_the_ray_trial_is_known(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    first = Proposals(tmp_path, study).ask("ray-17")
    assert first is not None
    assert (first.number, first.name, first.params) == (0, "dcgan", study.reference.params)
    assert stock_study(tmp_path).trials[0].user_attrs["ray_trial_id"] == "ray-17"


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        (finished(-0.5), "COMPLETE"),
        (Verdict(status="collapsed", score=1.5), "COMPLETE"),
        (Verdict(status="diverged", score=2.0, reason="exploding loss"), "FAIL"),
        (Verdict(status="finished", score=None), "FAIL"),
        (Verdict(status="finished", score=math.nan), "FAIL"),
        (Verdict(status="finished", score=math.inf), "FAIL"),
        (Verdict(status="pruned", score=0.7, scores=[0.9, 0.7]), "PRUNED"),
        (Verdict(status="error", reason="Traceback ..."), "FAIL"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.status} {value.score}",
)
def test_how_each_end_is_told(tmp_path: Path, verdict: Verdict, state: str) -> None:
    proposals = Proposals(tmp_path, study_of(tmp_path))
    proposals.tell(ask(proposals), verdict)
    told = stock_study(tmp_path).trials[0]
    assert told.state.name == state
    assert told.value == (verdict.score if state == "COMPLETE" else verdict.scores[-1] if verdict.scores else None)
    assert told.intermediate_values == dict(enumerate(verdict.scores, start=1))
    row = read_rows(tmp_path, "tiny")[0]
    assert row.verdict is not None
    assert (row.verdict.status, row.verdict.reason) == (verdict.status, verdict.reason)
    assert row.verdict.score == verdict.score or math.isnan(verdict.score or 0.0)


def test_trials_of_a_dead_driver_are_proposed_again_as_they_were(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    dead = Proposals(tmp_path, study)
    given = [dead.ask(f"dead-{i}") for i in range(4)]
    dead.tell(1, finished(0.3))
    alive = Proposals(tmp_path, study)
    again = [alive.ask(f"alive-{i}") for i in range(3)]
    assert [(p.number, p.params) for p in again if p] == [(p.number, p.params) for p in given if p and p.number != 1]
    for number in (0, 2, 3):
        alive.tell(number, finished(0.1))
    fresh = alive.ask("alive-4")
    assert fresh is not None and fresh.number == 4
    states = [trial.state.name for trial in stock_study(tmp_path).trials]
    assert states == ["COMPLETE"] * 4 + ["RUNNING"]


def test_a_trial_cut_off_while_its_parameters_were_drawn_is_completed_with_the_same_ones(
    tmp_path: Path,
) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    whole.mkdir()
    torn.mkdir()
    proposals = Proposals(whole, study_of(tmp_path))
    params = [p.params for p in (proposals.ask(str(i)) for i in range(3)) if p]
    lines = (whole / JOURNAL).read_bytes().splitlines(keepends=True)
    for cut in range(len(lines) - 5, len(lines)):  # the last trial's birth, each parameter, its Ray id
        (torn / JOURNAL).write_bytes(b"".join(lines[:cut]) + lines[cut][:-7])
        again = Proposals(torn, study_of(tmp_path))
        assert [p.params for p in (again.ask(str(i)) for i in range(3)) if p] == params


@pytest.mark.parametrize("tail", [b'{"op_code":4,"worker_id":"x', bytes(4096), b'{"op_code":4,"wor\x00\x00\n', b"7\n"])
def test_torn_last_line_is_cut_and_nothing_later_is_lost(
    tmp_path: Path, tail: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    proposals = Proposals(tmp_path, study_of(tmp_path))
    proposals.tell(ask(proposals), finished(0.2))
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(tail)
    again = Proposals(tmp_path, study_of(tmp_path))
    assert f"cut {len(tail)} bytes of an unfinished last line off {tmp_path / JOURNAL}" in caplog.text
    again.tell(ask(again), finished(-0.4))
    assert [trial.value for trial in stock_study(tmp_path).trials if trial.state.is_finished()] == [0.2, -0.4]


def test_a_damaged_line_before_the_last_is_named_and_nothing_is_cut(tmp_path: Path) -> None:
    proposals = Proposals(tmp_path, study_of(tmp_path))
    proposals.tell(ask(proposals), finished(0.2))
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    damaged = b"".join([lines[0], b"x" + lines[1][1:], *lines[2:]])
    (tmp_path / JOURNAL).write_bytes(damaged)
    with pytest.raises(StorageError, match=rf"up to its last line, but line 2 of {len(lines)} is damaged"):
        Proposals(tmp_path, study_of(tmp_path))
    assert (tmp_path / JOURNAL).read_bytes() == damaged


def test_lock_of_another_program_does_not_hold_up(tmp_path: Path) -> None:
    Proposals(tmp_path, study_of(tmp_path))
    lock = tmp_path / f"{JOURNAL}.lock"
    lock.touch()
    again = Proposals(tmp_path, study_of(tmp_path))  # Optuna alone would wait 30 s here
    assert ask(again) == 0


def test_no_more_trials_than_asked_for_and_more_on_demand(tmp_path: Path) -> None:
    proposals = Proposals(tmp_path, study_of(tmp_path, trials=3))
    assert [ask(proposals) for _ in range(3)] == [0, 1, 2]
    assert proposals.ask("x") is None
    more = Proposals(tmp_path, study_of(tmp_path, trials=4))
    assert [ask(more) for _ in range(4)] == [0, 1, 2, 3]
    assert more.ask("x") is None


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp"])
def test_every_sampler_proposes_the_same_after_a_restart(tmp_path: Path, sampler: str) -> None:
    def run(folder: Path, restart_at: int) -> list[dict[str, float]]:
        folder.mkdir()
        study = study_of(tmp_path, sampler=sampler, trials=16)
        proposals, seen = Proposals(folder, study), []
        for i in range(16):
            if i == restart_at:
                proposals = Proposals(folder, study)
            proposal = proposals.ask(str(i))
            assert proposal is not None
            seen.append(dict(proposal.params))
            score = math.log(proposal.params["lr_g"] / 1e-3) ** 2 + proposal.params["power"]
            proposals.tell(proposal.number, Verdict(status="diverged") if i % 5 == 4 else finished(score))
        return seen

    straight = run(tmp_path / "straight", restart_at=-1)
    assert run(tmp_path / "restarted", restart_at=13) == straight
    for params in straight:
        for name, value in params.items():
            assert value in study_of(tmp_path).space[name]
    assert len({params["lr_g"] for params in straight}) >= 15


def test_tpe_learns_where_failures_are_ignored(tmp_path: Path) -> None:
    study = study_of(tmp_path, sampler="tpe", trials=60)
    proposals, errors = Proposals(tmp_path, study), []
    for i in range(60):
        proposal = proposals.ask(str(i))
        assert proposal is not None
        error = abs(math.log10(proposal.params["lr_g"] / 1e-3))
        errors.append(error)
        proposals.tell(proposal.number, Verdict(status="diverged") if i % 3 == 2 else finished(error))
    assert sum(errors[-20:]) < 0.6 * sum(errors[1:21])
