"""metaopt: learn how the learning rates and the update ratio of a GAN should move during training."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaopt.gan import Task, task_from_spec
    from metaopt.integrations.torch import ScheduleController
    from metaopt.meta.maml import Initialisation, load_initialisation
    from metaopt.schedules import Controls, Schedule, Signals, load_schedule, save_schedule
    from metaopt.training import train

__version__ = "0.1.0"
__all__ = [
    "Controls",
    "Initialisation",
    "Schedule",
    "ScheduleController",
    "Signals",
    "Task",
    "__version__",
    "load_initialisation",
    "load_schedule",
    "save_schedule",
    "task_from_spec",
    "train",
]

_HOMES = {
    "Controls": "metaopt.schedules",
    "Initialisation": "metaopt.meta.maml",
    "Schedule": "metaopt.schedules",
    "ScheduleController": "metaopt.integrations.torch",
    "Signals": "metaopt.schedules",
    "Task": "metaopt.gan",
    "load_initialisation": "metaopt.meta.maml",
    "load_schedule": "metaopt.schedules",
    "save_schedule": "metaopt.schedules",
    "task_from_spec": "metaopt.gan",
    "train": "metaopt.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'metaopt' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
