"""Evolution strategies with antithetic pairs and rank-shaped differences, as an ordinary Optuna sampler."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

DRAWN = "antithetic_es"
"""System attribute of a member of a pair: `generation`, `pair`, `sign` and the `mean` it was drawn around."""
_FIXED = "fixed_params"  # Optuna's mark of an enqueued trial

Vector = NDArray[np.float64]


class AntitheticESSampler(BaseSampler):
    """Pairs of trials mirrored at a mean, which moves against the rank-shaped differences of the pairs.

    Each searched parameter lives in [0, 1]: u = (x - low) / (high - low), of the logarithms on a log scale. With the
    mean m in the unit cube, which is `x0` or the centre at first, pair i of a generation of n pairs is

        u+_i = clip(m + sigma0 e_i, 0, 1),   u-_i = clip(m - sigma0 e_i, 0, 1),   e_i ~ N(0, I).

    Once all members of a generation have ended with values f (smaller is better; negated where a study maximises),

        D_i = f(u+_i) - f(u-_i)
        s_i = sign(D_i) rank(|D_i|) / (2 n)                in [-0.5, 0.5]; equal |D_i| share their mean rank
        d_i = ((u+_i - m+_i) - (u-_i - m-_i)) / 2          sigma0 e_i, but for what was clipped
        m  <- clip(m - learning_rate mean_i(s_i d_i), 0, 1)

    that is a step along sigma0^2 g with the estimate g = mean_i(s_i e_i) / sigma0 of the gradient of the smoothed f
    (Salimans et al. 2017, arXiv:1703.03864, eq. 1 and section 2.1: antithetic pairs, rank shaping), where the pairs'
    differences are shaped, not the values. VeLO is meta-trained with their signs alone (Metz et al. 2022,
    arXiv:2211.09760; `sign_delta_loss_scalar` in google/learned_optimization); ranks keep which pairs differed most.

    A trial is a function of `seed`, its number and the study's trials; the sampler itself remembers nothing:

    - Of the trials that were not enqueued, number 0, 1, 2, ... are pair 0 +, pair 0 -, pair 1 +, ... of generation 0,
      then generation 1, whatever has ended by then. Enqueued trials are no members.
    - m is x0 moved by each generation of which all members have ended, in the order of generations; one that still
      runs moves it later. The second of a pair is drawn around the mean of the first, as recorded there.
    - What was drawn is in the trial's system attribute `antithetic_es`, and updates use that and the parameters.
    - A failed member, or one without a finite value, is the worst: its |D_i| has the largest rank, and D_i = 0 where
      both are. A pruned member counts with its last intermediate value, and without one as failed.
    - A pair of which a member was not drawn here, or has lost its parameters, is left out of its generation.
    """

    def __init__(
        self,
        seed: int,
        x0: Mapping[str, float] | None = None,
        *,
        sigma0: float = 0.15,
        n_pairs: int = 4,
        learning_rate: float = 2.0,
        space: Mapping[str, FloatDistribution] | None = None,
    ) -> None:
        """A sampler for float parameters without steps; ValueError outside the ranges stated.

        Args:
            seed: at least 0; the same for all trials of a study.
            x0: where the mean starts, in the parameters' own units; a value for each searched parameter.
            sigma0: standard deviation of the perturbations as a share of each range, in (0, 1].
            n_pairs: pairs per generation, at least 1.
            learning_rate: above 0; the mean moves by at most half of it times the generation's mean |d_i|.
            space: the parameters. If left out, those that all completed trials share; until one has, a trial is
                uniform in the ranges. A range of a single point is not searched.
        """
        if seed < 0:
            raise ValueError(f"`seed >= 0` must hold, but got seed={seed}.")
        if not 0 < sigma0 <= 1:
            raise ValueError(f"`0 < sigma0 <= 1` must hold, but got sigma0={sigma0:g}.")
        if n_pairs < 1:
            raise ValueError(f"`n_pairs >= 1` must hold, but got n_pairs={n_pairs}.")
        if not 0 < learning_rate < math.inf:
            raise ValueError(f"`0 < learning_rate < inf` must hold, but got learning_rate={learning_rate:g}.")
        self._seed, self._x0, self._space = seed, x0, space
        self._sigma0, self._n_pairs, self._learning_rate = sigma0, n_pairs, learning_rate

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The searched parameters, by name; none for an enqueued trial."""
        if _FIXED in trial.system_attrs:
            return {}
        space: Mapping[str, BaseDistribution] = (
            intersection_search_space(study.get_trials(deepcopy=False)) if self._space is None else self._space
        )
        return {name: _float(name, found) for name, found in sorted(space.items()) if not found.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The trial's parameters; records which member it is."""
        self._raise_error_if_multi_objective(study)
        if not search_space:
            return {}
        space = {name: _float(name, found) for name, found in search_space.items()}
        trials = [other for other in study.get_trials(deepcopy=False) if _FIXED not in other.system_attrs]
        place = sum(other.number < trial.number for other in trials)
        generation, member = divmod(place, 2 * self._n_pairs)
        pair, second = divmod(member, 2)
        sign = -1 if second else 1
        mean = _drawn_around(trial, space)
        if mean is None and second:
            mean = _drawn_around(trials[place - 1], space)
        if mean is None:
            mean = self._mean(trials, space, study.direction)
        around = dict(zip(space, mean.tolist(), strict=True))
        drawn: dict[str, Any] = {"generation": generation, "pair": pair, "sign": sign, "mean": around}
        study._storage.set_trial_system_attr(trial._trial_id, DRAWN, drawn)
        e = np.random.default_rng([self._seed, generation, pair]).standard_normal(len(space))
        u = np.clip(mean + sign * self._sigma0 * e, 0.0, 1.0)
        return {name: _value(float(part), space[name]) for name, part in zip(space, u, strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> float:
        """Uniform in the range: what an enqueued trial leaves open, and all of a trial before the space is known."""
        found = _float(param_name, param_distribution)
        random = np.random.default_rng([self._seed, trial.number, *param_name.encode()])
        return _value(random.random(), found)

    def _mean(
        self, trials: Sequence[FrozenTrial], space: Mapping[str, FloatDistribution], to: StudyDirection
    ) -> Vector:
        """Mean after all generations that have ended, in the unit cube."""
        mean, size = self._start(space), 2 * self._n_pairs
        for first in range(0, len(trials) - size + 1, size):
            generation = trials[first : first + size]
            if all(trial.state.is_finished() for trial in generation):
                mean = np.clip(mean - self._learning_rate * _gradient(generation, space, to), 0.0, 1.0)
        return mean

    def _start(self, space: Mapping[str, FloatDistribution]) -> Vector:
        if self._x0 is None:
            return np.full(len(space), 0.5)
        for name, found in space.items():
            if name not in self._x0 or not found.low <= self._x0[name] <= found.high:
                raise ValueError(
                    f"`{found.low:g} <= x0[{name!r}] <= {found.high:g}` must hold, but got {self._x0.get(name)}."
                )
        return _cube(self._x0, space)


@dataclass(frozen=True, kw_only=True)
class _Member:
    """A trial of a pair that has ended."""

    moved: Vector
    """From the mean it was drawn around, in the unit cube."""
    value: float
    """Smaller is better; inf where there is none."""


def signed_ranks(differences: Vector) -> Vector:
    """s_i = sign(D_i) rank(|D_i|) / (2 n), in [-0.5, 0.5]; equal |D_i| share their mean rank. Shape [n], as D."""
    size = np.abs(differences)
    below = (size[:, None] > size[None, :]).sum(axis=1)
    upto = (size[:, None] >= size[None, :]).sum(axis=1)
    shaped: Vector = np.sign(differences) * (below + upto + 1) / 2 / (2 * len(size))
    return shaped


def _gradient(generation: Sequence[FrozenTrial], space: Mapping[str, FloatDistribution], to: StudyDirection) -> Vector:
    """mean_i(s_i d_i) of a generation that has ended; 0 where no pair counts."""
    members = [_member(trial, space, to) for trial in generation]
    pairs = [(a, b) for a, b in zip(members[::2], members[1::2], strict=True) if a is not None and b is not None]
    if not pairs:
        return np.zeros(len(space))
    differences = np.array([0.0 if a.value == b.value else a.value - b.value for a, b in pairs])
    moved = np.array([(a.moved - b.moved) / 2 for a, b in pairs])
    gradient: Vector = signed_ranks(differences) @ moved / len(pairs)
    return gradient


def _member(trial: FrozenTrial, space: Mapping[str, FloatDistribution], to: StudyDirection) -> _Member | None:
    """What an update needs of a trial; None if it was not drawn here, or has lost its parameters."""
    mean = _drawn_around(trial, space)
    if mean is None or not space.keys() <= trial.params.keys():
        return None
    return _Member(moved=_cube(trial.params, space) - mean, value=_loss(trial, to))


def _drawn_around(trial: FrozenTrial, space: Mapping[str, FloatDistribution]) -> Vector | None:
    """The mean that a trial was drawn around; None if it was not drawn here, or in another space."""
    mean = trial.system_attrs.get(DRAWN, {}).get("mean", {})
    return np.array([mean[name] for name in space]) if mean.keys() == space.keys() else None


def _loss(trial: FrozenTrial, to: StudyDirection) -> float:
    value = trial.value if trial.state is TrialState.COMPLETE else None
    if trial.state is TrialState.PRUNED and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    if value is None or not math.isfinite(value):
        return math.inf
    return -value if to is StudyDirection.MAXIMIZE else value


def _float(name: str, found: BaseDistribution) -> FloatDistribution:
    if not isinstance(found, FloatDistribution) or found.step is not None:
        raise ValueError(f"parameters must be floats without a step, but `{name}` is {found}.")
    return found


def _ends(found: FloatDistribution) -> tuple[float, float]:
    return (math.log(found.low), math.log(found.high)) if found.log else (found.low, found.high)


def _value(u: float, found: FloatDistribution) -> float:
    """The parameter at `u` in [0, 1]; the ends of the range exactly at 0 and 1."""
    low, high = _ends(found)
    x = low + u * (high - low)
    return min(max(math.exp(x) if found.log else x, found.low), found.high)


def _cube(params: Mapping[str, float], space: Mapping[str, FloatDistribution]) -> Vector:
    """Parameters in the unit cube, in the order of `space`."""

    def part(name: str, found: FloatDistribution) -> float:
        low, high = _ends(found)
        x = params[name]
        return min(max(((math.log(x) if found.log else x) - low) / (high - low), 0.0), 1.0)

    return np.array([part(name, found) for name, found in space.items()])
