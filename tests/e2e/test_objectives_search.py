"""A search for several objectives on Ray, and all that it leaves behind."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from commands import invoke
from metaopt.analysis.runs import study_runs
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from PIL import Image
from search_checks import check_whole
from studies import metaopt, read_csv, tiny_study, write_study

from metaopt.schedules import load_schedule
from metaopt.search.optuna_space import TrialRow, read_rows

N_TRIALS = 10
OBJECTIVES = ["quality", "compute", "robustness"]


def study_of() -> dict[str, Any]:
    clean = {"data": "digits", "budget": 60, "n_samples": 100, "width": 12}
    rates = {"low": 1e-4, "high": 1e-2}  # where some are better than the reference
    return tiny_study(
        tasks=[clean, clean | {"name": "damaged", "corruption": {"noise": 0.5}}],
        evaluations=4,
        schedule={"family": "power_decay", "ranges": {"lr_g": rates, "lr_d": rates}},
        search={"trials": N_TRIALS, "seed": 2, "sampler": "nsga2", "objectives": OBJECTIVES},
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that was stopped half-way and went on, and what the second command said in said.txt."""
    folder = tmp_path_factory.mktemp("finished")
    study = write_study(folder, study_of())
    for n in (N_TRIALS // 2, N_TRIALS):
        done = metaopt("search", study, "--out", folder / "out", "--resume", "--set", f"search.trials={n}")
        assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder / "out"


def front_by_definition(rows: list[TrialRow]) -> set[int]:
    points = {row.number: list(row.verdict.objectives.values()) for row in rows if row.verdict}
    return {
        number
        for number, point in points.items()
        if not any(p != point and all(x <= y for x, y in zip(p, point, strict=True)) for p in points.values())
    }


def test_records_are_whole_and_optuna_has_all_directions(finished: Path) -> None:
    check_whole(finished, "tiny", N_TRIALS, n_points=2 * 41)
    storage = JournalStorage(JournalFileBackend(str(finished / "optuna.journal")))
    study = optuna.load_study(study_name="tiny", storage=storage)
    assert [direction.name for direction in study.directions] == ["MINIMIZE"] * 3
    assert {trial.number for trial in study.best_trials} == front_by_definition(read_rows(finished, "tiny"))


def test_front_is_the_same_everywhere(finished: Path) -> None:
    rows = read_rows(finished, "tiny")
    front = front_by_definition(rows)
    table = read_csv(finished / "leaderboard.csv")
    assert {int(row["trial"]) for row in table if row["front"] == "True"} == front
    runs = study_runs(f"sqlite:///{finished / 'mlflow.db'}", "tiny").set_index("trial")
    for row in rows:
        assert row.verdict
        assert runs.loc[row.number, "tags.metaopt.front"] == str(row.number in front).lower()
        for name, value in row.verdict.objectives.items():
            assert runs.loc[row.number, f"metrics.{name}"] == pytest.approx(value, abs=1e-12)
        assert runs.loc[row.number, "score"] == row.verdict.objectives["quality"]
    said = (finished.parent / "said.txt").read_text()
    assert "* on the front of score, compute, robustness" in " ".join(said.split())
    assert all(f"* {number} " in said for number in front)


def test_pictures_of_the_front_are_drawn(finished: Path) -> None:
    done = invoke("report", "--study", finished, "--out", finished.parent / "report")
    assert done.returncode == 0, done.stderr
    for picture in (finished / "front.png", finished.parent / "report" / "front.png"):
        with Image.open(picture) as drawn:
            assert drawn.size[0] > 1000 and len(drawn.convert("L").getcolors(256)) > 20
    assert "<h2>Front</h2>" in (finished.parent / "report" / "report.html").read_text()
    rows = read_csv(finished.parent / "report" / "front.csv")
    assert {int(row["trial"]) for row in rows} == front_by_definition(read_rows(finished, "tiny"))


def test_export_hands_out_the_best_any_or_the_whole_front(finished: Path, tmp_path: Path) -> None:
    rows = read_rows(finished, "tiny")
    front, best = front_by_definition(rows), min(rows, key=lambda row: (row.verdict and row.verdict.score) or 0.0)
    done = invoke("export", "--study", finished, "--out", tmp_path / "best.json")
    assert done.returncode == 0, done.stderr
    assert load_schedule(tmp_path / "best.json").provenance["trial"] == best.number
    assert len(front) > 1, "the other numbers of a front of one would not be said"
    others = ", ".join(str(number) for number in sorted(front - {best.number}))
    assert f"trials {others};" in done.stdout
    done = invoke("export", "--study", finished, "--front", "--out", tmp_path / "front")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "front").iterdir()} == {f"trial-{number:05d}.json" for number in front}
    for number in front:
        schedule = load_schedule(tmp_path / "front" / f"trial-{number:05d}.json")
        assert schedule.params == rows[number].params
    assert invoke("export", "--study", finished, "--trial", 0, "--out", tmp_path / "zero.json").returncode == 0
    refused = invoke("export", "--study", finished, "--front", "--trial", 1, "--out", tmp_path / "both")
    assert refused.returncode == 2 and "Either `--trial` or `--front`" in refused.stderr
