"""Trainings of a tenth of a second, and how to compare them."""

from collections.abc import Iterable
from typing import Any

from metaopt.gan import Task
from metaopt.schedules import Schedule, build_schedule
from metaopt.training import Record, Training

N_RECORDS = 20
"""Records after the first one, at two evaluations."""


def tiny_task(**overrides: Any) -> Task:
    """Digits of 8 x 8 for 40 iterations of 16 images."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "data": "digits",
        "network": "mlp",
        "width": 16,
        "z_dim": 8,
        "batch": 16,
        "budget": 40,
        "evaluations": 2,
        "n_samples": 100,
    }
    return Task(**fields | overrides)


def constant(lr_g: float = 2e-3, lr_d: float = 1e-3, update_ratio: float = 1.0) -> Schedule:
    """The same controls all the way."""
    return build_schedule("constant", {"lr_g": lr_g, "lr_d": lr_d, "update_ratio": update_ratio})


def closed_loop(update_ratio: float = 1.0) -> Schedule:
    """A schedule whose rates follow the losses, quick to answer."""
    params = {"lr_g": 2e-3, "lr_d": 5e-3, "h_min": 0.1, "f_max": 2.0, "x_min": 0.3, "x_max": 0.3}
    return build_schedule("gap_aware", params | {"update_ratio": update_ratio})


def knots() -> Schedule:
    """All three controls move."""
    return build_schedule(
        "knots",
        {
            **{"lr_g_0": 1e-4, "lr_g_1": 4e-3, "lr_g_2": 1e-3},
            **{"lr_d_0": 3e-3, "lr_d_1": 1e-4, "lr_d_2": 2e-3},
            **{"update_ratio_0": 0.5, "update_ratio_1": 3.0, "update_ratio_2": 1.0},
        },
    )


def trained(task: Task, schedule: Schedule, seed: int = 0) -> list[Record]:
    """All records of one training."""
    return list(Training(task, schedule, seed).run())


def exact(records: Iterable[Record]) -> list[str]:
    """Records to compare to the last bit, NaN equal to NaN, time left out."""
    return [repr(record.as_dict() | {"wall_s": None}) for record in records]
