"""The outer problem, free of any engine: what a trial is worth, and what it is compared with."""

from metaopt.meta.objective import Objective, TrainingCurve, TrainingId, curve, outcome, ratios, score

__all__ = ["Objective", "TrainingCurve", "TrainingId", "curve", "outcome", "ratios", "score"]
