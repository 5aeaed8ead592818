"""`metaopt compare`: a search in the terminal, and several beside each other."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from commands import invoke, search_without_ray
from past_searches import past_search
from studies import tiny_study, write_study

from metaopt.schedules import ScheduleArtifact, save_schedule
from metaopt.search.optuna_space import read_rows


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `random`; `other`, of the same trainings with another sampler seed; and those of other scores."""
    folder = tmp_path_factory.mktemp("searches")
    wide = [{"data": "digits", "budget": 60, "n_samples": 100, "width": 24}]
    start = ScheduleArtifact(family="constant", params={"lr_g": 1e-3, "lr_d": 1e-3, "update_ratio": 1.0})
    held = {"family": "power_decay", "start": str(save_schedule(start, folder / "start.json"))}
    for name, changes, how in (
        ("random", {}, {}),
        ("other", {}, {}),
        ("wider", {"tasks": wide}, {}),
        ("started", {"schedule": held}, {}),
        ("worst", {}, {"objective": "worst"}),
        ("tail", {}, {"objective": "mean_tail", "tail": 0.5}),
        ("short_tail", {}, {"objective": "mean_tail", "tail": 0.1}),
    ):
        search = {"trials": 3, "seed": len(name), "sampler": "random"} | how
        past_search(folder / name, search=search, **changes)
    return folder


def test_one_search_best_first(searches: Path) -> None:
    shown = invoke("compare", searches / "random")
    assert shown.returncode == 0, shown.stderr
    rows = sorted(read_rows(searches / "random", "tiny"), key=lambda row: row.verdict.score if row.verdict else 9.0)
    places = [shown.stdout.index(f"{row.verdict.score:+.3f}") for row in rows if row.verdict]
    assert len(places) == 3 and places == sorted(places)
    assert shown.stdout.endswith("3 finished\n")


def test_several_searches(searches: Path, tmp_path: Path) -> None:
    table = tmp_path / "trials.csv"
    shown = invoke("compare", "random", "other", "--csv", table, cwd=searches)
    assert shown.returncode == 0, shown.stderr
    assert "do not compare" not in shown.stdout
    trials = pd.read_csv(table)
    assert trials.groupby("study").size().to_dict() == {"random": 3, "other": 3}
    for study, own in trials.groupby("study"):
        best = own.loc[own["score"].idxmin()]
        (line,) = [line for line in shown.stdout.splitlines() if f" {study} " in line]
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells[:3] == [study, "power_decay", "3 finished"]
        assert cells[-3:] == [str(best["trial"]), f"{best['score']:+.3f}", f"{best['FID digits']:.1f}"]


@pytest.mark.parametrize(
    "pair", [("random", "wider"), ("random", "started"), ("random", "worst"), ("tail", "short_tail")]
)
def test_scores_of_other_trainings_do_not_compare(searches: Path, pair: tuple[str, str]) -> None:
    shown = invoke("compare", *(searches / name for name in pair))
    assert shown.returncode == 0
    assert "These scores do not compare: the studies differ in tasks" in shown.stdout


def test_searches_that_have_just_begun(searches: Path, tmp_path: Path) -> None:
    begun, table = tmp_path / "begun", tmp_path / "trials.csv"
    begun.mkdir()
    shutil.copy(searches / "random" / "study.json", begun)
    assert invoke("compare", begun).stdout.endswith("no trial yet\n")
    assert invoke("compare", begun, searches / "random", "--csv", table).returncode == 0
    assert len(pd.read_csv(table)) == 3
    study = write_study(tmp_path, tiny_study(search={"trials": 3, "seed": 1, "sampler": "random"}))
    assert search_without_ray(study, "--out", tmp_path / "out").returncode == 0
    journal = tmp_path / "out" / "optuna.journal"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[: len(lines) // 2]))
    assert "not ended" in invoke("compare", tmp_path / "out").stdout


def test_what_cannot_be_compared(searches: Path, tmp_path: Path) -> None:
    nowhere = invoke("compare", searches / "random", tmp_path)
    assert nowhere.returncode == 2 and "holds no study.json" in nowhere.stderr
    full = invoke("compare", searches / "random", "--csv", tmp_path / "no" / "trials.csv")
    assert (
        full.returncode == 1 and "trials.csv could not be written: Cannot save file into a non-existent" in full.stderr
    )
