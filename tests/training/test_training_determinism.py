"""A training is a function of (task, schedule, seed), and its slices are the whole."""

from dataclasses import replace

import pytest
import torch
from tiny import closed_loop, constant, exact, knots, tiny_task, trained
from torch import Tensor

from metaopt.schedules import Schedule
from metaopt.training import Outcome, Training, train
from metaopt.training.cohort import Cohort

RATIOS = (0.5, 1.0, 3.0)


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_the_same_training_twice_gives_the_same_records(network: str) -> None:
    task = tiny_task(network=network, width=4)
    torch.manual_seed(1)
    first = trained(task, closed_loop(1.5), seed=3)
    torch.manual_seed(2)  # the global random state is none of its business
    assert exact(first) == exact(train(task, closed_loop(1.5), 3))
    assert first[-1].outcome is Outcome.FINISHED


def test_seed_schedule_and_task_each_matter() -> None:
    records = exact(trained(tiny_task(), constant(), seed=0))
    for other in (
        trained(tiny_task(), constant(), seed=1),
        trained(tiny_task(), constant(lr_g=2.1e-3), seed=0),
        trained(tiny_task(), constant(lr_d=1.1e-3), seed=0),
        trained(tiny_task(), constant(update_ratio=1.1), seed=0),
        trained(tiny_task(beta1=0.6), constant(), seed=0),
        trained(tiny_task(beta2=0.9), constant(), seed=0),
    ):
        assert exact(other)[-1] != records[-1]
    assert exact(trained(replace(tiny_task(), name="another"), constant(), seed=0)) == records


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    trained(tiny_task(budget=20, evaluations=1), constant())
    assert torch.equal(before, torch.get_rng_state())


def _real_batches(schedule: Schedule, seed: int = 0) -> list[Tensor]:
    training = Training(tiny_task(), schedule, seed)
    seen: list[Tensor] = []

    def keep(_module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        if training.controller.turn == "d":
            seen.append(inputs[0].detach().clone())

    training.discriminator.register_forward_pre_hook(keep)
    list(training.run())
    assert len(seen) == 2 * training.controller.d_updates
    return seen[::2]  # D looks at real images first, then at generated ones


def test_update_ratio_changes_neither_the_start_nor_the_order_of_the_data() -> None:
    trainings = [Training(tiny_task(), constant(update_ratio=ratio), 5) for ratio in RATIOS]
    for player in ("generator", "discriminator"):
        states = [getattr(training, player).state_dict() for training in trainings]
        for name, value in states[0].items():
            assert all(torch.equal(value, state[name]) for state in states), name
    assert len({next(training.run()).fid for training in trainings}) == 1
    batches = [_real_batches(constant(update_ratio=ratio), seed=5) for ratio in RATIOS]
    common = min(len(one) for one in batches)
    assert common > 20
    for k in range(common):
        assert all(torch.equal(batches[0][k], one[k]) for one in batches), k
    assert not torch.equal(batches[0][0], batches[0][1])
    assert not torch.equal(batches[0][0], _real_batches(constant(), seed=6)[0])


def test_the_untrained_networks_of_two_seeds_differ() -> None:
    fids = {next(Training(tiny_task(), constant(), seed).run()).fid for seed in range(4)}
    assert len(fids) == 4


@pytest.mark.parametrize("schedule", [constant(), closed_loop(1.5), knots()], ids=["constant", "closed", "knots"])
def test_slices_make_up_the_whole(schedule: Schedule) -> None:
    whole = trained(tiny_task(), schedule)
    training = Training(tiny_task(), schedule, 0)
    slices = [list(training.run(until)) for until in (0.0, 0.13, 0.13, 0.5, 0.77, 1.0, 1.0)]
    assert [len(part) for part in slices] == [1, 2, 0, 8, 5, 5, 0]
    assert exact(record for part in slices for record in part) == exact(whole)


def test_sampling_and_scoring_between_records_changes_nothing() -> None:
    task = tiny_task(network="dcgan", width=4)
    training, records = Training(task, constant(), 0), []
    for record in training.run():
        records.append(record)
        before = training.sample(7)
        assert training.measures()["fid"] >= 0
        assert torch.equal(before, training.sample(7))
    assert exact(records) == exact(trained(task, constant()))


def test_sample_is_bytes_of_the_data_s_shape_and_moves_with_training() -> None:
    training = Training(tiny_task(), constant(), 0)
    list(training.run(0.0))
    before = training.sample(9)
    assert before.dtype == torch.uint8 and before.shape == (9, 1, 8, 8)
    list(training.run(0.5))
    assert not torch.equal(before, training.sample(9))


def test_fid_in_a_record_is_that_of_the_moment() -> None:
    training = Training(tiny_task(), constant(), 0)
    for record in training.run():
        if record.fid is not None:
            assert record.fid == training.measures()["fid"]


def test_a_cohort_yields_the_records_of_its_trainings() -> None:
    tasks = [tiny_task(), tiny_task(name="wide", width=24)]
    pairs = [(task, seed) for task in tasks for seed in (0, 1)]
    cohort = Cohort({i: Training(task, constant(), seed) for i, (task, seed) in enumerate(pairs)})
    first = cohort.advance(0.3)
    assert not cohort.over
    second = cohort.advance(1.0)
    assert cohort.over
    for i, (task, seed) in enumerate(pairs):
        assert exact(first[i] + second[i]) == exact(trained(task, constant(), seed))
    assert len({bytes(grid) for grid in cohort.grids().values()}) == 4
