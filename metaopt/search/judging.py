"""What the trainings of a candidate amount to: its verdict, or that it has lost its race."""

from collections.abc import Iterable, Mapping, Sequence

from metaopt.meta import TrainingCurve, curve, outcome, score
from metaopt.meta.objective import log_fid
from metaopt.meta.racing import LEVEL, worse_by_chance
from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.objectives import counts_for_quality, measured
from metaopt.search.optuna_space import TrialRow, Verdict
from metaopt.search.problems import AnyRecord
from metaopt.search.trainings import Trainings

Records = Mapping[int, Sequence[AnyRecord]]
"""Records by number of the training."""


def judge(
    study: AnyStudy, trainings: Trainings, records: Records, reference: Records, *, wall_s: float, lost: str
) -> Verdict:
    """The verdict on a candidate.

    Args:
        study: whose objective and evaluations count.
        trainings: all that a candidate has to do.
        records: of those that it has done, in part if it was stopped.
        reference: of all, with the reference schedule.
        wall_s: seconds that it took.
        lost: what was said where it was stopped.
    """
    curves = {i: curve(part) for i, part in records.items()}
    references = {i: curve(part) for i, part in reference.items()}
    complete = all(i in curves for i in trainings.at(-1))
    ended = outcome([curves[i] for i in trainings.at(-1)]) if complete else None

    def scored(of: Iterable[int], evaluation: int) -> float:
        some = [i for i in of if counts_for_quality(study.objectives, trainings.task(i))]
        ours, theirs = ({trainings.id(i): one[i] for i in some} for one in (curves, references))
        return score(ours, theirs, evaluation, study.objective)

    full = study.spec.evaluations
    if len(trainings.horizons) > 1:
        stages = [trainings.at(horizon) for horizon in range(len(trainings.horizons))]
        over = [all(i in curves and curves[i].outcome is not None for i in stage) for stage in stages]
        scores = [scored(stage, full) for stage, done in zip(stages, over, strict=True) if done]
    elif complete:
        n = full if ended else min(len(of.fids) for of in curves.values()) - 1
        scores = [scored(curves, k) for k in range(1, n + 1)]
    else:  # what it has reached in its race, for samplers that learn from pruned trials
        scores = [scored(curves, full)] if lost else []
    shown = trainings.at(-1) if complete else records
    reasons = [lost] if lost else []
    reasons += [f"{trainings.label(i)}: {said}" for i, part in records.items() if (said := _said(part))]
    return Verdict(
        status=str(ended) if ended else "pruned",
        score=scores[-1] if ended and scores else None,
        scores=scores,
        fids={trainings.label(i): _final_fid(curves[i]) for i in shown},
        objectives=measured(study, trainings, curves, references) if ended and scores else {},
        reason="; ".join(reasons),
        wall_s=wall_s,
    )


def race_lost(trainings: Trainings, records: Records, best: TrialRow | None) -> str:
    """Why a candidate is clearly worse than the `best` trial so far, paired on what it has done; else empty."""
    if best is None or best.verdict is None:
        return ""
    differences = [
        log_fid(_final_fid(curve(found))) - log_fid(best.verdict.fids[trainings.label(i)])
        for i, found in records.items()
    ]
    p = worse_by_chance(differences)
    if p >= LEVEL:
        return ""
    return f"race lost to trial {best.number} after {len(differences)} of {len(trainings)} trainings, p {p:.3f}"


def _final_fid(of: TrainingCurve) -> float:
    return of.fid_at(len(of.fids) - 1)


def _said(records: Sequence[AnyRecord]) -> str:
    """Why a training ended as it did, and the kinds of its warnings."""
    kinds = dict.fromkeys(
        warning.partition(":")[0] for record in records if record.warning for warning in record.warning.split("; ")
    )
    return ", ".join(filter(None, (records[-1].reason, *kinds)))
