"""Optuna's samplers and pruners as a study asks for them."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from optuna.distributions import FloatDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler

from metaopt.search.cmaes_sampler import JournalledCmaEsSampler
from metaopt.search.es_sampler import AntitheticESSampler
from metaopt.search.initialisation_study import AnyStudy
from metaopt.search.study import Study
from metaopt.search.tpe import BoundedTPESampler, Elite

REDUCTION = 3
"""Of successive halving and Hyperband: one in three goes on (Li et al. 2018, section 3)."""
_POPULATION = 20
"""Of NSGA-II: Optuna's 50 would be one generation of many a study."""


def sampler_of(study: AnyStudy, seed: int, elite: Elite) -> BaseSampler:
    """For one draw, which follows from `seed` and the record; `elite` is that of the study."""
    population = isinstance(study, Study) and study.spec.search.population is not None
    sampler = "random" if population else study.spec.search.sampler
    return BoundedTPESampler(seed=seed, elite=elite) if sampler == "tpe" else _SAMPLERS[sampler](study, seed)


def _cmaes(study: Study, seed: int) -> BaseSampler:
    """CMA-ES from the reference on; its first step size is Optuna's, a sixth of each range."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`x0`", FutureWarning)  # goes with Optuna 6, which has nothing in its place
        return JournalledCmaEsSampler(x0=dict(study.reference.params), seed=seed)


def _es(study: Study, seed: int) -> BaseSampler:
    """One seed for all draws: which perturbation a trial has follows from its number."""
    space = {name: FloatDistribution(found.low, found.high, log=found.log) for name, found in study.space.items()}
    return AntitheticESSampler(study.spec.search.seed, study.reference.params, space=space)


_SAMPLERS: Mapping[str, Callable[[Any, int], BaseSampler]] = {
    "random": lambda study, seed: RandomSampler(seed=seed),
    "cmaes": _cmaes,
    "gp": lambda study, seed: GPSampler(seed=seed),
    "es": _es,
    "nsga2": lambda study, seed: NSGAIISampler(seed=seed, population_size=_POPULATION),
}


def pruner_of(study: AnyStudy) -> BasePruner:
    """Optuna's own, over the evaluations of a trial, or over its horizons."""
    horizons = n_horizons(study)
    n = REDUCTION ** (horizons - 1) if horizons > 1 else study.spec.evaluations
    pruners: Mapping[str, Callable[[], BasePruner]] = {
        "none": NopPruner,
        "asha": lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
        "hyperband": lambda: HyperbandPruner(min_resource=1, max_resource=n, reduction_factor=REDUCTION),
        "median": MedianPruner,
    }
    return pruners[study.spec.search.pruner if isinstance(study, Study) else "none"]()


def prunes(study: AnyStudy) -> bool:
    """Whether trials may be stopped by a pruner."""
    return isinstance(study, Study) and study.spec.search.pruner != "none"


def n_horizons(study: AnyStudy) -> int:
    """Complete trainings that a candidate does one after the other, each longer than the one before."""
    return len(study.spec.search.horizons) if isinstance(study, Study) else 1
