"""What a schedule that was not tried is answered by: closed forms on made-up trials."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from past_searches import curve, made_up
from studies import tiny_study, write_study

from metaopt.search.study import Study, load_study
from metaopt.search.surrogate import Surrogate
from metaopt.training import Outcome

REFERENCE = {"lr_g": 2e-4, "lr_d": 2e-4, "update_ratio": 1.0}
RANGES = {"lr_g": {"low": 1e-4, "high": 1e-2}, "lr_d": 2e-4, "update_ratio": {"low": 0.5, "high": 4.5, "log": False}}


def study_of(folder: Path, **changes: Any) -> Study:
    schedule = {"family": "constant", "ranges": RANGES}
    return load_study(str(write_study(folder, tiny_study(schedule=schedule, **changes))))


def at(lr_g: float, ratio: float = 1.0) -> dict[str, float]:
    return REFERENCE | {"lr_g": lr_g, "update_ratio": ratio}


def test_schedule_that_was_tried_is_itself(tmp_path: Path) -> None:
    lost = curve(40.0, outcome=Outcome.DIVERGED)
    trials = [(REFERENCE, [curve(50, 40)], 1.0), (at(1e-3), [curve(30, 20)], 2.0), (at(1.01e-3), [lost], 0.5)]
    surrogate = Surrogate(made_up(study_of(tmp_path), trials))
    for params, curves, pace in trials:
        answer = surrogate(params)
        assert (answer.curves, answer.pace, answer.recorded) == ({0: curves[0]}, pytest.approx(pace), True)


def test_others_are_weighted_by_inverse_distance_on_the_searched_scales(tmp_path: Path) -> None:
    trials = [(REFERENCE, [curve(50, 40)], 1.0), (at(1e-3), [curve(30, 20)], 2.0), (at(1e-3, 2.0), [curve(9, 8)], 8.0)]
    surrogate = Surrogate(made_up(study_of(tmp_path), trials), n_neighbours=2)
    answer = surrogate(at(1e-3, 1.8))  # 0.2 of 4 from the last, 0.8 of 4 from the one before: weights 4 to 1
    assert not answer.recorded
    assert answer.curves[0].fids == pytest.approx((100, 30**0.2 * 9**0.8, 20**0.2 * 8**0.8))
    assert answer.pace == pytest.approx(2**0.2 * 8**0.8)
    decade = Surrogate(made_up(study_of(tmp_path), trials[:2]), n_neighbours=2)
    distances = math.log(5e-4 / 2e-4), math.log(1e-3 / 5e-4)  # both scales are of the same logarithmic range
    share = distances[1] / sum(distances)
    assert decade(at(5e-4)).curves[0].fid_at(2) == pytest.approx(40**share * 20 ** (1 - share))


@pytest.mark.parametrize(("nearer", "diverges"), [(1.6, True), (1.4, False)])
def test_divergence_is_what_most_of_the_weight_did(tmp_path: Path, nearer: float, diverges: bool) -> None:
    lost = curve(outcome=Outcome.DIVERGED)
    trials = [(REFERENCE, [curve(50, 40)], 1.0), (at(1e-3), [curve(30, 20)], 1.0), (at(1e-3, 2.0), [lost], 0.5)]
    surrogate = Surrogate(made_up(study_of(tmp_path), trials), n_neighbours=2)
    found = surrogate(at(1e-3, nearer)).curves[0]
    assert found == (lost if diverges else curve(*found.fids[1:]))
    assert diverges or found.fids == pytest.approx((100, 30, 20))


def test_trial_that_was_stopped_stays_as_much_worse_than_the_reference(tmp_path: Path) -> None:
    study = study_of(tmp_path, seeds=[0, 1])
    reference = [curve(50, 40), curve(60, 30)]
    begun = [curve(25, outcome=None)]  # of two trainings, as in a race
    surrogate = Surrogate(made_up(study, [(REFERENCE, reference, 1.0), (at(1e-3), begun, 1.0)]))
    found = surrogate(at(1e-3)).curves
    assert found[0].fids == pytest.approx((100, 25, 20))
    assert found[1].fids == pytest.approx((100, 30, 15))
    assert all(one.outcome is Outcome.FINISHED for one in found.values())


def test_collapsed_training_counts_with_its_last_fid(tmp_path: Path) -> None:
    early = curve(80, outcome=Outcome.COLLAPSED)
    trials = [(REFERENCE, [curve(50, 40)], 1.0), (at(1e-3), [early], 1.0), (at(1e-3, 2.0), [curve(20, 5)], 1.0)]
    surrogate = Surrogate(made_up(study_of(tmp_path), trials), n_neighbours=2)
    assert surrogate(at(1e-3, 1.5)).curves[0].fids == pytest.approx((100, 40, 20))


@given(lr_g=st.floats(1e-4, 1e-2), ratio=st.floats(0.5, 4.5), k=st.integers(1, 6))
def test_no_answer_leaves_what_was_recorded(
    tmp_path_factory: pytest.TempPathFactory, lr_g: float, ratio: float, k: int
) -> None:
    study = study_of(tmp_path_factory.mktemp("study"))
    finals = [40.0, 12.0, 90.0, 31.0, 7.0]
    trials = [(at(1e-4 * 3**n, 0.5 + n), [curve(2 * fid, fid)], 1.0 + n) for n, fid in enumerate(finals)]
    answer = Surrogate(made_up(study, trials), n_neighbours=k)(at(lr_g, ratio))
    assert min(finals) * (1 - 1e-9) <= answer.curves[0].fid_at(2) <= max(finals) * (1 + 1e-9)
    assert 1 - 1e-9 <= answer.pace <= 5 + 1e-9


def test_leaving_one_out_guesses_a_smooth_function_well_and_noise_badly(tmp_path: Path) -> None:
    lrs = [2e-4, *(1e-4 * 1.1**n for n in range(40))]

    def error(fids: list[float]) -> float:
        trials = [(at(lr), [curve(fid, fid)], 1.0) for lr, fid in zip(lrs, fids, strict=True)]
        true, guessed = Surrogate(made_up(study_of(tmp_path), trials)).left_out()
        assert true == pytest.approx([math.log(fid / fids[0]) for fid in fids[1:]])
        return sum(abs(a - b) for a, b in zip(true, guessed, strict=True)) / len(true)

    assert error([lr**-0.5 for lr in lrs]) < 0.03
    assert error([40.0 if n % 2 else 4.0 for n in range(41)]) > 1.0
