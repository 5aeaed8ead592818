"""The inner problem: data sets, networks, losses, and the tasks made of them."""

from metaopt.gan.augment import AUGMENTATIONS, augment
from metaopt.gan.batches import sample_batch, sample_classes, sample_labelled
from metaopt.gan.catalogue import DATASETS, Card
from metaopt.gan.corruption import Corruption, corrupted
from metaopt.gan.datasets import Dataset, load_dataset
from metaopt.gan.diff_augment import DIFF_AUGMENTATIONS, diff_augment
from metaopt.gan.images import to_uint8, to_unit
from metaopt.gan.losses import LOSSES, GanLoss
from metaopt.gan.networks import NETWORKS, Pair, PairSpec, make_pair
from metaopt.gan.tasks import TASKS, Task, check_dataset, pair_spec, task_from_spec

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "DIFF_AUGMENTATIONS",
    "LOSSES",
    "NETWORKS",
    "TASKS",
    "Card",
    "Corruption",
    "Dataset",
    "GanLoss",
    "Pair",
    "PairSpec",
    "Task",
    "augment",
    "check_dataset",
    "corrupted",
    "diff_augment",
    "load_dataset",
    "make_pair",
    "pair_spec",
    "sample_batch",
    "sample_classes",
    "sample_labelled",
    "task_from_spec",
    "to_uint8",
    "to_unit",
]
