"""Studies of several objectives: what is measured, what Optuna holds, and what is refused."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from metaopt.analysis.leaderboard import leaderboard
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sessions import hashes, work, work_all
from studies import tiny_initialisation, tiny_study, write_study

from metaopt.errors import ConfigError
from metaopt.meta.objective import log_fid
from metaopt.search.export import export_trial, front_of
from metaopt.search.folder import claim, manifest_of
from metaopt.search.importances import importances
from metaopt.search.initialisation_study import load_any_study
from metaopt.search.optuna_space import JOURNAL, Proposals, TrialRow, Verdict
from metaopt.search.session import Session
from metaopt.search.study import Study, load_study
from metaopt.tracking import NullTracker

CLEAN = {"data": "digits", "budget": 80, "n_samples": 100, "width": 12}
DAMAGED = CLEAN | {"name": "damaged", "corruption": {"noise": 0.5}}
ALL = ["quality", "compute", "robustness"]
FAST = {"family": "power_decay", "ranges": {name: {"low": 1e-4, "high": 1e-2} for name in ("lr_g", "lr_d")}}
"""Where some are better than the reference."""


def content(objectives: Sequence[str] = ALL, **changes: Any) -> dict[str, Any]:
    search = {"trials": 12, "seed": 1, "sampler": "random", "objectives": list(objectives)} | changes.pop("search", {})
    return tiny_study(**{"tasks": [CLEAN, DAMAGED], "evaluations": 4, "schedule": FAST} | changes, search=search)


def study_in(folder: Path, objectives: Sequence[str] = ALL, **changes: Any) -> Study:
    return load_study(str(write_study(folder, content(objectives, **changes))))


def session_of(study: Study, folder: Path) -> Session:
    return Session(study, folder, hashes(study), Proposals(folder, study), NullTracker())


def stock_study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="tiny", storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrialRow]]:
    """A finished search for all three objectives."""
    folder = tmp_path_factory.mktemp("searched")
    study = study_in(folder)
    (folder / "out").mkdir()
    claim(folder / "out", manifest_of(study, hashes(study)), resume=False)
    return folder / "out", work_all(session_of(study, folder / "out"))


def test_each_objective_is_what_it_says(searched: tuple[Path, list[TrialRow]]) -> None:
    _, rows = searched
    reference = rows[0].verdict
    assert reference and reference.objectives["quality"] == reference.objectives["robustness"] == 0
    for row in rows:
        assert row.verdict and row.state == "COMPLETE"
        assert list(row.verdict.objectives) == ALL
        for name, task in (("quality", "digits"), ("robustness", "damaged")):
            ratio = log_fid(row.verdict.fids[task]) - log_fid(reference.fids[task])
            assert row.verdict.objectives[name] == pytest.approx(ratio)
        assert row.verdict.score == row.verdict.objectives["quality"] == row.verdict.scores[-1]
        sooner = any(row.verdict.fids[task] < reference.fids[task] for task in reference.fids)
        assert row.verdict.objectives["compute"] < 0 if sooner else row.verdict.objectives["compute"] <= 0
    assert min(row.verdict.objectives["compute"] for row in rows if row.verdict) < -0.1


def test_optuna_minimises_all_of_them(searched: tuple[Path, list[TrialRow]]) -> None:
    folder, rows = searched
    study = stock_study(folder)
    assert [direction.name for direction in study.directions] == ["MINIMIZE"] * 3
    for trial, row in zip(study.trials, rows, strict=True):
        assert row.verdict and trial.values == list(row.verdict.objectives.values())
    assert {trial.number for trial in study.best_trials} == {row.number for row in front_of(rows)}


def test_leaderboard_marks_the_front_and_has_each_objective(searched: tuple[Path, list[TrialRow]]) -> None:
    _, rows = searched
    table = leaderboard(rows)
    assert list(table["score"]) == sorted(table["score"])
    assert set(table["trial"][table["front"]]) == {row.number for row in front_of(rows)}
    assert 0 < table["front"].sum() < len(rows)
    for row in rows:
        (shown,) = table[table["trial"] == row.number].to_dict("records")
        assert row.verdict and shown["compute"] == row.verdict.objectives["compute"]
        assert shown["robustness"] == row.verdict.objectives["robustness"] and "quality" not in shown


def test_best_first_objective_is_handed_out_with_the_others(searched: tuple[Path, list[TrialRow]]) -> None:
    folder, rows = searched
    best = min(rows, key=lambda row: row.verdict.objectives["quality"] if row.verdict else math.inf)
    schedule = export_trial(folder)
    assert schedule.provenance["trial"] == best.number
    assert best.verdict and schedule.provenance["objective.robustness"] == best.verdict.objectives["robustness"]
    assert importances(folder, "tiny") != {}  # of the first objective


def test_without_robustness_all_tasks_count(tmp_path: Path) -> None:
    study = study_in(tmp_path, ["quality", "compute"])
    plain = load_study(str(write_study(tmp_path, content(["quality"]))))
    (tmp_path / "several").mkdir()
    (tmp_path / "one").mkdir()
    several, one = (work_all(session_of(of, tmp_path / at)) for of, at in ((study, "several"), (plain, "one")))
    assert [row.verdict.score for row in several if row.verdict] == [row.verdict.score for row in one if row.verdict]
    assert all(row.verdict and row.verdict.objectives == {} for row in one)
    assert "front" not in leaderboard(one) and front_of(one) == []


@pytest.mark.parametrize(
    ("objectives", "state"),
    [
        ({"quality": -0.5, "compute": -0.1, "robustness": 0.2}, "COMPLETE"),
        ({"quality": -0.5, "compute": math.nan, "robustness": 0.2}, "FAIL"),
        ({"quality": -0.5, "compute": math.inf, "robustness": 0.2}, "FAIL"),
        ({"quality": -0.5, "robustness": 0.2}, "FAIL"),
        ({}, "FAIL"),
    ],
    ids=str,
)
def test_missing_or_not_finite_objective_is_a_failure(tmp_path: Path, objectives: dict[str, float], state: str) -> None:
    proposals = Proposals(tmp_path, study_in(tmp_path))
    proposal = proposals.ask("a")
    assert proposal is not None
    proposals.tell(proposal.number, Verdict(status="finished", score=-0.5, scores=[0.1, -0.5], objectives=objectives))
    told = stock_study(tmp_path).trials[0]
    assert told.state.name == state
    assert told.values == (list(objectives.values()) if state == "COMPLETE" else None)
    assert not [trial for trial in stock_study(tmp_path).trials if trial.state.name == "RUNNING"]


@pytest.mark.parametrize("status", ["diverged", "error", "pruned"])
def test_other_ends_leave_no_values_and_no_zombie(tmp_path: Path, status: str) -> None:
    proposals = Proposals(tmp_path, study_in(tmp_path))
    proposal = proposals.ask("a")
    assert proposal is not None
    proposals.tell(proposal.number, Verdict(status=status, score=1.0, scores=[1.0], objectives=dict.fromkeys(ALL, 1.0)))
    told = stock_study(tmp_path).trials[0]
    assert (told.state.name, told.values) == ("PRUNED" if status == "pruned" else "FAIL", None)
    assert front_of(proposals.rows()) == []


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "nsga2"])
def test_every_sampler_proposes_the_same_after_a_restart(tmp_path: Path, sampler: str) -> None:
    study = study_in(tmp_path, search={"sampler": sampler, "trials": 48})

    def run(folder: Path, restart_at: int) -> list[dict[str, float]]:
        folder.mkdir()
        proposals, seen = Proposals(folder, study), []
        for i in range(48 if sampler != "gp" else 16):
            if i == restart_at:
                assert proposals.ask("dies") is not None  # and is proposed again
                proposals = Proposals(folder, study)
            proposal = proposals.ask(str(i))
            assert proposal is not None
            seen.append(dict(proposal.params))
            lr = math.log(proposal.params["lr_g"])
            values = {"quality": lr, "compute": -lr, "robustness": proposal.params["power"]}
            if i % 5 == 4:
                proposals.tell(proposal.number, Verdict(status="diverged"))
            else:
                proposals.tell(proposal.number, Verdict(status="finished", score=lr, objectives=values))
        return seen

    straight = run(tmp_path / "straight", restart_at=-1)
    assert run(tmp_path / "restarted", restart_at=len(straight) - 3) == straight
    assert len({params["lr_g"] for params in straight}) > len(straight) / 2


def test_nsga2_breeds_from_the_front(tmp_path: Path) -> None:
    """Both objectives are best at power 0, and trade lr_g: later generations have less power than chance gives."""
    study = study_in(tmp_path, ["quality", "compute"], search={"sampler": "nsga2", "trials": 100})
    proposals, powers = Proposals(tmp_path, study), []
    while (proposal := proposals.ask("x")) is not None:
        lr, power = math.log(proposal.params["lr_g"]), proposal.params["power"]
        powers.append(power)
        values = {"quality": lr + 3 * power, "compute": 3 * power - lr}
        proposals.tell(proposal.number, Verdict(status="finished", score=values["quality"], objectives=values))
    assert sum(powers[-30:]) < 0.5 * sum(powers[1:21]) * 30 / 20


def test_killed_driver_goes_on_to_the_same_front(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    study = study_in(tmp_path, ["quality", "compute"], tasks=[CLEAN], search={"sampler": "nsga2"})
    expected = work_all(session_of(study, whole))
    for jobs in (3, 2, 100):  # a new driver each time, while a trial of the old one is running
        session = session_of(study, cut)
        rows = work_all(session, most=jobs)
        session.next_job("dies")
    assert [row.verdict and row.verdict.objectives for row in rows] == [
        row.verdict and row.verdict.objectives for row in expected
    ]
    assert [row.number for row in front_of(rows)] == [row.number for row in front_of(expected)]


def test_time_that_is_over_prunes_without_values(tmp_path: Path) -> None:
    now = [0.0]
    study = study_in(tmp_path, ["quality", "compute"], search={"time_budget_s": 10.0})
    session = Session(study, tmp_path, hashes(study), Proposals(tmp_path, study), NullTracker(), clock=lambda: now[0])
    for name in ("r0", "r1", "late"):
        job = session.next_job(name)
        assert job is not None
        now[0] = 11.0 if name == "late" else 0.0
        work(session, name, job)
    trial = stock_study(tmp_path).trials[1]
    assert (trial.state.name, trial.values) == ("PRUNED", None)
    assert session.rows()[1].verdict and session.rows()[1].verdict.objectives == {}


def test_key_is_of_what_is_asked_for(tmp_path: Path) -> None:
    plain = content(["quality"])
    with_default = load_study(str(write_study(tmp_path, plain))).key
    del plain["search"]["objectives"]
    assert load_study(str(write_study(tmp_path, plain))).key == with_default
    assert study_in(tmp_path).key != with_default != study_in(tmp_path, ["quality", "compute"]).key


def test_starts_have_one_objective(tmp_path: Path) -> None:
    study = load_any_study(str(write_study(tmp_path, tiny_initialisation())))
    assert study.objectives == ("quality",)


@pytest.mark.parametrize(
    ("objectives", "changes", "said"),
    [
        (["compute", "quality"], {}, "`objectives` must begin with quality and differ, but got"),
        (["compute"], {}, "`objectives` must begin with quality and differ, but got"),
        (["quality", "compute", "compute"], {}, "`objectives` must begin with quality and differ, but got"),
        (ALL, {"tasks": [CLEAN]}, "`tasks` must be both with and without `corruption` .*, but all are without"),
        (ALL, {"tasks": [DAMAGED]}, "`tasks` must be both with and without `corruption` .*, but all are with"),
        (ALL, {"evaluations": 3}, "`evaluations >= 4` must hold for the objective compute, but got 3"),
        (ALL, {"search": {"pruner": "asha"}}, "`pruner` must be left out where there are several `objectives`"),
        (ALL, {"search": {"racing": True}}, "`racing` must be left out where there are several `objectives`"),
        (ALL, {"search": {"sampler": "cmaes"}}, "`sampler` must be one of tpe, random, gp, nsga2 for several"),
        (ALL, {"search": {"sampler": "es"}}, "`sampler` must be one of tpe, random, gp, nsga2 for several"),
        (["quality"], {"search": {"sampler": "nsga2"}}, "`objectives` must be several for nsga2, but is one"),
        (
            ALL,
            {"validation": {"seeds": [9], "tasks": [{"data": "glyphs", "size": 8, "budget": 20}]}},
            "`validation` must be left out where there are several `objectives`",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, objectives: list[str], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"study\.yaml:\d+: {said}"):
        study_in(tmp_path, objectives, **changes)


def test_unknown_objective_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"search\.objectives\.1`: input should be 'quality', 'compute' or 'robust"):
        study_in(tmp_path, ["quality", "speed"])
