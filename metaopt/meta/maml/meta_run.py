"""One start being learned, as a generator that yields records: the counterpart of a training of one GAN."""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.gan import LOSSES, to_uint8
from metaopt.meta.maml.adaptation import AdaptationMeasures, Follow, Target, followed, measured, target
from metaopt.meta.maml.algorithms import find_algorithm
from metaopt.meta.maml.games import Round, game_players, images_of, pair_weights
from metaopt.meta.maml.groups import draw, image_episode, rounds_of, stack_rounds
from metaopt.meta.maml.initialisation import Initialisation
from metaopt.meta.maml.inner import Episode, Inner, Weights, stacked
from metaopt.meta.maml.learning import MetaTraining
from metaopt.meta.maml.meta_task import MetaTask, heads_only, meta_groups
from metaopt.meta.objective import log_fid
from metaopt.metrics import find_features
from metaopt.schedules import Signals, build_schedule
from metaopt.training import Outcome

RECORDS_PER_EVALUATION = 10
OWN_PARAMS = ("algorithm", "outer_lr", "inner_steps")
"""Parameters of a run besides those of the inner loop's schedule."""
_DRAWS, _SHOWN, _MEMORY = 2, 8, 0.9


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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Case:
    """An adaptation that a start is judged by."""

    group: str
    support: Tensor
    rounds: list[Round]
    z: Tensor
    target: Target


class MetaRun:
    """Everything of one run that changes. `run` advances it."""

    def __init__(self, task: MetaTask, family: str, params: Mapping[str, Any], seed: int) -> None:
        """Draw the first weights and the order of episodes from `seed`.

        Args:
            task: what to learn on.
            family: of the inner loop's schedule.
            params: its parameters, and `algorithm`, `outer_lr` and `inner_steps`.
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
        self._cases: list[_Case] = []
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
        shown = self._judged_by()[::_DRAWS][: n // (3 * _SHOWN)]
        parts = []
        before, after = (self._generated(shown, steps) for steps in (0, self.task.adapt_steps))
        for case, *made in zip(shown, before, after, strict=True):
            support = case.support[torch.arange(_SHOWN) % len(case.support)]
            parts += [support, *(to_uint8(images[:_SHOWN].nan_to_num()) for images in made)]
        return torch.cat(parts)

    def initialisation(self) -> Initialisation:
        """The start as it is now."""
        schedule = {name: value for name, value in self.params.items() if name not in OWN_PARAMS}
        return Initialisation(
            spec=self.task.spec,
            loss=self.task.loss,
            r1=self.task.r1,
            weights=self._training.weights,
            rates=self._training.rates,
            family=self.family,
            params=schedule,
            steps=self._steps,
            batch=self.task.batch,
            how=self.how,
            frozen=self._frozen,
            algorithm=self.params["algorithm"],
            trained_on=tuple(group.name for group in meta_groups(self.task).train),
            provenance={"seed": self.seed, "iterations": self._training.iteration},
        )

    def _inner(self, steps: int) -> Inner:
        schedule = {name: value for name, value in self.params.items() if name not in OWN_PARAMS}
        return Inner(schedule=build_schedule(self.family, schedule), steps=steps)

    def _episodes(self) -> Iterator[Sequence[Episode[Round]]]:
        random = _generator(f"episodes {self.seed}")
        groups, shots = meta_groups(self.task).train, self.task.episode(self._steps)
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
        measures = self._measures() if evaluate and self.healthy else {}
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

    def _measures(self) -> dict[str, Any]:
        """Means over all adaptations; one that diverges counts as its start."""
        cases = self._judged_by()
        before, after = (
            [self._measured(images, case) for images, case in zip(self._generated(cases, steps), cases, strict=True)]
            for steps in (0, self.task.adapt_steps)
        )
        after = [new if math.isfinite(new.fid) else old for old, new in zip(before, after, strict=True)]
        lost = sum(new is old for old, new in zip(before, after, strict=True))
        return {
            "fid": _geometric_mean([one.fid for one in after]),
            "kid": _mean([one.kid for one in after]),
            "coverage": _mean([one.coverage for one in after]),
            "memorisation": _mean([one.memorisation for one in after]),
            "start_fid": _geometric_mean([one.fid for one in before]),
            "warning": f"adaptation diverged: {lost} of {len(cases)}" if lost else "",
        }

    def _measured(self, images: Tensor, case: _Case) -> AdaptationMeasures:
        return measured(images, case.target, _generator("kid"))

    def _generated(self, cases: Sequence[_Case], steps: int) -> list[Tensor]:
        """Images of each case's adapted generator (n_samples, C, H, H), all adapted side by side."""
        n = len(cases)
        now: Weights = {
            player: {name: w.detach().expand(n, *w.shape) for name, w in of.items()}
            for player, of in self._training.weights.items()
        }
        if steps:
            rounds = stack_rounds([case.rounds for case in cases])
            stack = stacked(self._players, n)
            *_, now = followed(stack, now, rounds, self._inner(steps), self._training.rates, how=self.how)
        return [
            images_of(self._pair, {name: w[i].detach() for name, w in now["g"].items()}, case.z)
            for i, case in enumerate(cases)
        ]

    def _judged_by(self) -> list[_Case]:
        if not self._cases:
            task, extractor = self.task, find_features(self.task.features)
            shots = task.episode(task.adapt_steps)
            for i, group in enumerate(meta_groups(task).validation):
                for number in range(_DRAWS):
                    random = _generator(f"judged by {i} {number}")
                    drawn = draw(group, shots, random)
                    rounds = rounds_of(drawn.support, shots, random)
                    z = torch.randn(task.n_samples, task.spec.z_dim, generator=random)
                    against = target(drawn.support, drawn.rest, extractor)
                    self._cases.append(
                        _Case(group=group.name, support=drawn.support, rounds=rounds, z=z, target=against)
                    )
        return self._cases


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _geometric_mean(fids: Sequence[float]) -> float:
    return math.exp(_mean([log_fid(fid) for fid in fids])) if all(map(math.isfinite, fids)) else math.nan


def _generator(purpose: str) -> torch.Generator:
    """Independent streams per purpose."""
    digest = hashlib.sha256(purpose.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
