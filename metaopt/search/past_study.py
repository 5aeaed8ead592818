"""A finished search as a table: which schedules were tried, the FIDs of each training, and the seconds they took."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from metaopt.errors import ConfigError
from metaopt.meta import TrainingCurve
from metaopt.meta.reference import Recorded, find
from metaopt.search.export import study_in
from metaopt.search.folder import Manifest, references, trial_uid
from metaopt.search.named_code import refuse_code
from metaopt.search.optuna_space import TrialRow, Verdict, read_rows
from metaopt.search.study import Study, study_from
from metaopt.search.trainings import Trainings
from metaopt.search.yaml_file import Document
from metaopt.tracking.spooled_curves import spooled_curves
from metaopt.training import Outcome


@dataclass(frozen=True, kw_only=True)
class PastTrial:
    """A schedule that was tried."""

    number: int
    params: Mapping[str, Any]
    curves: Mapping[int, TrainingCurve]
    """By number of the training; without an outcome where the trial was stopped before its end."""
    pace: float
    """Seconds that it took, as a multiple of the reference's for the same part of the work."""


@dataclass(frozen=True, kw_only=True)
class PastStudy:
    """What a search has recorded."""

    study: Study
    trainings: Trainings
    trials: Sequence[PastTrial]
    """Those with at least one FID of a trained generator; the first is the reference."""
    n_left_out: int
    """Trials without: errors, and those that a dead driver left."""
    seconds: Mapping[int, Sequence[float]]
    """Of the reference, by number of the training, from one evaluation to the next."""


def read_past_study(folder: Path, *, allow_import: bool = False) -> PastStudy:
    """The records in `folder`.

    Raises:
        ConfigError: no study of schedules there, or its reference has not been trained to its end, or it names code,
            unless `allow_import`.
        ArtifactError, StorageError: its records cannot be read.
    """
    manifest = study_in(folder)
    if manifest.learns_starts:
        raise ConfigError(f"Study {manifest.name!r} in {folder} must search for schedules, but searches for starts.")
    if not allow_import:
        refuse_code(manifest.spec, {}, str(folder))
    if manifest.spec["search"].get("population") is not None:
        raise ConfigError(
            f"{folder}: schedules must have been kept to their end, but a population changes its members'."
        )
    study = _study(manifest, folder)
    trainings = Trainings(tasks=study.tasks, seeds=study.spec.seeds, horizons=tuple(study.spec.search.horizons))
    rows = read_rows(folder, manifest.name)
    fids = spooled_curves(folder / "spool" / "events.jsonl", "fid")
    found = {}
    for row in rows:
        of = fids.get(trial_uid(manifest.name, manifest.key, row.number), {})
        curves = _curves(trainings, study.spec.evaluations, row.verdict, of) if row.verdict else {}
        if any(len(curve.fids) > 1 or curve.outcome for curve in curves.values()):
            found[row.number] = row, curves
    if 0 not in found or any(curve.outcome is None for curve in found[0][1].values()):
        raise ConfigError(f"{folder} must hold the finished reference trial of study {manifest.name!r}, but does not.")
    seconds = _seconds(folder, trainings, found[0][1])
    return PastStudy(
        study=study,
        trainings=trainings,
        trials=[_trial(row, curves, seconds) for row, curves in found.values()],
        n_left_out=len(rows) - len(found),
        seconds=seconds,
    )


def _study(manifest: Manifest, folder: Path) -> Study:
    spec = dict(manifest.spec)
    if spec["schedule"].get("start") is not None:  # takes the place of the reference, whose default is written down
        del spec["reference"]
    return study_from(Document(content=spec), {}, str(folder))


def _curves(
    trainings: Trainings, evaluations: int, verdict: Verdict, fids: Mapping[str, Sequence[float]]
) -> dict[int, TrainingCurve]:
    if verdict.status == "error":
        return {}
    labelled = {i: fids.get(f"{trainings.label(i)}/fid") for i in range(len(trainings))}
    return {
        i: TrainingCurve(fids=tuple(found), outcome=_outcome(verdict, trainings.label(i), found, evaluations))
        for i, found in labelled.items()
        if found
    }


