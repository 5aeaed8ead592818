"""A cohort: the trainings of one candidate schedule on its tasks and seeds, advanced together slice by slice."""

from collections.abc import Mapping

from metaopt.training.grid import grid_png
from metaopt.training.records import Record
from metaopt.training.training import Training

_GRID_IMAGES = 64


class Cohort:
    """Trainings by a number of the caller's choice, in that order."""

    def __init__(self, trainings: Mapping[int, Training]) -> None:
        self._trainings = trainings

    def advance(self, until: float) -> dict[int, list[Record]]:
        """Bring every training to `until` (share of its budget, in [0, 1]); the new records of each."""
        return {i: list(training.run(until)) for i, training in self._trainings.items()}

    @property
    def over(self) -> bool:
        """Whether every training has ended, however it did."""
        return all(training.finding is not None for training in self._trainings.values())

    def grids(self) -> dict[int, bytes]:
        """64 samples of each training that has not diverged, as PNG."""
        return {i: grid_png(t.sample(_GRID_IMAGES)) for i, t in self._trainings.items() if t.healthy}
