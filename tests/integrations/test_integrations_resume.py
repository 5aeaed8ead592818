"""A controller that is saved and loaded at any moment goes on to the last bit."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gan import SCHEDULES, TinyGan

from metaopt.integrations.torch import ScheduleController

N_UPDATES = 40


def as_json(state: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(state, sort_keys=True))


def as_checkpoint(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def started(name: str, dtype: torch.dtype, seed: int, every: int) -> tuple[TinyGan, ScheduleController]:
    gan = TinyGan(seed, dtype)
    controller = ScheduleController(
        SCHEDULES[name], gan.optimizer_g, gan.optimizer_d, iterations=15, d_cost=0.4, signals_every=every
    )
    return gan, controller


def course(gan: TinyGan, controller: ScheduleController, n: int) -> list[str]:
    """`n` updates, to the last bit."""
    lines = []
    for _ in range(n):
        update = gan.step(controller)
        made = controller.d_updates + controller.g_updates
        if made % 4 == 0:
            controller.observe_kid(made % 3 / 2)
        lines.append(repr((update, controller.signals, controller.controls, controller.turn, gan.rates())))
    return lines


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(list(SCHEDULES)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    every=st.sampled_from([1, 2, 5]),
    moment=st.integers(0, N_UPDATES),
    kept=st.sampled_from([as_json, as_checkpoint]),
)
def test_a_training_cut_in_two_is_the_training_in_one(
    name: str, dtype: torch.dtype, every: int, moment: int, kept: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    whole = course(*started(name, dtype, 0, every), N_UPDATES)
    gan, controller = started(name, dtype, 0, every)
    first = course(gan, controller, moment)
    weights, state = as_checkpoint(gan.state_dict()), kept(controller.state_dict())
    other_gan, other = started(name, dtype, 99, every)
    course(other_gan, other, 7)  # whatever it did before is forgotten
    other_gan.load_state_dict(weights)
    other.load_state_dict(state)
    assert first + course(other_gan, other, N_UPDATES - moment) == whole


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("moment", [0, 1, 13])
def test_a_state_loaded_is_the_state_saved(name: str, moment: int) -> None:
    gan, controller = started(name, torch.float64, 0, 2)
    course(gan, controller, moment)
    _, other = started(name, torch.float64, 1, 2)
    other.load_state_dict(as_json(controller.state_dict()))
    assert other.state_dict() == controller.state_dict()
    for seen in ("turn", "iteration", "progress", "done", "fresh", "losses", "log_grad_norms", "signals", "controls"):
        assert getattr(other, seen) == getattr(controller, seen)


def test_loading_sets_the_rates_of_that_moment() -> None:
    gan, controller = started("knots", torch.float32, 0, 2)
    course(gan, controller, 11)
    other_gan, other = started("knots", torch.float32, 0, 2)
    assert other_gan.rates() != gan.rates()
    other.load_state_dict(controller.state_dict())
    assert other_gan.rates() == gan.rates()


def test_a_saved_state_does_not_move_on_with_the_training() -> None:
    gan, controller = started("reads_all", torch.float32, 0, 1)
    course(gan, controller, 5)
    saved = controller.state_dict()
    copy = as_json(saved)
    course(gan, controller, 5)
    assert as_json(saved) == copy
