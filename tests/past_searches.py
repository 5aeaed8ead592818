"""Finished searches to simulate others from: worked through without Ray, or made up."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sessions import hashes, work_all
from studies import tiny_study, write_study

from metaopt.meta import TrainingCurve
from metaopt.search.folder import claim, manifest_of
from metaopt.search.optuna_space import Proposals
from metaopt.search.past_study import PastStudy, PastTrial
from metaopt.search.session import Session
from metaopt.search.study import Study, load_study
from metaopt.search.trainings import Trainings
from metaopt.tracking import Spool, SpooledTracker
from metaopt.tracking.events import Event
from metaopt.training import Outcome


class NoStore:
    """Takes all events."""

    def deliver(self, event: Event) -> None:
        """Nothing."""


def past_search(folder: Path, **changes: Any) -> Study:
    """Search a tiny study in `folder`, with real trainings; the file is study.yaml beside it."""
    study = load_study(str(write_study(folder.parent, tiny_study(**changes))))
    identities = hashes(study)
    claim(folder, manifest_of(study, identities), resume=False)
    tracker = SpooledTracker(Spool(folder / "spool" / "events.jsonl"), NoStore())
    work_all(Session(study, folder, identities, Proposals(folder, study), tracker))
    tracker.close(60)
    return study


def made_up(study: Study, trials: Sequence[tuple[Mapping[str, float], Sequence[TrainingCurve], float]]) -> PastStudy:
    """A past study of which each part of a training takes a second: parameters, curves and pace of each trial."""
    trainings = Trainings(tasks=study.tasks, seeds=study.spec.seeds, horizons=tuple(study.spec.search.horizons))
    return PastStudy(
        study=study,
        trainings=trainings,
        trials=[
            PastTrial(number=n, params=params, curves=dict(enumerate(curves)), pace=pace)
            for n, (params, curves, pace) in enumerate(trials)
        ],
        n_left_out=0,
        seconds={i: [1.0] * study.spec.evaluations for i in range(len(trainings))},
    )


def curve(*fids: float, outcome: Outcome | None = Outcome.FINISHED) -> TrainingCurve:
    """Of a generator that has FID 100 untrained."""
    return TrainingCurve(fids=(100.0, *fids), outcome=outcome)
