"""Lookahead-Minmax: its closed form, when it acts, and that nothing changes where it is off."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import N_RECORDS, closed_loop, constant, exact, tiny_task, trained
from torch import Tensor
from torch.nn import Parameter

from metaopt.search.study import load_task
from metaopt.training import Training, load_training, save_training
from metaopt.training.lookahead import Lookahead


def test_slow_and_fast_weights_by_hand() -> None:
    """Weights that move by +1 and -2 an update, every third one synchronised."""
    up, down = Parameter(torch.tensor([0.0, 8.0])), Parameter(torch.tensor([[4.0]]))
    lookahead = Lookahead([up, down], 3)
    seen = []
    for _ in range(7):
        with torch.no_grad():
            up.add_(1.0)
            down.sub_(2.0)
        lookahead.after_g_update()
        seen.append((up[0].item(), up[1].item(), down.item()))
    assert seen == [
        *((1.0, 9.0, 2.0), (2.0, 10.0, 0.0), (1.5, 9.5, 1.0)),  # half way to (3, 11, -2)
        *((2.5, 10.5, -1.0), (3.5, 11.5, -3.0), (3.0, 11.0, -2.0)),  # half way from there to (4.5, 12.5, -5)
        (4.0, 12.0, -4.0),
    ]


def test_a_loaded_one_goes_on_from_the_same_slow_weights() -> None:
    weight, other = Parameter(torch.zeros(2)), Parameter(torch.ones(2))
    lookahead = Lookahead([weight], 2)
    with torch.no_grad():
        weight.add_(4.0)
    lookahead.after_g_update()
    again = Lookahead([other], 2)
    again.load_state_dict(lookahead.state_dict())
    with torch.no_grad():
        other.copy_(weight)
    for one in (lookahead, again):
        one.after_g_update()
    assert torch.equal(weight, torch.full((2,), 2.0)) and torch.equal(other, weight)


def _weights(training: Training) -> dict[str, list[Tensor]]:
    players = {"g": training.generator, "d": training.discriminator}
    return {name: [p.detach().clone() for p in player.parameters()] for name, player in players.items()}


def _noting(training: Training, name: str, fast: dict[str, list[Tensor]]) -> Callable[[], None]:
    """The step of a player's optimizer, noting the weights that it leaves."""
    step = getattr(training, f"_step_{name}")

    def noting() -> None:
        step()
        fast[name] = _weights(training)[name]

    return noting


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_both_players_step_back_at_every_kth_update_of_g_and_only_then(ratio: float) -> None:
    """What the optimizers did is noted after each of their steps, and the slow weights are followed by hand."""
    training = Training(tiny_task(lookahead=3, network="dcgan", width=4), constant(update_ratio=ratio), 0)
    slow, fast = _weights(training), _weights(training)
    for name in "gd":
        setattr(training, f"_step_{name}", _noting(training, name, fast))
    while training.controller.g_updates < 10:
        turn = training.controller.turn
        training._update_d() if turn == "d" else training._update_g()
        if turn == "g" and training.controller.g_updates % 3 == 0:
            for name in fast:
                slow[name] = [a + (b - a) / 2 for a, b in zip(slow[name], fast[name], strict=True)]
                fast[name] = slow[name]
        for name, now in _weights(training).items():
            for a, b in zip(now, fast[name], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_statistics_of_norms_are_left_alone() -> None:
    """They are as where nothing steps back, up to the first moment."""
    trainings = [Training(tiny_task(lookahead=k, network="dcgan", width=4), constant(), 0) for k in (0, 4)]
    for training in trainings:
        while training.controller.g_updates < 4:
            training._update_d() if training.controller.turn == "d" else training._update_g()
    buffers = [list(t.generator.buffers()) + list(t.discriminator.buffers()) for t in trainings]
    assert len(buffers[0]) > 4
    assert all(torch.equal(a, b) for a, b in zip(*buffers, strict=True))
    weights = [_weights(training) for training in trainings]
    assert not any(torch.equal(weights[0][name][0], weights[1][name][0]) for name in "gd")


def test_off_is_as_if_it_never_came_and_every_period_is_another_training() -> None:
    found = {k: exact(trained(tiny_task(lookahead=k), closed_loop())) for k in (0, 1, 5, 10**9)}
    assert found[0] == found[10**9] == exact(trained(tiny_task(), closed_loop()))
    assert len({tuple(records) for records in found.values()}) == 3
    assert Training(tiny_task(), constant(), 0).state_dict()["lookahead"] is None


@pytest.mark.parametrize("fields", [{}, {"ema": 0.3, "loss": "wgan"}, {"network": "dcgan", "width": 4}])
def test_resumed_at_any_record_it_goes_on_bit_for_bit(fields: dict[str, Any], tmp_path: Path) -> None:
    task, schedule = tiny_task(lookahead=3, **fields), constant(update_ratio=1.5)
    whole, saved = trained(task, schedule, seed=2), Training(task, schedule, 2)
    for n, _record in enumerate(saved.run(), start=1):
        save_training(saved, tmp_path / f"{n}.pt")
    for cut in (1, 5, 11, N_RECORDS):
        resumed = Training(task, schedule, 2)
        load_training(resumed, tmp_path / f"{cut}.pt")
        assert exact(resumed.run()) == exact(whole[cut:])


def test_clipped_weights_stay_clipped() -> None:
    training = Training(tiny_task(loss="wgan", lookahead=2), constant(lr_d=0.05), 0)
    list(training.run(0.5))
    assert max(p.abs().max().item() for p in training.discriminator.parameters()) == pytest.approx(0.01)


def test_it_is_a_key_of_study_files_and_of_the_command() -> None:
    assert load_task("digits", ["lookahead=5"]).lookahead == 5
    assert load_task("digits").lookahead == 0
