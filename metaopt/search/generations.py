"""What the folder of a study keeps of a population: intervals, saved trainings, and what was decided."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metaopt.meta.reference import record_from
from metaopt.search.jobs import Saved, Slice
from metaopt.search.optuna_space import TrialRow
from metaopt.search.population import Standing, Step
from metaopt.search.problems import AnyRecord
from metaopt.whole_file import read_checked, write_checked, write_whole

FOLDER = "population"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Done:
    """An interval that was trained."""

    records: Mapping[int, Sequence[AnyRecord]]
    """New ones, by index of the training; none of one that had ended before."""
    wall_s: float
    note: str
    """What went wrong on its way."""
    memory_mb: float
    """As of a slice, with the next."""
    gpu_memory_mb: float
    digests: Mapping[int, str]
    """SHA-256 of each saved training, in hex."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided at an evaluation, and on what."""

    standings: Sequence[Standing]
    steps: Mapping[int, Step]


class Generations:
    """Files of `folder`, each written whole; one that is damaged is removed, which is said. StorageError: disk full."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the study's; nothing is written yet."""
        self._folder = folder / FOLDER

    def keep(self, number: int, evaluation: int, part: Slice, note: str) -> Done:
        """Keep what a member has done until an evaluation; the trainings first, so that they are there if it is."""
        for i, content in part.saved.items():
            write_whole(self._saved(number, evaluation, i), content)
        digests = {i: hashlib.sha256(content).hexdigest() for i, content in part.saved.items()}
        rest: dict[str, Any] = {
            "wall_s": part.wall_s,
            "note": note,
            "memory_mb": part.memory_mb,
            "gpu_memory_mb": part.gpu_memory_mb,
        }
        records = {str(i): [record.as_dict() for record in records] for i, records in part.records.items()}
        saved = {str(i): digest for i, digest in digests.items()}
        write_checked(self._done(number, evaluation), {"records": records, "digests": saved, **rest})
        return Done(records=part.records, digests=digests, **rest)

    def find(self, number: int, evaluation: int) -> Done | None:
        """What a member has done until an evaluation; None if it has not."""
        content = _read(self._done(number, evaluation))
        if content is None:
            return None
        records = {int(i): [record_from(item) for item in part] for i, part in content.pop("records").items()}
        digests = {int(i): digest for i, digest in content.pop("digests").items()}
        return Done(records=records, digests=digests, **content)

    def saved(self, number: int, evaluation: int, done: Done | None) -> Saved | None:
        """The trainings of a member at an evaluation; None unless all are there as they were written."""
        if done is None or not done.digests:
            return None
        found = Saved()
        for i, digest in done.digests.items():
            try:
                content = self._saved(number, evaluation, i).read_bytes()
            except OSError:
                return None
            if hashlib.sha256(content).hexdigest() != digest:
                return None
            found[i] = content
        return found

    def forget(self, upto: int) -> None:
        """Remove trainings that were saved at evaluations up to that one."""
        for path in self._folder.glob("*.pt"):
            if int(path.name.split("-")[1]) <= upto:
                path.unlink(missing_ok=True)

    def decide(self, evaluation: int, decision: Decision) -> None:
        """Keep a decision, before anything follows from it."""
        steps = {str(number): asdict(step) for number, step in decision.steps.items()}
        standings = [asdict(one) for one in decision.standings]
        write_checked(self._decision(evaluation), {"standings": standings, "steps": steps})

    def decision(self, evaluation: int) -> Decision | None:
        """What was decided at an evaluation; None if nothing was."""
        content = _read(self._decision(evaluation))
        if content is None:
            return None
        return Decision(
            standings=[Standing(**item) for item in content["standings"]],
            steps={int(number): Step(**item) for number, item in content["steps"].items()},
        )

    def _done(self, number: int, evaluation: int) -> Path:
        return self._folder / f"{number:05d}-{evaluation:02d}.json"

    def _saved(self, number: int, evaluation: int, i: int) -> Path:
        return self._folder / f"{number:05d}-{evaluation:02d}-{i}.pt"

    def _decision(self, evaluation: int) -> Path:
        return self._folder / f"decided-{evaluation:02d}.json"


def history(folder: Path, rows: Sequence[TrialRow]) -> list[dict[str, Any]]:
    """What a population has done, one row a member and evaluation; empty where there is none.

    Columns: `evaluation`, `trial`, its `score` there and the parameters until then, and `copies`, the trial whose
    weights it went on with, where that is not its own.

    Args:
        folder: the study's.
        rows: its trials.
    """
    kept, table = Generations(folder), []
    n = max((len(row.verdict.intervals) for row in rows if row.verdict), default=0)
    for k in range(1, n):
        decision = kept.decision(k)
        for one in decision.standings if decision else ():
            source = decision.steps[one.number].source if decision else one.number
            copies = None if source == one.number else source
            table.append({"evaluation": k, "trial": one.number, "score": one.score, **one.params, "copies": copies})
    for row in rows:
        if row.verdict and row.verdict.intervals:
            last = row.verdict.intervals[-1]["params"]
            score = row.verdict.scores[-1] if row.verdict.scores else None
            table.append({"evaluation": n, "trial": row.number, "score": score, **last, "copies": None})
    return table


def _read(path: Path) -> dict[str, Any] | None:
    """What was written there; None if there is nothing, or what is there is damaged, and is then removed."""
    content = read_checked(path) if path.exists() else None
    if content is None and path.exists():
        log.warning("%s is not whole: what it held is made again", path)
        path.unlink()
    return content
