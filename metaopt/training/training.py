"""One training: a function of (task, schedule, seed) that yields records, and can be saved and resumed."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adam

from metaopt.gan import (
    LOSSES,
    PairSpec,
    Task,
    augment,
    make_pair,
    pair_spec,
    sample_batch,
    sample_classes,
    sample_labelled,
    to_uint8,
    to_unit,
)
from metaopt.gan.random_streams import generator_for
from metaopt.integrations.torch import ScheduleController
from metaopt.metrics import evaluate
from metaopt.schedules import Schedule
from metaopt.training.average import WeightAverage
from metaopt.training.flops import d_cost
from metaopt.training.game import Classes, Game
from metaopt.training.health import WINDOW, Finding, collapsed, diverged, lost_modes, oscillating, saturated
from metaopt.training.kid_test import N_IMAGES, KidTest
from metaopt.training.lookahead import Lookahead
from metaopt.training.records import Outcome, Record
from metaopt.training.resources import resources, spread

RECORDS_PER_EVALUATION = 10
_EVALUATION_BATCH = 250
_EPS = 1e-9


def train(task: Task, schedule: Schedule, seed: int = 0, *, device: str = "cpu") -> Iterator[Record]:
    """Train one GAN from scratch; yields `10 * task.evaluations + 1` records, fewer if it fails."""
    yield from Training(task, schedule, seed, device=device).run()


class Training:
    """Everything of one training that changes. `run` advances it; `state_dict` takes it along."""

    def __init__(self, task: Task, schedule: Schedule, seed: int, *, device: str = "cpu") -> None:
        """Build the networks of `seed`, which also sets the order of the data and the evaluation latents.

        Args:
            task: what to train.
            schedule: learning rates and update ratio.
            seed: any int; everything random in the training follows from it.
            device: a torch device name.
        """
        self.task, self.seed, self.device = task, seed, device
        self.shared = resources(task, device)
        self.game = Game(loss=LOSSES[task.loss], r1=task.r1, diff_augment=task.diff_augment)
        spec = pair_spec(task, self.shared.dataset)
        pair = make_pair(spec, _generator(seed, "networks", "cpu"))
        self.d_cost = _d_cost(spec, Game(loss=self.game.loss, r1=task.r1), task.batch)
        self.generator, self.discriminator = pair.generator.to(device), pair.discriminator.to(device)
        self.average = WeightAverage(self.generator, task.ema, task.budget) if task.ema else None
        betas = (task.beta1, task.beta2)
        self._weights_g, self._weights_d = list(self.generator.parameters()), list(self.discriminator.parameters())
        self.optimizer_g = Adam(self._weights_g, betas=betas, fused=True)
        self.optimizer_d = Adam(self._weights_d, betas=betas, fused=True)
        self._step_g, self._step_d = _plain_step(self.optimizer_g), _plain_step(self.optimizer_d)
        self.lookahead = Lookahead([*self._weights_g, *self._weights_d], task.lookahead) if task.lookahead else None
        self.controller = ScheduleController(
            schedule,
            self.optimizer_g,
            self.optimizer_d,
            iterations=task.budget,
            d_cost=self.d_cost,
            ideal_d_loss=self.game.loss.ideal_d_loss,
        )
        # Images that stay on the host are drawn there, so that no step waits for a GPU's random numbers.
        self.batches = _generator(seed, "batches", str(self.shared.dataset.x.device))
        self._copied = self.batches.device.type != torch.device(device).type
        self.latents = _generator(seed, "latents", device)
        self.chances = {of: _generator(seed, of, device) for of in ("augment", "game_d", "game_g")}
        self.kid_test = KidTest(self._real_features()) if getattr(schedule, "reads_kid", False) else None
        self.gaps: deque[float] = deque(maxlen=WINDOW)
        self.warnings: dict[str, str] = {}
        self.n_records = 0
        self.finding: Finding | None = None
        self._started = time.perf_counter()

    def run(self, until: float = 1.0) -> Iterator[Record]:
        """Advance to `until` (share of the budget, in [0, 1]), yielding a record at each logging point.

        The first record is of the untrained networks. Every tenth record, and the last one of a training that
        did not diverge, has an FID. Saving between two records and resuming gives the same records.
        """
        n_records = RECORDS_PER_EVALUATION * self.task.evaluations
        if self.n_records == 0:
            yield self._record(evaluate=True)
        while self.finding is None and self.n_records <= min(until, 1.0) * n_records + _EPS:
            self._advance(self.n_records / n_records)
            if self.finding is None and self.n_records == n_records:
                self.finding = Outcome.FINISHED, ""
            yield self._record(evaluate=self.n_records % RECORDS_PER_EVALUATION == 0)

    @property
    def healthy(self) -> bool:
        """Whether the generator's images are worth a look: it has not diverged."""
        return self.finding is None or self.finding[0] is not Outcome.DIVERGED

    def sample(self, n: int) -> Tensor:
        """`n` generated images as uint8 (n, C, H, W), from the same latents whenever it is called."""
        return torch.cat([to_uint8(images) for images in self._generated(n)])

    def measures(self) -> dict[str, float]:
        """Each metric of the task on `task.n_samples` generated images; empty if any pixel is not finite."""
        finite = True

        def batches() -> Iterator[Tensor]:
            nonlocal finite
            for images in self._generated(self.task.n_samples):
                finite = finite and bool(images.isfinite().all())  # as bytes they would look like any black image
                yield to_uint8(images)

        random = _generator(self.seed, "metrics", "cpu")
        measures = evaluate(batches(), self.shared.real, self.shared.extractor, self.task.metrics, random)
        return measures if finite else {}

    def state_dict(self) -> dict[str, Any]:
        """All that changes: tensors and plain values."""
        return {
            "task": self.task.key(),
            "data": self.shared.identity,
            "seed": self.seed,
            "n_records": self.n_records,
            "finding": None if self.finding is None else [str(self.finding[0]), self.finding[1]],
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimizer_g": self.optimizer_g.state_dict(),
            "optimizer_d": self.optimizer_d.state_dict(),
            "controller": self.controller.state_dict(),
            "batches": self.batches.get_state(),
            "latents": self.latents.get_state(),
            "chances": {of: generator.get_state() for of, generator in self.chances.items()},
            "average": None if self.average is None else self.average.state_dict(),
            "lookahead": None if self.lookahead is None else self.lookahead.state_dict(),
            "kid_test": None if self.kid_test is None else self.kid_test.state_dict(),
            "gaps": list(self.gaps),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.n_records = state["n_records"]
        finding = state["finding"]
        self.finding = None if finding is None else (Outcome(finding[0]), finding[1])
        for name in ("generator", "discriminator", "optimizer_g", "optimizer_d", "controller"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("batches", "latents"):
            getattr(self, name).set_state(state[name].cpu())
        for of, generator in self.chances.items():
            generator.set_state(state["chances"][of].cpu())
        for name in ("average", "lookahead", "kid_test"):
            if getattr(self, name) is not None:
                getattr(self, name).load_state_dict(state[name])
        self.gaps = deque(state["gaps"], maxlen=WINDOW)

    def _advance(self, progress: float) -> None:
        fake = None
        while self.finding is None and self.controller.progress < progress - _EPS:
            fake = self._update_d() if self.controller.turn == "d" else self._update_g()
            if self.controller.fresh:
                self._look()
        if self.finding is None and fake is not None:
            self.finding = collapsed(spread(fake), self.shared.spread, progress)

    def _look(self) -> None:
        """Judge the signals that were just read."""
        signals, ideal = self.controller.signals, self.game.loss.ideal_d_loss
        self.finding = diverged(signals, self.controller.log_grad_norms, ideal)
        self.gaps.append(signals.loss_gap)
        self._warn(saturated(signals, ideal))
        self._warn(oscillating(self.gaps))

    def _warn(self, warning: str) -> None:
        """Keep the latest of each kind for the next record."""
        if warning:
            self.warnings[warning.partition(":")[0]] = warning

    def _update_d(self) -> Tensor:
        real, classes = self._real()
        with torch.no_grad():
            fake: Tensor = self.generator(self._noise(self.task.batch, self.latents), *classes)
        found = self.game.d_loss(self.discriminator, real, fake, classes, self.chances["game_d"])
        _clear(self._weights_d)
        torch.autograd.backward(found.objective, inputs=self._weights_d)
        self._step_d()
        self.game.after_d_update(self.discriminator)
        self.controller.update(found.loss, real_logits=found.real_logits, fake_logits=found.fake_logits)
        return fake

    def _update_g(self) -> Tensor:
        z, classes = self._latents(self.task.batch, self.latents)
        fake: Tensor = self.generator(z, *classes)
        loss = self.game.g_loss(self.discriminator, fake, classes, self.chances["game_g"])
        _clear(self._weights_g)
        torch.autograd.backward(loss, inputs=self._weights_g)  # none for the weights of D
        self._step_g()
        if self.lookahead is not None:
            self.lookahead.after_g_update()
            self.game.after_d_update(self.discriminator)  # the slow weights start where none were cut
        self.controller.update(loss)
        if self.average is not None:
            self.average.update(self.generator, self.controller.iteration)
        return fake.detach()

    def _real(self) -> tuple[Tensor, Classes]:
        dataset, batch = self.shared.dataset, self.task.batch
        if self.task.conditional:
            images, y = (self._here(drawn) for drawn in sample_labelled(dataset, batch, self.batches))
            classes: Classes = (y,)
        else:
            images, classes = self._here(sample_batch(dataset, batch, self.batches)), ()
        if self.task.augment:
            images = augment(images, self.task.augment, self.chances["augment"])
        return to_unit(images), classes

    def _here(self, drawn: Tensor) -> Tensor:
        """On the training's device."""
        return drawn.pin_memory().to(self.device, non_blocking=True) if self._copied else drawn

    def _test_generator(self) -> None:
        """Tell a schedule that asks whether the generator is better than it was."""
        if self.kid_test is None or self.finding is not None:
            return
        images = torch.cat(list(self._generated(N_IMAGES, purpose="kid")))
        if bool(images.isfinite().all()):  # others say what it means if not
            p = self.kid_test.look(self.shared.extractor(to_uint8(images)).cpu())
            if p is not None:
                self.controller.observe_kid(p)

    def _real_features(self) -> Tensor:
        """Of images that are trained on: clean ones, as metrics see them, are not the training's to look at."""
        dataset = self.shared.dataset
        random = _generator(self.seed, "kid_real", str(dataset.x.device))
        return self.shared.extractor(self._here(sample_batch(dataset, N_IMAGES, random))).cpu()

    @torch.no_grad()
    def _generated(self, n: int, *, purpose: str = "evaluation") -> Iterator[Tensor]:
        latents = _generator(self.seed, purpose, self.device)
        generator = self.generator if self.average is None else self.average.module
        for start in range(0, n, _EVALUATION_BATCH):
            z, classes = self._latents(min(_EVALUATION_BATCH, n - start), latents)
            generator.eval()
            images = generator(z, *classes)
            generator.train()
            yield images

    def _latents(self, n: int, generator: torch.Generator) -> tuple[Tensor, Classes]:
        """Noise, and classes as frequent as they are in the data."""
        z = self._noise(n, generator)
        return z, (sample_classes(self.shared.dataset, n, generator),) if self.task.conditional else ()

    def _noise(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.task.z_dim, generator=generator, device=self.device)

    def _record(self, *, evaluate: bool) -> Record:
        self._test_generator()
        controller = self.controller
        measures: dict[str, float] = {}
        if (evaluate or self.finding is not None) and self.healthy:
            measures = self.measures()
            if not math.isfinite(measures.get("fid", math.nan)):
                what = "features of finite samples" if measures else "samples"
                self.finding, measures = (Outcome.DIVERGED, f"non-finite {what}"), {}
            relative_spread, relative_rank = (measures.pop(f"feature_{of}", 1.0) for of in ("spread", "rank"))
            self._warn(lost_modes(relative_spread, relative_rank, controller.progress))
        warning = "; ".join(self.warnings.values())
        self.warnings.clear()
        self.n_records += 1
        loss_d, loss_g = controller.losses
        return Record(
            iteration=controller.iteration,
            progress=controller.progress,
            d_updates=controller.d_updates,
            g_updates=controller.g_updates,
            loss_d=loss_d,
            loss_g=loss_g,
            lr_d=controller.controls.lr_d,
            lr_g=controller.controls.lr_g,
            update_ratio=controller.controls.update_ratio,
            loss_gap=controller.signals.loss_gap,
            d_sign=controller.signals.d_sign,
            d_accuracy=controller.signals.d_accuracy,
            log_grad_ratio=controller.signals.log_grad_ratio,
            **measures,
            warning=warning,
            outcome=self.finding[0] if self.finding else None,
            reason=self.finding[1] if self.finding else "",
            wall_s=time.perf_counter() - self._started,
        )


def _clear(weights: list[Parameter]) -> None:
    """`zero_grad` without its hooks, which cost a small network 3 % of its time."""
    for weight in weights:
        weight.grad = None


def _plain_step(optimizer: Adam) -> Callable[[], object]:
    """`optimizer.step` without the profiler's mark and the hooks, which cost a small network 5 % of its time."""
    step = type(optimizer).step
    return partial(step.__wrapped__ if getattr(step, "hooked", False) else step, optimizer)  # type: ignore[attr-defined]


@lru_cache(maxsize=256)
def _d_cost(spec: PairSpec, game: Game, batch: int) -> float:
    """Measured once per network pair and process; it does not depend on the weights."""
    return d_cost(make_pair(spec, torch.Generator().manual_seed(0)), game, spec, batch)


def _generator(seed: int, purpose: str, device: str) -> torch.Generator:
    """Independent streams per purpose: the k-th batch of D is the same for every update ratio."""
    return generator_for(f"{seed}/{purpose}", device)
