"""A search on Ray, and its simulation from what it has left."""

import csv
from pathlib import Path

from studies import metaopt, tiny_study, write_study

from metaopt.search.optuna_space import read_rows


def test_a_real_search_is_replayed_trial_by_trial(tmp_path: Path) -> None:
    search = {"trials": 8, "seed": 1, "sampler": "random", "workers": 2}
    study, out = write_study(tmp_path, tiny_study(search=search, seeds=[0, 1])), tmp_path / "out"
    assert metaopt("search", study, "--out", out).returncode == 0
    done = metaopt("simulate", study, "--from", out, "--repeats", 1, "--out", tmp_path / "simulated.csv")
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "simulated.csv").open(newline="") as file:
        rows = {int(row["trial"]): row for row in csv.DictReader(file)}
    for trial in read_rows(out, "tiny"):
        assert trial.verdict and trial.verdict.score == float(rows[trial.number]["score"])
        assert rows[trial.number]["recorded"] == "True"
        if trial.number > 1:  # the first ones wait for the reference trainings
            lasted = float(rows[trial.number]["ended_s"]) - float(rows[trial.number]["began_s"])
            assert abs(lasted - trial.verdict.wall_s) < 1e-6
