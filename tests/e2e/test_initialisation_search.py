"""A search for starts as a user runs it, up to adapting the best one to images of one's own."""

import csv
from pathlib import Path

import numpy as np
import pytest
from commands import invoke
from PIL import Image
from studies import metaopt, tiny_initialisation, write_study

from metaopt.meta.maml import load_initialisation
from metaopt.search.optuna_space import read_rows
from metaopt.tracking import load_curve, load_runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study, and what the command said in said.txt."""
    folder = tmp_path_factory.mktemp("starts")
    study = write_study(folder, tiny_initialisation())
    done = metaopt("search", study, "--out", folder / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder / "out"


def test_trials_are_in_mlflow_with_curves_grids_and_starts(finished: Path) -> None:
    uri = f"sqlite:///{finished / 'mlflow.db'}"
    runs = {run["tags.metaopt.number"]: run for run in load_runs(uri, "tiny_init") if "tags.metaopt.number" in run}
    rows = read_rows(finished, "tiny_init")
    assert sorted(runs) == ["0", "1", "2", "3"]
    for row in rows:
        run = runs[str(row.number)]
        assert run["params.algorithm"] == row.params["algorithm"]
        assert run["metrics.score"] == pytest.approx(row.verdict.score if row.verdict else None)
        curve = load_curve(uri, str(run["run_id"]), "adapted/fid")
        assert len(curve) == 3 and load_curve(uri, str(run["run_id"]), "adapted/gradient_norm")
        kept = {path.name for path in (finished / "trials" / f"{row.number:05d}").iterdir()}
        assert kept == {"adapted-001.png", "adapted-002.png", "initialisation.safetensors"}
        artifacts = finished / "mlartifacts" / str(run["run_id"]) / "artifacts"
        assert {path.name for path in artifacts.rglob("*.*")} == kept


def test_what_it_leaves_is_whole_and_said(finished: Path) -> None:
    said = (finished.parent / "said.txt").read_text()
    assert "metaopt adapt --init" in said and "4 finished" in said
    with (finished / "leaderboard.csv").open() as lines:
        scores = [float(row["score"]) for row in csv.DictReader(lines)]
    assert scores == sorted(scores) and 0.0 in scores
    assert Image.open(finished / "samples.png").width > 300
    best = load_initialisation(finished / "best_initialisation.safetensors")
    assert best.score == scores[0]


def test_more_trials_with_resume_and_none_twice(finished: Path) -> None:
    before = read_rows(finished, "tiny_init")
    done = metaopt("search", finished.parent / "study.yaml", "--out", finished, "--resume", "--set", "search.trials=5")
    assert done.returncode == 0, done.stdout + done.stderr
    after = read_rows(finished, "tiny_init")
    assert after[:4] == before and len(after) == 5


def test_best_start_is_exported_and_adapts_to_a_folder(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "start.safetensors"
    done = invoke("export", "--study", finished, "--out", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert load_initialisation(file).provenance["study"] == "tiny_init"
    images = tmp_path / "images"
    images.mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (12, 20, 20), dtype=np.uint8)):
        Image.fromarray(pixels).save(images / f"{i}.png")
    done = invoke("adapt", "--init", file, "--data", images, "--steps", 4, "--samples", 20, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert load_initialisation(tmp_path / "out" / "adapted.safetensors").algorithm


def test_report_says_what_it_is_for(finished: Path) -> None:
    done = invoke("report", "--study", finished)
    assert done.returncode == 2 and "must search for schedules, but searches for starts" in done.stderr
