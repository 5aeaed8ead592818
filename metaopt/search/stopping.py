"""When a candidate should not go on: its race is lost, the pruner says so, or a budget is over."""

import math
from collections.abc import Mapping

from metaopt.search.budget import Budget
from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.jobs import Job, Slice
from metaopt.search.judging import judge, race_lost
from metaopt.search.optuna_space import Proposals, TrialRow
from metaopt.search.problems import AnyRecord
from metaopt.search.reference_runs import ReferenceRuns
from metaopt.search.running import Running
from metaopt.search.study import Study
from metaopt.search.trainings import Trainings


class Stopping:
    """Judges candidates: by a race whenever a training has ended, by a pruner at each evaluation, by the budget always.

    A pruner does not judge published schedules.
    """

    def __init__(
        self, study: AnyStudy, trainings: Trainings, references: ReferenceRuns, proposals: Proposals, budget: Budget
    ) -> None:
        self._study, self._trainings, self._references = study, trainings, references
        self._proposals, self._budget = proposals, budget
        self.racing = isinstance(study, Study) and study.spec.search.racing
        """Whether candidates race; then no pruner judges them."""

    def reason(self, running: Running, part: Slice) -> str:
        """Why a candidate, with `part` still to be taken in, should be stopped; empty where it should not.

        Args:
            running: the candidate, and what it has reported before.
            part: what it reports now.
        """
        records = running.records | {i: [*running.records.get(i, []), *new] for i, new in part.records.items()}
        lost = self._lost_race(records, part) if self.racing else self._pruned(running.job, records)
        if lost or self._done(records):
            return lost
        return self._budget.over(part.wall_s - running.wall_s, larger=running.job.larger)

    def _done(self, records: Mapping[int, list[AnyRecord]]) -> bool:
        return all(i in records and records[i][-1].outcome is not None for i in range(len(self._trainings)))

    def _lost_race(self, records: Mapping[int, list[AnyRecord]], part: Slice) -> str:
        if any(new[-1].outcome is None for new in part.records.values()):
            return ""
        best = min((row for row in self._proposals.rows() if row.state == "COMPLETE"), key=_score, default=None)
        return race_lost(self._trainings, records, best)

    def _pruned(self, job: Job, records: Mapping[int, list[AnyRecord]]) -> str:
        """What the pruner says at the latest evaluation or horizon, once all reference trainings are there."""
        if not self._proposals.prunes or not self._references.complete or self._proposals.row(job.number).name:
            return ""
        reference = self._references.records
        scores = judge(self._study, self._trainings, records, reference, wall_s=0.0, lost="").scores
        horizons = len(self._trainings.horizons)
        n = horizons if horizons > 1 else self._study.spec.evaluations
        if not 0 < len(scores) < n or not self._proposals.pruned(job.number, len(scores), scores[-1]):
            return ""
        what = "horizon" if horizons > 1 else "evaluation"
        return f"pruned at {what} {len(scores)} of {n}, with a score of {scores[-1]:+.3f} there"


def _score(row: TrialRow) -> tuple[float, int]:
    return row.verdict.score if row.verdict and row.verdict.score is not None else math.inf, row.number
