"""ScheduleLR: the curve at each step, alone and inside PyTorch's own schedulers."""

import io
import json
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, LRScheduler, SequentialLR

from metaopt.errors import ConfigError
from metaopt.integrations.torch import ScheduleLR, lr_schedulers
from metaopt.schedules import BASELINES, FAMILIES, Schedule, ScheduleArtifact, build_schedule

COSINE = ScheduleArtifact(family="cosine", params={"lr_g": 1e-2, "lr_d": 4e-2, "update_ratio": 3.0, "final_share": 0.1})
N = 20


def optimizer(lr: float = 0.7, groups: int = 1) -> Optimizer:
    return SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": lr + i} for i in range(groups)])


def curve(k: int, peak: float = 1e-2) -> float:
    """Cosine from `peak` to a tenth of it, then flat."""
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * min(k / N, 1))) / 2)


def rates(opt: Optimizer, scheduler: LRScheduler | ChainedScheduler, n: int) -> list[float]:
    """Rates in force at `n` updates, starting with the present one."""
    seen = []
    for _ in range(n):
        seen.append(opt.param_groups[0]["lr"])
        opt.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize(("player", "peak"), [("g", 1e-2), ("d", 4e-2)])
def test_it_equals_the_curve_at_every_step_and_holds_its_end(player: str, peak: float) -> None:
    opt = optimizer()
    scheduler = ScheduleLR(opt, COSINE, player=player, iterations=N)
    assert rates(opt, scheduler, N + 5) == pytest.approx([curve(k, peak) for k in range(N + 5)], rel=1e-14)


def test_a_pair_for_both_players() -> None:
    opt_g, opt_d = optimizer(), optimizer()
    scheduler_g, scheduler_d = lr_schedulers(COSINE, opt_g, opt_d, iterations=N)
    for k in range(N + 1):
        assert opt_g.param_groups[0]["lr"] == scheduler_g.get_last_lr()[0] == pytest.approx(curve(k))
        assert opt_d.param_groups[0]["lr"] == scheduler_d.get_last_lr()[0] == pytest.approx(curve(k, 4e-2))
        for opt, scheduler in ((opt_g, scheduler_g), (opt_d, scheduler_d)):
            opt.step()
            scheduler.step()


@pytest.mark.parametrize(("ideal", "factor"), [(math.log(4), 1.0), (2.0, 0.5)])
def test_a_file_knows_the_kind_of_loss(ideal: float, factor: float) -> None:
    params = {p.name: p.default for p in FAMILIES["residual"].parameters}
    params |= {"lr_d": 1e-3, "power": 0.0, "d_hinge": math.log(0.5)}
    artifact = ScheduleArtifact(family="residual", params=params, ideal_d_loss=ideal)
    scheduler = ScheduleLR(optimizer(), artifact, player="d", iterations=N)
    assert scheduler.get_last_lr()[0] == pytest.approx(1e-3 * factor, rel=1e-12)


def test_every_parameter_group_gets_the_rate() -> None:
    opt = optimizer(groups=3)
    scheduler = ScheduleLR(opt, COSINE, player="g", iterations=N)
    for k in range(N):
        assert [group["lr"] for group in opt.param_groups] == pytest.approx([curve(k)] * 3)
        opt.step()
        scheduler.step()


def test_a_rate_in_a_tensor_stays_that_tensor() -> None:
    rate = torch.tensor(0.5, dtype=torch.float64)
    opt = Adam([nn.Parameter(torch.ones(1))], lr=rate, foreach=False)
    scheduler = ScheduleLR(opt, COSINE, player="g", iterations=N)
    for k in range(N):
        assert opt.param_groups[0]["lr"] is rate
        assert rate.item() == pytest.approx(curve(k), rel=1e-14)
        opt.step()
        scheduler.step()


def through_json(state: dict[str, object]) -> dict[str, object]:
    return json.loads(json.dumps(state))


