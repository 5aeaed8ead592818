"""Schedules that are chosen on unseen data, and judged against baselines, as a user does it."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import invoke, search_without_ray
from studies import metaopt, read_csv, tiny_study, write_study

from metaopt.schedules import load_schedule
from metaopt.search.export import best_trial, scored
from metaopt.search.optuna_space import read_rows
from metaopt.tracking import load_runs

SMALL = {"budget": 60, "n_samples": 100, "width": 8}


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory, start: Path) -> Path:
    """A finished study of residuals, with a race and a validation."""
    folder = tmp_path_factory.mktemp("validated")
    study = tiny_study(
        tasks=[{"data": "digits", "name": name, **SMALL} for name in ("a", "b")],
        seeds=[0, 1, 2, 3],
        schedule={"family": "linear_policy", "start": str(start), "ranges": {"lr_g": {"low": 1e-6, "high": 2e-2}}},
        search={"trials": 10, "seed": 1, "sampler": "random", "objective": "mean_tail", "racing": True},
        validation={"tasks": [{"data": "mnist5k", "size": 8, **SMALL}], "seeds": [5, 6], "top": 1},
    )
    done = metaopt("search", write_study(folder, study), "--out", folder / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said.txt").write_text(done.stdout, encoding="utf-8")
    return folder


def candidates_of(out: Path) -> list[dict[str, Any]]:
    """The candidates of the validation in a study's folder, best first."""
    found: list[dict[str, Any]] = json.loads((out / "validation.json").read_text())["candidates"]
    return found


def final_fids(folder: Path) -> dict[str, list[float]]:
    """Last FID of each kept training, by what it began with: the untrained FID tells task and seed."""
    kept: dict[str, list[float]] = {}
    for file in (folder / "trainings").glob("*.json"):
        fids = [record["fid"] for record in json.loads(file.read_text())["records"] if record["fid"] is not None]
        kept.setdefault(f"{fids[0]:.9f}", []).append(fids[-1])
    return kept


def test_the_winner_is_the_best_on_unseen_data(validated: Path) -> None:
    candidates = candidates_of(validated / "out")
    assert [one["trial"] for one in candidates if one["search"] == 0.0] == [0]
    assert len(candidates) == 2
    scores = [one["validation"] for one in candidates]
    assert scores == sorted(scores) and scores[0] <= 0.0
    best = load_schedule(validated / "out" / "best_schedule.json")
    rows = read_rows(validated / "out", "tiny")
    assert best.params == rows[candidates[0]["trial"]].params
    assert best.provenance["validation_score"] == scores[0]
    exported = invoke("export", "--study", validated / "out", "--out", validated / "e.json")
    assert exported.returncode == 0, exported.stderr
    assert load_schedule(validated / "e.json").params == best.params


def test_the_best_trials_of_the_search_are_those_that_are_trained_again(validated: Path) -> None:
    candidates = candidates_of(validated / "out")
    ranking = sorted(
        (row.verdict.score, row.number)
        for row in read_rows(validated / "out", "tiny")
        if row.state == "COMPLETE" and row.verdict and row.verdict.score is not None and row.number
    )
    assert {one["trial"] for one in candidates} == {0, *(number for _, number in ranking[:1])}
    for one in candidates:
        assert one["by_task"].keys() == {"a", "b", "mnist5k"}
        assert one["validation"] == pytest.approx(one["by_task"]["mnist5k"], abs=1e-12)  # one task: mean, tail and all
        a, b = one["by_task"]["a"], one["by_task"]["b"]
        assert one["fresh"] == pytest.approx(((a + b) / 2 + max(a, b)) / 2, abs=1e-12)
    assert {len(fids) for fids in final_fids(validated / "out").values()} == {2}  # paired: both schedules


def test_races_are_lost_before_all_trainings_are_done(validated: Path) -> None:
    """Rates of G from 1e-6 on: some candidates hardly train at all."""
    rows = read_rows(validated / "out", "tiny")
    out = [row for row in rows if row.state == "PRUNED"]
    assert out
    assert {row.state for row in rows} == {"COMPLETE", "PRUNED"}
    for row in out:
        assert row.verdict and row.verdict.reason.startswith("race lost to trial ")
        assert 4 <= len(row.verdict.fids) < 8
    runs = {run["tags.metaopt.number"]: run for run in load_runs(f"sqlite:///{validated}/out/mlflow.db", "tiny")}
    assert all("race lost" in str(runs[str(row.number)]["tags.metaopt.reason"]) for row in out)


def test_a_validation_of_other_trials_is_not_believed(validated: Path, tmp_path: Path) -> None:
    rows = read_rows(validated / "out", "tiny")
    best = best_trial(validated / "out", rows)
    assert best is not None and best.number == candidates_of(validated / "out")[0]["trial"]
    content = json.loads((validated / "out" / "validation.json").read_text())
    content["candidates"][-1]["trial"] = 99
    (tmp_path / "validation.json").write_text(json.dumps(content))
    by_score = best_trial(tmp_path, rows)
    assert by_score == scored(rows)[0][1] == best_trial(tmp_path / "nothing", rows)
    (tmp_path / "validation.json").write_text(json.dumps(content)[:100])
    assert best_trial(tmp_path, rows) == by_score


def test_what_it_says(validated: Path) -> None:
    said = (validated / "said.txt").read_text()
    winner = candidates_of(validated / "out")[0]["trial"]
    assert "Validation (scores against the reference" in said
    assert f"Winner: trial {winner}." in said


def test_a_report_has_every_table_as_csv(validated: Path, tmp_path: Path) -> None:
    done = invoke("report", "--study", validated / "out", "--out", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    scores = {row.number: row.verdict.score for row in read_rows(validated / "out", "tiny") if row.verdict}
    trials = {int(row["trial"]): row["score"] for row in read_csv(tmp_path / "page" / "leaderboard.csv")}
    assert {number: float(text) if text else None for number, text in trials.items()} == scores
    again = read_csv(tmp_path / "page" / "validation.csv")
    assert [(int(row["trial"]), float(row["fresh"])) for row in again] == [
        (one["trial"], one["fresh"]) for one in candidates_of(validated / "out")
    ]
    page = (tmp_path / "page" / "report.html").read_text()
    for title in ("Trials", "The best schedule", "Samples", "Search against fresh seeds"):
        assert f"<h2>{title}</h2>" in page
    files = {file.name for file in (tmp_path / "page").iterdir()}
    assert {"scores.png", "best_schedule.png", "samples.png", "validation.png"} <= files


def test_no_study_no_report(tmp_path: Path) -> None:
    refused = invoke("report", "--study", tmp_path)
    assert refused.returncode == 2
    assert "must be the folder of a study" in refused.stderr


def test_a_resumed_study_trains_nothing_again(validated: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (validated / "out" / "trainings").iterdir()}
    done = search_without_ray(validated / "study.yaml", "--out", validated / "out", "--resume")
    assert done.returncode == 0, done.stderr
    assert {file: file.stat().st_mtime_ns for file in (validated / "out" / "trainings").iterdir()} == before
