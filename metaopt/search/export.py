"""A trial of a study as a schedule.json, or as an initialisation.safetensors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from importlib.metadata import version
from pathlib import Path

from metaopt.errors import ConfigError, MetaoptError
from metaopt.gan import LOSSES
from metaopt.meta.maml import Initialisation, load_initialisation
from metaopt.meta.pareto import pareto_front
from metaopt.schedules import ScheduleArtifact
from metaopt.search.folder import START, Manifest, read_manifest, tracking_uri, trial_folder, trial_uid
from metaopt.search.optuna_space import TrialRow, read_rows
from metaopt.search.population import followed
from metaopt.search.winner import REFERENCE, Validation, read_validation
from metaopt.tracking import find_runs

_PACKAGES = ("metaopt", "torch", "ray", "optuna", "mlflow")


def scored(rows: Sequence[TrialRow]) -> list[tuple[float, TrialRow]]:
    """Trials that count, best first: those that ended with a finite score and did not diverge."""
    pairs = [
        (row.verdict.score, row)
        for row in rows
        if row.state == "COMPLETE" and row.verdict is not None and row.verdict.score is not None
    ]
    return sorted(pairs, key=lambda pair: (pair[0], pair[1].number))


def front_of(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Trials that count and that none dominates, by number; none where the study has one objective alone."""
    counted = [row for _, row in scored(rows) if row.verdict and row.verdict.objectives]
    front = pareto_front([list(row.verdict.objectives.values()) for row in counted if row.verdict])
    return sorted((counted[place] for place in front), key=lambda row: row.number)


def chosen_trials(rows: Sequence[TrialRow], top: int) -> list[TrialRow]:
    """What a validation trains again: the reference, and the `top` best others."""
    return [rows[REFERENCE], *[row for _, row in scored(rows) if row.number != REFERENCE][:top]]


def best_trial(folder: Path, rows: Sequence[TrialRow]) -> TrialRow | None:
    """The winner of the study's validation, or else the trial with the best score; None if no trial has one."""
    ranking = scored(rows)
    if not ranking:
        return None
    validation = validation_of(folder, rows)
    return rows[validation.winner.trial] if validation else ranking[0][1]


def validation_of(folder: Path, rows: Sequence[TrialRow]) -> Validation | None:
    """The validation in `folder`, if it is of the trials that it would be of now."""
    validation = read_validation(folder)
    if validation is None:
        return None
    now = {row.number for row in chosen_trials(rows, validation.top)}
    return validation if now == {one.trial for one in validation.candidates} else None