def through_checkpoint(state: dict[str, object]) -> dict[str, object]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("kept", [through_json, through_checkpoint])
@pytest.mark.parametrize("moment", [0, 1, 7, N])
def test_a_saved_scheduler_goes_on(kept: Callable[[dict[str, object]], dict[str, object]], moment: int) -> None:
    opt = optimizer()
    scheduler = ScheduleLR(opt, COSINE, player="d", iterations=N)
    rates(opt, scheduler, moment)
    other_opt = optimizer()
    other = ScheduleLR(other_opt, COSINE, player="d", iterations=N)
    other_opt.load_state_dict(opt.state_dict())
    other.load_state_dict(kept(scheduler.state_dict()))
    assert other.get_last_lr() == scheduler.get_last_lr()
    assert rates(other_opt, other, N) == rates(opt, scheduler, N)


def test_last_epoch_means_what_it_does_in_pytorch() -> None:
    opt = optimizer()
    for group in opt.param_groups:
        group["initial_lr"] = group["lr"]
    scheduler = ScheduleLR(opt, COSINE, player="g", iterations=N, last_epoch=9)
    assert rates(opt, scheduler, 3) == pytest.approx([curve(10), curve(11), curve(12)])


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # SequentialLR's own call
def test_after_a_warm_up_in_pytorch_s_sequence() -> None:
    opt = optimizer(lr=0.2)
    warm_up = ConstantLR(opt, factor=0.5, total_iters=5)
    sequence = SequentialLR(opt, [warm_up, ScheduleLR(opt, COSINE, player="g", iterations=N)], milestones=[5])
    seen = rates(opt, sequence, N + 8)
    assert seen == pytest.approx([0.1] * 5 + [curve(k) for k in range(N + 3)])


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_before_another_in_pytorch_s_sequence() -> None:
    opt = optimizer(lr=0.2)
    schedule = ScheduleLR(opt, COSINE, player="g", iterations=N)
    sequence = SequentialLR(opt, [schedule, ConstantLR(opt, factor=0.5, total_iters=100)], milestones=[6])
    assert rates(opt, sequence, 6) == pytest.approx([curve(k) for k in range(6)])


def test_in_pytorch_s_chain_it_has_the_word() -> None:
    """It sets the rate itself, so that what stands before it in the chain is overruled."""
    opt = optimizer(lr=0.2)
    chain = ChainedScheduler(
        [ConstantLR(opt, factor=0.5, total_iters=3), ScheduleLR(opt, COSINE, player="g", iterations=N)]
    )
    assert rates(opt, chain, N) == pytest.approx([curve(k) for k in range(N)])


@pytest.mark.parametrize(
    "closed",
    [
        BASELINES["gap_aware"].build(),
        build_schedule("gap_aware", BASELINES["gap_aware"].params),
        ScheduleArtifact(family="gap_aware", params=BASELINES["gap_aware"].params),
    ],
)
def test_a_closed_loop_schedule_is_refused_wherever_it_comes_from(closed: Schedule) -> None:
    opt = optimizer()
    with pytest.raises(ConfigError, match=r"must read progress alone, .* but '(GapAware|gap_aware)' reads them"):
        ScheduleLR(opt, closed, player="d", iterations=N)
    with pytest.raises(ConfigError, match="use ScheduleController"):
        lr_schedulers(closed, opt, optimizer(), iterations=N)
    assert opt.param_groups[0]["lr"] == 0.7


@pytest.mark.parametrize("iterations", [0, -1])
def test_a_budget_is_at_least_one_step(iterations: int) -> None:
    with pytest.raises(ConfigError, match=f"`iterations >= 1` must hold, but got iterations={iterations}"):
        ScheduleLR(optimizer(), COSINE, player="g", iterations=iterations)


@pytest.mark.parametrize("player", ["G", "generator", "", None])
def test_a_player_is_d_or_g(player: object) -> None:
    with pytest.raises(ConfigError, match=f"`player` must be 'd' or 'g', but got {player!r}"):
        ScheduleLR(optimizer(), COSINE, player=player, iterations=N)
