"""A worker takes one job after the other, so that what Ray keeps is bounded by the workers and not by the trials."""

import json
from collections import Counter
from pathlib import Path

from search_checks import check_whole
from studies import metaopt, tiny_study, write_study

from metaopt.search.optuna_space import JOURNAL

N_TRIALS, N_WORKERS = 24, 2


def jobs(out: Path) -> Counter[str]:
    """Tune trial -> jobs that it has had; a job's name is that of its Tune trial and a number."""
    lines = [json.loads(line) for line in (out / JOURNAL).read_text(encoding="utf-8").splitlines()]
    names = [line["user_attr"]["ray_trial_id"] for line in lines if "ray_trial_id" in line.get("user_attr", {})]
    return Counter(name.rpartition("-")[0] for name in names)


def test_two_workers_do_all_trials_as_no_more_than_two_tune_trials(tmp_path: Path) -> None:
    search = {"trials": N_TRIALS, "workers": N_WORKERS, "seed": 1, "sampler": "tpe", "pruner": "median"}
    study = write_study(tmp_path, tiny_study(search=search))
    done = metaopt("search", study, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    rows = check_whole(tmp_path / "out", "tiny", N_TRIALS, n_points=21)
    assert {row.verdict.status for row in rows if row.verdict} <= {"finished", "pruned", "diverged", "collapsed"}
    shares = jobs(tmp_path / "out")
    assert 1 <= len(shares) <= N_WORKERS  # one, where the other process is slow to start
    assert sum(shares.values()) >= N_TRIALS - 1  # the reference is no job of its own
