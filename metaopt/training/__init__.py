"""One training as a generator of records; failures are values."""

from metaopt.training.checkpoint import load_training, pack_training, save_training, unpack_training
from metaopt.training.records import Outcome, Record
from metaopt.training.training import Training, train

__all__ = [
    "Outcome",
    "Record",
    "Training",
    "load_training",
    "pack_training",
    "save_training",
    "train",
    "unpack_training",
]
