"""A cohort: the trainings of one candidate schedule on its tasks and seeds, advanced together slice by slice."""

from collections.abc import Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from metaopt.training.grid import grid_png

_GRID_IMAGES = 64


Rec_co = TypeVar("Rec_co", covariant=True)


class Advancing(Protocol[Rec_co]):
    """A training, or what goes on as one does."""

    @property
    def finding(self) -> object: ...
    @property
    def healthy(self) -> bool: ...
    def run(self, until: float = 1.0) -> Iterator[Rec_co]: ...
    def sample(self, n: int) -> Tensor: ...


class Cohort(Generic[Rec_co]):
    """Trainings by a number of the caller's choice, in that order."""

    def __init__(self, trainings: Mapping[int, Advancing[Rec_co]]) -> None:
        self._trainings = trainings

    def advance(self, until: float) -> dict[int, list[Rec_co]]:
        """Bring every training to `until` (share of its budget, in [0, 1]); the new records of each."""
        return {i: list(training.run(until)) for i, training in self._trainings.items()}

    @property
    def over(self) -> bool:
        """Whether every training has ended, however it did."""
        return all(training.finding is not None for training in self._trainings.values())

    def grids(self) -> dict[int, bytes]:
        """64 samples or fewer of each training that has not diverged, as PNG."""
        return {i: grid_png(t.sample(_GRID_IMAGES)) for i, t in self._trainings.items() if t.healthy}
