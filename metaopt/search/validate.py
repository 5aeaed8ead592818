"""Who wins: the best trials of a search again, on fresh seeds and on tasks that it has not seen.

The best score of many noisy ones is too good to be true, so the winner is chosen on other data, and the difference
between a score in the search and the same on fresh seeds is reported as what the search fooled itself by.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from metaopt.errors import StorageError
from metaopt.gan import Task
from metaopt.meta import Objective, TrainingCurve, TrainingId, score
from metaopt.meta.transfer import Cell, Contestant, cells_of, missing, recorded
from metaopt.schedules import NamedSchedule
from metaopt.search.export import chosen_trials
from metaopt.search.optuna_space import TrialRow
from metaopt.search.population import followed
from metaopt.search.ray_grid import train_cells_on_ray
from metaopt.search.study import Study
from metaopt.search.winner import FILE, Candidate, Validation
from metaopt.whole_file import write_whole


def validate(study: Study, folder: Path, rows: Sequence[TrialRow], observe: Callable[[int, int], None]) -> Validation:
    """Train the best trials again and write `validation.json`; `observe` hears (trainings done, of all).

    Raises:
        MetaoptError: a training failed; StorageError: the disk is full. What was finished is kept.
    """
    (folder / FILE).unlink(missing_ok=True)  # until the end of this one, no validation is better than an old one
    chosen = chosen_trials(rows, study.spec.validation.top if study.spec.validation else 0)
    contestants = [_contestant(study, row) for row in chosen]
    cells = cells_of(contestants, (*study.tasks, *study.validation), _seeds(study))
    kept = folder / "trainings"
    n_kept = len(cells) - len(missing(cells, kept))
    observe(n_kept, len(cells))
    for done, _ in enumerate(
        train_cells_on_ray(cells, kept, study.spec.search.resources, _workers(study)), start=n_kept + 1
    ):
        observe(done, len(cells))
    found = _judged(study, chosen, cells, kept)
    write_whole(folder / FILE, json.dumps(asdict(found), indent=2))
    return found


def _workers(study: Study) -> int | None:
    workers = study.spec.search.workers
    return None if workers == "auto" else workers


def _seeds(study: Study) -> Sequence[int]:
    return study.spec.validation.seeds if study.spec.validation else []


def _contestant(study: Study, row: TrialRow) -> Contestant:
    name = f"trial {row.number}"
    family, params = followed(study.family.name, row.params, row.verdict.intervals if row.verdict else ())
    schedule = NamedSchedule(name=name, family=family, params=params, source=study.name)
    return Contestant(name=name, schedule=schedule)


def _judged(study: Study, chosen: Sequence[TrialRow], cells: Sequence[Cell], folder: Path) -> Validation:
    curves: dict[str, dict[TrainingId, TrainingCurve]] = {}
    for cell in cells:
        training = recorded(cell, folder)
        if training is None:
            raise StorageError(f"{folder} must hold the training of {cell.task.name}, seed {cell.seed}, but does not.")
        curves.setdefault(cell.contestant.name, {})[cell.task.name, cell.seed] = training.curve
    reference = curves[f"trial {chosen[0].number}"]

    def against(number: int, tasks: Sequence[Task], objective: Objective = study.objective) -> float:
        keys = [(task.name, seed) for task in tasks for seed in _seeds(study)]
        ours, theirs = ({key: of[key] for key in keys} for of in (curves[f"trial {number}"], reference))
        return score(ours, theirs, study.spec.evaluations, objective)

    found = [
        Candidate(
            trial=row.number,
            search=row.verdict.score if row.verdict and row.verdict.score is not None else math.nan,
            fresh=against(row.number, study.tasks),
            validation=against(row.number, study.validation),
            by_task={task.name: against(row.number, [task]) for task in (*study.tasks, *study.validation)},
        )
        for row in chosen
    ]
    candidates = sorted(found, key=lambda one: (one.validation, one.trial))
    return Validation(candidates=candidates, top=study.spec.validation.top if study.spec.validation else 0)
