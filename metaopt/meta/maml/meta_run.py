"""One start being learned, as a generator that yields records: the counterpart of a training of one GAN."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.gan import LOSSES, Corruption, to_uint8
from metaopt.gan.random_streams import generator_for
from metaopt.meta.maml.adaptation import Follow
from metaopt.meta.maml.algorithms import find_algorithm
from metaopt.meta.maml.games import Round, game_players, pair_weights
from metaopt.meta.maml.groups import image_episode
from metaopt.meta.maml.initialisation import Initialisation
from metaopt.meta.maml.inner import Episode, Inner, stacked
from metaopt.meta.maml.learning import MetaTraining
from metaopt.meta.maml.meta_judging import DRAWS, Candidate, cases, generated, judged
from metaopt.meta.maml.meta_task import MetaTask, heads_only, meta_groups
from metaopt.schedules import Signals, build_schedule
from metaopt.training import Outcome

RECORDS_PER_EVALUATION = 10
OWN_PARAMS = ("algorithm", "outer_lr", "inner_steps", "adam_lr")
"""Parameters of a run besides those of the inner loop's schedule."""
_SHOWN, _MEMORY = 8, 0.9


@dataclass(frozen=True, kw_only=True)
class MetaRecord:
    """The state of a run at one moment."""

    iteration: float
    """Outer iterations."""
    progress: float
    """Share of the budget spent, in [0, 1]."""
    loss_d: float
    """Of adapted players on query sets (see `OuterRecord`), exponential average with decay 0.9 an iteration."""
    loss_g: float
    gradient_norm: float
    """Of the outer gradient, likewise."""
    lr_d: float
    """Rate of the first inner step."""
    lr_g: float
    update_ratio: float
    fid: float | None = None
    """Geometric mean over groups to judge on, after adaptation; None where none was taken."""
    kid: float | None = None
    """Mean over the same, as the next two."""
    coverage: float | None = None
    memorisation: float | None = None
    start_fid: float | None = None
    """As `fid`, before adaptation."""
    warning: str = ""
    outcome: Outcome | None = None
    """Set in the last record only."""
    reason: str = ""
    wall_s: float = field(default=0.0, compare=False)
    """Seconds since the run started."""

    def as_dict(self) -> dict[str, float | int | str | None]:
        """Flat, with plain types."""
        return asdict(self) | {"outcome": None if self.outcome is None else str(self.outcome)}


