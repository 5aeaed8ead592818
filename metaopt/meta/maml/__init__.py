"""Meta-learned initialisations: where training should start, and how fast each weight should move from there."""

from metaopt.meta.maml.algorithms import ALGORITHMS, Algorithm, find_algorithm
from metaopt.meta.maml.fine_tuning import fine_tune
from metaopt.meta.maml.initialisation import Initialisation, load_into
from metaopt.meta.maml.initialisation_file import load_initialisation, save_initialisation
from metaopt.meta.maml.inner import Episode, Inner, Players, Rates, Weights, adapt, stacked
from metaopt.meta.maml.learning import MetaTraining, OuterRecord
from metaopt.meta.maml.outer import Outer, joint_gradient, maml_gradient, multi_step_weights, reptile_gradient

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Episode",
    "Initialisation",
    "Inner",
    "MetaTraining",
    "Outer",
    "OuterRecord",
    "Players",
    "Rates",
    "Weights",
    "adapt",
    "find_algorithm",
    "fine_tune",
    "joint_gradient",
    "load_initialisation",
    "load_into",
    "maml_gradient",
    "multi_step_weights",
    "reptile_gradient",
    "save_initialisation",
    "stacked",
]
