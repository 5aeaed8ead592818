"""What the folder of a study keeps of a population: intervals, saved trainings, and what was decided."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from metaopt.meta.reference import record_from
from metaopt.search.jobs import Saved, Slice
from metaopt.search.population import Standing, Step
from metaopt.search.problems import AnyRecord
from metaopt.whole_file import write_whole

FOLDER = "population"


@dataclass(frozen=True, kw_only=True)
class Done:
    """An interval that was trained."""

    records: Mapping[int, Sequence[AnyRecord]]
    """New ones, by index of the training; none of one that had ended before."""
    wall_s: float
    note: str
    """What went wrong on its way."""
    digests: Mapping[int, str]
    """SHA-256 of each saved training, in hex."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided at an evaluation, and on what."""

    standings: Sequence[Standing]
    steps: Mapping[int, Step]


class Generations:
    """Files of `folder`, each written whole. A file that is not whole counts as not there. StorageError: disk full."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the study's; nothing is written yet."""
        self._folder = folder / FOLDER

    def keep(self, number: int, evaluation: int, part: Slice, note: str) -> Done:
        """Keep what a member has done until an evaluation; the trainings first, so that they are there if it is."""
        for i, content in part.saved.items():
            write_whole(self._saved(number, evaluation, i), content)
        digests = {i: hashlib.sha256(content).hexdigest() for i, content in part.saved.items()}
        done = Done(records=part.records, wall_s=part.wall_s, note=note, digests=digests)
        records = {i: [record.as_dict() for record in records] for i, records in part.records.items()}
        said = {"records": records, "wall_s": done.wall_s, "note": note, "digests": digests}
        write_whole(self._done(number, evaluation), json.dumps(said))
        return done

    def find(self, number: int, evaluation: int) -> Done | None:
        """What a member has done until an evaluation; None if it has not."""
        try:
            content = json.loads(self._done(number, evaluation).read_text(encoding="utf-8"))
            return Done(
                records={int(i): [record_from(item) for item in part] for i, part in content["records"].items()},
                wall_s=content["wall_s"],
                note=content["note"],
                digests={int(i): digest for i, digest in content["digests"].items()},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

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
        write_whole(self._decision(evaluation), json.dumps(asdict(decision), indent=1))

    def decision(self, evaluation: int) -> Decision | None:
        """What was decided at an evaluation; None if nothing was."""
        try:
            content = json.loads(self._decision(evaluation).read_text(encoding="utf-8"))
            return Decision(
                standings=[Standing(**item) for item in content["standings"]],
                steps={int(number): Step(**item) for number, item in content["steps"].items()},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def _done(self, number: int, evaluation: int) -> Path:
        return self._folder / f"{number:05d}-{evaluation:02d}.json"

    def _saved(self, number: int, evaluation: int, i: int) -> Path:
        return self._folder / f"{number:05d}-{evaluation:02d}-{i}.pt"

    def _decision(self, evaluation: int) -> Path:
        return self._folder / f"decided-{evaluation:02d}.json"
