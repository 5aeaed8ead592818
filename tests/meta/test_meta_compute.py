"""The share of the budget that the reference's FID takes, in closed form."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaopt.errors import ConfigError
from metaopt.meta import TrainingCurve
from metaopt.meta.compute import log_compute, share_to_reach
from metaopt.training import Outcome

FIDS = st.lists(st.floats(1e-3, 1e4), min_size=5, max_size=5)


def curve(*fids: float, outcome: Outcome | None = Outcome.FINISHED) -> TrainingCurve:
    return TrainingCurve(fids=fids, outcome=outcome)


@pytest.mark.parametrize(
    ("fids", "fid", "share"),
    [
        ((100, 50, 25, 12.5, 6.25), 25, 2 / 4),  # at an evaluation
        ((100, 50, 25, 12.5, 6.25), 25 / math.sqrt(2), 2.5 / 4),  # half of the way in ln FID
        ((100, 10, 10, 10, 10), 100 / 10**0.25, 0.25 / 4),
        ((100, 50, 60, 20, 80), 20, 3 / 4),  # the first time, whatever comes later
        ((100, 50, 60, 70, 80), 20, 1),  # never
        ((100, 90, 80, 70, 20), 20, 1),  # at the end
        ((100, 50, 40, 30, 20), 200, 0.1 / 4),  # the reference is worse than untrained
        ((100, 1e-9, 1e-9, 1e-9, 1e-9), 99, 0.1 / 4),  # no sooner than a tenth of the first part
    ],
)
def test_share_of_the_budget(fids: tuple[float, ...], fid: float, share: float) -> None:
    assert share_to_reach(curve(*fids), fid, 4) == pytest.approx(share)


def test_training_that_ended_early() -> None:
    assert share_to_reach(curve(100, 50, outcome=Outcome.COLLAPSED), 60, 4) < 1 / 4
    assert share_to_reach(curve(100, 50, outcome=Outcome.COLLAPSED), 40, 4) == 1
    assert share_to_reach(curve(100, 20, outcome=Outcome.DIVERGED), 60, 4) == 1


@given(FIDS, st.floats(1e-3, 1e4), st.floats(1.0, 10.0))
def test_a_harder_aim_takes_no_less(fids: list[float], fid: float, factor: float) -> None:
    share = share_to_reach(curve(*fids), fid, 4)
    assert 0.1 / 4 <= share <= 1
    assert share_to_reach(curve(*fids), fid / factor, 4) >= share - 1e-12


def test_mean_over_trainings_of_the_same_task_and_seed() -> None:
    reference = {("a", 0): curve(100, 80, 60, 50, 40), ("b", 0): curve(10, 9, 8, 7, 6)}
    ours = {("a", 0): curve(100, 40, 30, 20, 10), ("b", 0): curve(10, 9, 9, 9, 9)}
    assert log_compute(ours, reference, 4) == pytest.approx((math.log(1 / 4) + 0) / 2)
    assert log_compute(reference, reference, 4) == 0
    with pytest.raises(ConfigError, match="Trainings must be those of the reference"):
        log_compute({("a", 0): ours["a", 0]}, reference, 4)
