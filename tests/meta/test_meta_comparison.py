"""Comparisons of schedules from their final FIDs."""

import math

import numpy as np
import pytest

from metaopt.errors import ConfigError
from metaopt.meta.comparison import Final, compare
from metaopt.meta.objective import TrainingId


def finals(fids: dict[str, list[float]], diverged: int = 0) -> dict[TrainingId, Final]:
    """Task -> FID of each seed; the first `diverged` of each task did."""
    return {
        (task, seed): Final(fid=fid, diverged=seed < diverged)
        for task, part in fids.items()
        for seed, fid in enumerate(part)
    }


OURS = {"a": [10.0, 20.0, 40.0, 80.0], "b": [5.0, 5.0, 5.0, 5.0]}
THEIRS = {"a": [20.0, 40.0, 80.0, 160.0], "b": [5.0 * math.e] * 4}


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_ratios_are_paired_by_seed() -> None:
    """FIDs that vary eightfold with the seed, and halve in each pair: no doubt about the ratio."""
    found = compare("ours", "theirs", {"ours": finals(OURS), "theirs": finals(THEIRS)}, random())
    a, b = found.tasks
    assert (a.task, b.task, a.seeds) == ("a", "b", 4)
    assert a.ratio.estimate == pytest.approx(-math.log(2), abs=1e-12)
    assert a.ratio.low == pytest.approx(a.ratio.high, abs=1e-12)
    assert b.ratio.estimate == pytest.approx(-1.0, abs=1e-12)
    assert found.overall.estimate == pytest.approx((-math.log(2) - 1) / 2, abs=1e-12)
    assert found.improvement.estimate == pytest.approx((10 / 16 + 1.5 / 16 + 1) / 2, abs=1e-12)  # 3 ties in task a


def test_the_other_way_round_is_the_opposite() -> None:
    both = {"ours": finals(OURS), "theirs": finals(THEIRS)}
    one, other = compare("ours", "theirs", both, random()), compare("theirs", "ours", both, random())
    assert one.overall.estimate == pytest.approx(-other.overall.estimate, abs=1e-12)
    assert one.improvement.estimate == pytest.approx(1 - other.improvement.estimate, abs=1e-12)


def test_divergence_is_counted_and_kept() -> None:
    both = {"ours": finals(OURS, diverged=2), "theirs": finals(THEIRS)}
    assert [on.diverged for on in compare("ours", "theirs", both, random()).tasks] == [2, 2]
    assert [on.diverged for on in compare("theirs", "ours", both, random()).tasks] == [0, 0]


def test_a_fid_of_zero_is_a_finite_ratio() -> None:
    both = {"ours": finals({"a": [0.0, 0.0]}), "theirs": finals({"a": [1.0, 1.0]})}
    assert compare("ours", "theirs", both, random()).tasks[0].ratio.estimate == pytest.approx(math.log(1e-12))


def test_other_trainings_are_refused() -> None:
    both = {"ours": finals(OURS), "theirs": finals({"a": THEIRS["a"]})}
    with pytest.raises(ConfigError, match="'ours' and 'theirs' must have the same trainings, but they have not"):
        compare("ours", "theirs", both, random())
