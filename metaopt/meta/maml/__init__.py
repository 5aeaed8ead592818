"""Meta-learned initialisations: where training should start, and how fast each weight should move from there."""

from metaopt.meta.maml.inner import Episode, Inner, Players, Rates, Weights, adapt
from metaopt.meta.maml.outer import Outer, maml_gradient, multi_step_weights, reptile_gradient

__all__ = [
    "Episode",
    "Inner",
    "Outer",
    "Players",
    "Rates",
    "Weights",
    "adapt",
    "maml_gradient",
    "multi_step_weights",
    "reptile_gradient",
]