def _outcome(verdict: Verdict, label: str, fids: Sequence[float], evaluations: int) -> Outcome | None:
    """How a training ended: one that has diverged stands in the verdict with the FID of its untrained generator."""
    if len(fids) > evaluations:
        return Outcome.FINISHED
    said = verdict.fids.get(label)
    if said is None:  # of a shorter horizon, which has been done
        return Outcome.DIVERGED if verdict.status == "diverged" else Outcome.COLLAPSED
    if said == fids[0] and (len(fids) == 1 or fids[-1] != fids[0]):
        return Outcome.DIVERGED
    return None if verdict.status == "pruned" else Outcome.COLLAPSED


def _seconds(folder: Path, trainings: Trainings, curves: Mapping[int, TrainingCurve]) -> dict[int, list[float]]:
    """Of the reference trainings, which are told apart by their FIDs."""
    kept = {found.curve.fids: found for path in references(folder).glob("*.json") if (found := _kept(path))}
    missing = [trainings.label(i) for i, curve in curves.items() if curve.fids not in kept]
    if missing or len(curves) < len(trainings):
        raise ConfigError(f"{references(folder)} must hold all reference trainings, but {missing or 'some'} are not.")
    evaluations = trainings.task(0).evaluations
    return {i: _between_evaluations(kept[curve.fids], evaluations) for i, curve in curves.items()}


def _kept(path: Path) -> Recorded | None:
    return find(path.parent, path.stem)


def _between_evaluations(recorded: Recorded, evaluations: int) -> list[float]:
    """The first evaluation, of the untrained generator, belongs to the first part; parts that are missing are as long
    as the others."""
    *some, last = recorded.records
    at = [record.wall_s for record in some[1:] if record.fid is not None] + [last.wall_s]
    parts = [after - before for before, after in pairwise([0.0, *at])]
    return parts + [math.fsum(parts) / len(parts)] * (evaluations - len(parts))


def _trial(row: TrialRow, curves: Mapping[int, TrainingCurve], seconds: Mapping[int, Sequence[float]]) -> PastTrial:
    worked = sum(sum(seconds[i][: n_parts(curve)]) for i, curve in curves.items())
    wall_s = row.verdict.wall_s if row.verdict else 0.0
    return PastTrial(number=row.number, params=row.params, curves=curves, pace=wall_s / worked)


def n_parts(curve: TrainingCurve) -> int:
    """From evaluation to evaluation: how many a training has done; one that diverged did so in a further one."""
    return len(curve.fids) - 1 + (curve.outcome is Outcome.DIVERGED)


def check_same(study: Study, past: PastStudy, folder: Path) -> None:
    """ConfigError, naming all that differs, unless what `study` trains has been recorded in `past`."""
    if study.spec.search.population is not None or past.study.spec.search.population is not None:
        raise ConfigError(
            f"`search.population` must be left out here and in the study in {folder}: what a schedule that changes "
            "with the others would have given is nowhere recorded."
        )
    differing = list(_differing(study, past.study))
    if differing:
        raise ConfigError(
            f"{folder} must hold a study of the same tasks, seeds, evaluations, family and reference, within whose "
            f"ranges and horizons this one stays, but it differs: {'; '.join(differing)}."
        )


def _differing(ours: Study, theirs: Study) -> Iterable[str]:
    for what, a, b in (
        ("evaluations", ours.spec.evaluations, theirs.spec.evaluations),
        ("seeds", ours.spec.seeds, theirs.spec.seeds),
        ("family", ours.family.name, theirs.family.name),
    ):
        if a != b:
            yield f"`{what}` is {b} there, but {a} here"
    for task in set(_tasks(ours)) ^ set(_tasks(theirs)):
        yield f"task {task[0]} is {'here' if task in _tasks(ours) else 'there'} alone, or has other settings"
    if ours.family.name != theirs.family.name:
        return
    if dict(ours.reference.params) != dict(theirs.reference.params):
        yield f"the reference is {theirs.reference.schedule.name} there, but {ours.reference.schedule.name} here"
    for name, space in ours.space.items():
        low, high = theirs.space[name].low, theirs.space[name].high
        if not low <= space.low <= space.high <= high:
            yield f"`{name}` was searched in [{low:g}, {high:g}], but is in [{space.low:g}, {space.high:g}] here"
    horizons = theirs.spec.search.horizons
    if not set(ours.spec.search.horizons) <= set(horizons):
        yield f"`horizons` are {horizons} there, but {ours.spec.search.horizons} here"


def _tasks(study: Study) -> list[tuple[str, str]]:
    return [(task.name, replace(task, evaluations=1).key()) for task in study.tasks]
