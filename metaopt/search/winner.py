"""The outcome of a validation, and which trial a study hands out."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FILE = "validation.json"
REFERENCE = 0
"""Number of the trial that all scores are relative to."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trial that was trained again. All scores are relative to the reference on the same tasks and seeds."""

    trial: int
    search: float
    """Score in the search."""
    fresh: float
    """Score on the tasks of the search with fresh seeds."""
    validation: float
    """Score on the tasks of the validation: the winner has the lowest."""
    by_task: Mapping[str, float]
    """Mean ln(FID / reference FID) on each task, of the search and of the validation."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The candidates, best first; the reference is one of them, with 0 throughout."""

    candidates: Sequence[Candidate]
    top: int
    """Trials that were trained again, besides the reference, as asked for."""

    @property
    def winner(self) -> Candidate:
        """Lowest score on the tasks that the search has not seen."""
        return self.candidates[0]

    @property
    def regret(self) -> float:
        """``mean(fresh - search)`` over the trials that were trained again, the reference apart; 0 if there are none.

        What a score in this search is too low by, where it is among the best.
        """
        gaps = [one.fresh - one.search for one in self.candidates if one.trial != REFERENCE]
        return math.fsum(gaps) / len(gaps) if gaps else 0.0


def read_validation(folder: Path) -> Validation | None:
    """The validation that `folder` holds; None if it holds none, or one that is not whole."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Validation(candidates=[Candidate(**item) for item in content["candidates"]], top=content["top"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
