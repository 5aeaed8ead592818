"""The outer problem, free of any engine: what a trial is worth, and what it is compared with."""

from metaopt.meta.objective import TrainingCurve, TrainingId, curve, outcome, score

__all__ = ["TrainingCurve", "TrainingId", "curve", "outcome", "score"]
