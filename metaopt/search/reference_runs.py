"""The trainings with the reference schedule, which scores are relative to: run once, kept in the study's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from metaopt.errors import ArtifactError
from metaopt.meta.maml import Initialisation, load_initialisation, save_initialisation
from metaopt.meta.reference import Recorded, find, store, training_key
from metaopt.search.folder import references
from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.jobs import Job
from metaopt.search.problems import AnyRecord
from metaopt.search.study import Study
from metaopt.search.trainings import Trainings
from metaopt.training import Outcome


class ReferenceRuns:
    """Those that are there, and those that are still to be run."""

    def __init__(self, study: AnyStudy, folder: Path, trainings: Trainings, identities: Sequence[str]) -> None:
        """Take up what earlier drivers have kept in `folder`; `identities` are those of each task's resources."""
        self._study, self._folder = study, references(folder)
        schedule = study.reference.schedule
        self._keys = [
            training_key(trainings.task(i), schedule, trainings.id(i)[1], identities[trainings.place(i)])
            for i in range(len(trainings))
        ]
        self.found = {i: kept for i in range(len(trainings)) if (kept := self._kept(i))}
        """By number of the training."""
        self._untaken = [i for i in range(len(trainings)) if i not in self.found]

    def next_job(self) -> Job | None:
        """One that nobody has taken."""
        if not self._untaken:
            return None
        schedule = self._study.reference.schedule
        return Job(kind="reference", family=schedule.family, params=schedule.params, training=self._untaken.pop(0))

    def keep(self, i: int, records: Sequence[AnyRecord], grids: Sequence[bytes], start: Initialisation | None) -> None:
        """Keep training `i`, and the start that it has learned; StorageError when the disk is full."""
        if start is not None:
            save_initialisation(start, self._start(i))
        self.found[i] = Recorded(records=tuple(records), grids=tuple(grids))
        store(self._folder, self._keys[i], self.found[i])

    @property
    def complete(self) -> bool:
        """Whether all are there."""
        return len(self.found) == len(self._keys)

    @property
    def records(self) -> Mapping[int, Sequence[AnyRecord]]:
        """By number of the training."""
        return {i: kept.records for i, kept in self.found.items()}

    @property
    def start(self) -> Initialisation | None:
        """What the first training has learned, where that is a start."""
        path = self._start(0)
        return load_initialisation(path) if path.exists() else None

    def _kept(self, i: int) -> Recorded | None:
        """One of an earlier driver, with its start where it has one; None if it must be run again."""
        found = find(self._folder, self._keys[i])
        if found is None or isinstance(self._study, Study) or found.records[-1].outcome is Outcome.DIVERGED:
            return found
        try:
            load_initialisation(self._start(i))
        except ArtifactError:
            return None
        return found

    def _start(self, i: int) -> Path:
        return self._folder / f"{self._keys[i]}.safetensors"