def study_in(folder: Path) -> Manifest:
    """The manifest of the study in `folder`; ConfigError if none lives there."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise ConfigError(f"{folder} must be the folder of a study, but it holds no study.json.")
    return manifest


def export_trial(folder: Path, number: int | None = None) -> ScheduleArtifact:
    """The winner of the study in `folder` (as of `best_trial`), or the trial of that number.

    Raises:
        ConfigError: no study there, no such trial, or a trial that did not end with a score.
    """
    manifest = study_in(folder)
    if manifest.learns_starts:
        raise ConfigError(f"Study {manifest.name!r} in {folder} must search for schedules, but searches for starts.")
    rows = read_rows(folder, manifest.name)
    chosen = _chosen(folder, manifest, rows, number)
    return artifact(folder, manifest, chosen, rows, mlflow_runs(folder, manifest, [chosen]))


def front_in(folder: Path) -> list[TrialRow]:
    """As of `front_of`, of the study in `folder`."""
    return front_of(read_rows(folder, study_in(folder).name))


def export_front(folder: Path) -> dict[int, ScheduleArtifact]:
    """The schedules of the front, by number of the trial.

    Raises:
        ConfigError: no study of schedules there, or one with a single objective, or no trial with a score yet.
    """
    manifest = study_in(folder)
    rows = read_rows(folder, manifest.name)
    front = front_of(rows)
    if not front:
        raise ConfigError(
            f"Study {manifest.name!r} in {folder} must have several `search.objectives` and a trial with a score."
        )
    runs = mlflow_runs(folder, manifest, front)
    return {row.number: artifact(folder, manifest, row, rows, runs) for row in front}


def export_start(folder: Path, number: int | None = None) -> Initialisation:
    """The start of the best trial of the study in `folder`, or of the trial of that number, with where it comes from.

    Raises:
        ConfigError: no study of starts there, no such trial, or a trial that did not end with a score.
        ArtifactError: the trial's file is not whole.
    """
    manifest = study_in(folder)
    if not manifest.learns_starts:
        raise ConfigError(f"Study {manifest.name!r} in {folder} must search for starts, but searches for schedules.")
    row = _chosen(folder, manifest, read_rows(folder, manifest.name), number)
    start = load_initialisation(trial_folder(folder, row.number) / START)
    origin = _provenance(manifest, row, mlflow_runs(folder, manifest, [row]))
    return replace(start, provenance={**origin, **start.provenance})


def _chosen(folder: Path, manifest: Manifest, rows: Sequence[TrialRow], number: int | None) -> TrialRow:
    """The best trial, or the one of that number; ConfigError where there is none with a score."""
    best = best_trial(folder, rows)
    if best is None:
        raise ConfigError(f"Study {manifest.name!r} in {folder} has no trial with a score yet.")
    if number is None:
        return best
    for row in rows:
        if row.number == number and row.verdict is not None and row.verdict.score is not None:
            return row
    known = ", ".join(str(row.number) for _, row in scored(rows))
    raise ConfigError(f"Study {manifest.name!r} has no trial {number} with a score. Known: {known}.")


def mlflow_runs(folder: Path, manifest: Manifest, trials: Iterable[TrialRow]) -> dict[str, str]:
    """Uid -> id of the MLflow run of each of `trials`; empty if the store does not answer."""
    uids = [trial_uid(manifest.name, manifest.key, trial.number) for trial in trials]
    try:
        return find_runs(tracking_uri(manifest.tracking_uri, folder), manifest.name, uids)
    except MetaoptError:
        return {}


def artifact(
    folder: Path, manifest: Manifest, row: TrialRow, rows: Sequence[TrialRow], runs: Mapping[str, str]
) -> ScheduleArtifact:
    """A trial as an artifact, with the scores of the published schedules beside it; `runs` as of `mlflow_runs`."""
    family, params = followed(manifest.family, row.params, row.verdict.intervals if row.verdict else ())
    return ScheduleArtifact(
        family=family,
        params=params,
        ideal_d_loss=LOSSES[manifest.losses[0]].ideal_d_loss,
        budget=sum(manifest.budgets) / len(manifest.budgets),
        trained_on=tuple(manifest.tasks),
        score=row.verdict.score if row.verdict else None,
        baselines={other.name: score for score, other in scored(rows) if other.name},
        provenance=_provenance(manifest, row, runs) | _validated(validation_of(folder, rows), row),
    )


def _validated(validation: Validation | None, row: TrialRow) -> dict[str, float]:
    """What a validation found for this trial."""
    found = [one for one in validation.candidates if one.trial == row.number] if validation else []
    return {"validation_score": found[0].validation, "fresh_score": found[0].fresh} if found else {}


def _provenance(manifest: Manifest, row: TrialRow, runs: Mapping[str, str]) -> dict[str, str | int | float | None]:
    uid = trial_uid(manifest.name, manifest.key, row.number)
    origin: dict[str, str | int | float | None] = {
        "study": manifest.name,
        "study_key": manifest.key,
        "trial": row.number,
        "trial_uid": uid,
        "mlflow_run": runs.get(uid),
        "status": row.verdict.status if row.verdict else "running",
        "reference": manifest.reference,
        "objective": manifest.spec["search"].get("objective", "mean"),
        "seeds": " ".join(str(seed) for seed in manifest.seeds),
        "date": row.ended.astimezone(UTC).isoformat(timespec="seconds") if row.ended else None,
    }
    if row.verdict:
        origin |= {f"objective.{name}": value for name, value in row.verdict.objectives.items()}
    return origin | {f"version.{package}": version(package) for package in _PACKAGES}