class MetaRun:
    """Everything of one run that changes. `run` advances it."""

    def __init__(self, task: MetaTask, family: str, params: Mapping[str, Any], seed: int) -> None:
        """Draw the first weights and the order of episodes from `seed`.

        Args:
            task: what to learn on.
            family: of the inner loop's schedule.
            params: its parameters, and `algorithm`, `outer_lr`, `inner_steps`, and `adam_lr`: the rate of both players
                where Adam adapts them, in place of the schedule's first ones.
            seed: any int; the adaptations that judge a start are the same for all seeds.
        """
        if missing := [name for name in OWN_PARAMS if name not in params]:
            raise ConfigError(f"`params` must have {', '.join(OWN_PARAMS)}, but {missing[0]} is missing.")
        self.task, self.seed = task, seed
        self.family, self.params = family, dict(params)
        self.algorithm = find_algorithm(params["algorithm"])
        self.how: Follow = "adam" if self.algorithm.joint else "sgd"
        self._frozen = heads_only(task) if self.algorithm.head_only else {}
        self._pair = task.pair(seed)
        self._players = game_players(self._pair, LOSSES[task.loss], r1=task.r1, frozen=self._frozen)
        self._steps = int(params["inner_steps"])
        # Joint training has no inner loop: it gets as many updates instead.
        iterations = task.budget * (self._steps if self.algorithm.joint else 1)
        self._training = MetaTraining(
            stacked(self._players, task.meta_batch),
            pair_weights(self._pair),
            self._inner(self._steps),
            self.algorithm,
            lr=float(params["outer_lr"]),
            iterations=iterations,
            beta1=0.5,
        )
        self._outer = self._training.run(self._episodes())
        self._means: dict[str, float] = {}
        self.n_records = 0
        self.finding: tuple[Outcome, str] | None = None
        self._started = time.perf_counter()

    @property
    def healthy(self) -> bool:
        """Whether its samples are worth a look: it has not diverged."""
        return self.finding is None or self.finding[0] is not Outcome.DIVERGED

    def run(self, until: float = 1.0) -> Iterator[MetaRecord]:
        """Advance to `until` (share of the budget, in [0, 1]), yielding ten records an evaluation, and a first one."""
        n_records = RECORDS_PER_EVALUATION * self.task.evaluations
        if self.n_records == 0:
            yield self._record(0.0, evaluate=True)
        while self.finding is None and self.n_records <= min(until, 1.0) * n_records + 1e-9:
            progress = self.n_records / n_records
            self._advance(round(progress * self._training.iterations))
            if self.finding is None and self.n_records == n_records:
                self.finding = Outcome.FINISHED, ""
            yield self._record(progress, evaluate=self.n_records % RECORDS_PER_EVALUATION == 0)

    def sample(self, n: int) -> Tensor:
        """At most `n` >= 24 images, uint8, in rows of eight: images adapted to, before, and after, group by group."""
        shown = cases(self.task)[::DRAWS][: n // (3 * _SHOWN)]
        parts = []
        before, after = (generated(self._candidate(), shown, adapted=adapted) for adapted in (False, True))
        for case, *made in zip(shown, before, after, strict=True):
            support = case.support[torch.arange(_SHOWN) % len(case.support)]
            parts += [support, *(to_uint8(images[:_SHOWN].nan_to_num()) for images in made)]
        return torch.cat(parts)

    def initialisation(self) -> Initialisation:
        """The start as it is now."""
        return Initialisation(
            spec=self.task.spec,
            loss=self.task.loss,
            r1=self.task.r1,
            weights=self._training.weights,
            rates=self._training.rates,
            family=self.family,
            params=self._schedule(),
            steps=self._steps,
            batch=self.task.batch,
            how=self.how,
            frozen=self._frozen,
            algorithm=self.params["algorithm"],
            trained_on=tuple(group.name for group in meta_groups(self.task).train),
            provenance={"seed": self.seed, "iterations": self._training.iteration},
        )

    def _inner(self, steps: int) -> Inner:
        return Inner(schedule=build_schedule(self.family, self._schedule()), steps=steps)

    def _schedule(self) -> dict[str, float]:
        """Parameters of the inner loop's schedule, at the rates of who adapts."""
        own = {name: value for name, value in self.params.items() if name not in OWN_PARAMS}
        return own | ({"lr_g": self.params["adam_lr"], "lr_d": self.params["adam_lr"]} if self.how == "adam" else {})

    def _episodes(self) -> Iterator[Sequence[Episode[Round]]]:
        random = generator_for(f"episodes {self.seed}")
        groups, shots = meta_groups(self.task).train, self.task.episode(self._steps)
        if self.algorithm.joint:  # which would learn to draw what is wrong with its images
            shots = replace(shots, corruptions=(Corruption(),))
        while True:
            yield [image_episode(groups, shots, self.task.meta_batch, random)]

    def _advance(self, iteration: int) -> None:
        while self._training.iteration < iteration and self.finding is None:
            record = next(self._outer)
            if record.diverged:
                self.finding = Outcome.DIVERGED, f"non-finite outer loss or gradient at iteration {record.iteration}"
                return
            news = {"d": record.losses["d"], "g": record.losses["g"], "norm": record.gradient_norm}
            self._means = {
                key: _MEMORY * self._means.get(key, value) + (1 - _MEMORY) * value for key, value in news.items()
            }

    def _record(self, progress: float, *, evaluate: bool) -> MetaRecord:
        measures = judged(self._candidate(), cases(self.task)) if evaluate and self.healthy else {}
        if not math.isfinite(measures.get("fid", 0.0)):
            self.finding, measures = (Outcome.DIVERGED, "non-finite samples"), {}
        schedule = self._inner(self._steps).schedule
        _, controls = schedule.step(schedule.init(), Signals(progress=0.0, ideal_d_loss=self._players.ideal_d_loss))
        self.n_records += 1
        ideal = LOSSES[self.task.loss]
        return MetaRecord(
            iteration=progress * self.task.budget,
            progress=progress,
            loss_d=self._means.get("d", ideal.ideal_d_loss),
            loss_g=self._means.get("g", ideal.ideal_g_loss),
            gradient_norm=self._means.get("norm", 0.0),
            lr_d=controls.lr_d,
            lr_g=controls.lr_g,
            update_ratio=controls.update_ratio,
            **measures,
            outcome=self.finding[0] if self.finding else None,
            reason=self.finding[1] if self.finding else "",
            wall_s=time.perf_counter() - self._started,
        )

    def _candidate(self) -> Candidate:
        return Candidate(
            pair=self._pair,
            players=self._players,
            weights=self._training.weights,
            rates=self._training.rates,
            inner=self._inner(self.task.adapt_steps),
            how=self.how,
        )
