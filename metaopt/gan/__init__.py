"""The inner problem: data sets, networks, losses, and the tasks made of them."""

from metaopt.gan.datasets import DATASETS, Dataset, load_dataset, sample_batch
from metaopt.gan.images import to_uint8, to_unit
from metaopt.gan.losses import LOSSES, GanLoss
from metaopt.gan.networks import NETWORKS, Pair, check_network_size, make_pair
from metaopt.gan.tasks import TASKS, Task, check_dataset, task_from_spec

__all__ = [
    "DATASETS",
    "LOSSES",
    "NETWORKS",
    "TASKS",
    "Dataset",
    "GanLoss",
    "Pair",
    "Task",
    "check_dataset",
    "check_network_size",
    "load_dataset",
    "make_pair",
    "sample_batch",
    "task_from_spec",
    "to_uint8",
    "to_unit",
]
