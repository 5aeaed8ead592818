"""One training: a function of (task, schedule, seed) that yields records, and can be saved and resumed."""

import hashlib
import math
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam

from metaopt.gan import LOSSES, Task, make_pair, sample_batch, to_uint8, to_unit
from metaopt.integrations.torch import ScheduleController
from metaopt.metrics import Moments, frechet_distance
from metaopt.schedules import Schedule
from metaopt.training.flops import d_cost
from metaopt.training.health import Finding, collapsed, diverged
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
        self.loss = LOSSES[task.loss]
        dataset = self.shared.dataset
        pair = make_pair(
            task.network,
            size=dataset.size,
            channels=dataset.channels,
            width=task.width,
            z_dim=task.z_dim,
            generator=_generator(seed, "networks", "cpu"),
        )
        self.d_cost = _d_cost(
            network=task.network,
            size=dataset.size,
            channels=dataset.channels,
            width=task.width,
            z_dim=task.z_dim,
            loss=task.loss,
            batch=task.batch,
        )
        self.generator, self.discriminator = pair.generator.to(device), pair.discriminator.to(device)
        betas = (task.beta1, task.beta2)
        self.optimizer_g = Adam(self.generator.parameters(), betas=betas, fused=True)
        self.optimizer_d = Adam(self.discriminator.parameters(), betas=betas, fused=True)
        self.controller = ScheduleController(
            schedule,
            self.optimizer_g,
            self.optimizer_d,
            iterations=task.budget,
            d_cost=self.d_cost,
            ideal_d_loss=self.loss.ideal_d_loss,
        )
        self.batches = _generator(seed, "batches", device)
        self.latents = _generator(seed, "latents", device)
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

    def fid(self) -> float:
        """Frechet distance of `task.n_samples` generated images to the real set; NaN if any is not finite."""
        moments = Moments.empty(self.shared.extractor.dim)
        for images in self._generated(self.task.n_samples):
            if not images.isfinite().all():  # as bytes they would look like any black image
                return math.nan
            moments = moments.updated(self.shared.extractor(to_uint8(images)))
        return frechet_distance(self.shared.real, moments)

    def state_dict(self) -> dict[str, Any]:
        """All that changes: tensors and plain values."""
        return {
            "task": self.task.key(),
            "data": self.shared.dataset.content_hash,
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
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.n_records = state["n_records"]
        finding = state["finding"]
        self.finding = None if finding is None else (Outcome(finding[0]), finding[1])
        for name in ("generator", "discriminator", "optimizer_g", "optimizer_d", "controller"):
            getattr(self, name).load_state_dict(state[name])
        self.batches.set_state(state["batches"].cpu())
        self.latents.set_state(state["latents"].cpu())

    def _advance(self, progress: float) -> None:
        fake = None
        while self.finding is None and self.controller.progress < progress - _EPS:
            fake = self._update_d() if self.controller.turn == "d" else self._update_g()
            if self.controller.fresh:
                self.finding = diverged(self.controller.signals, self.controller.log_grad_norms)
        if self.finding is None and fake is not None:
            self.finding = collapsed(spread(fake), self.shared.spread, progress)

    def _update_d(self) -> Tensor:
        real = to_unit(sample_batch(self.shared.dataset, self.task.batch, self.batches))
        with torch.no_grad():
            fake: Tensor = self.generator(self._latents(self.task.batch, self.latents))
        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        loss = self.loss.d_loss(real_logits, fake_logits)
        self.optimizer_d.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer_d.step()
        self.controller.update(loss, real_logits=real_logits, fake_logits=fake_logits)
        return fake

    def _update_g(self) -> Tensor:
        fake: Tensor = self.generator(self._latents(self.task.batch, self.latents))
        loss = self.loss.g_loss(self.discriminator(fake))
        self.optimizer_g.zero_grad()
        torch.autograd.backward(loss, inputs=list(self.generator.parameters()))  # none for the weights of D
        self.optimizer_g.step()
        self.controller.update(loss)
        return fake.detach()

    @torch.no_grad()
    def _generated(self, n: int) -> Iterator[Tensor]:
        latents = _generator(self.seed, "evaluation", self.device)
        for start in range(0, n, _EVALUATION_BATCH):
            self.generator.eval()
            images = self.generator(self._latents(min(_EVALUATION_BATCH, n - start), latents))
            self.generator.train()
            yield images

    def _latents(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.task.z_dim, generator=generator, device=self.device)

    def _record(self, *, evaluate: bool) -> Record:
        controller = self.controller
        fid = self.fid() if (evaluate or self.finding is not None) and self.healthy else None
        if fid is not None and math.isnan(fid):
            self.finding, fid = (Outcome.DIVERGED, "non-finite samples"), None
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
            d_accuracy=controller.signals.d_accuracy,
            log_grad_ratio=controller.signals.log_grad_ratio,
            fid=fid,
            outcome=self.finding[0] if self.finding else None,
            reason=self.finding[1] if self.finding else "",
            wall_s=time.perf_counter() - self._started,
        )


@lru_cache(maxsize=256)
def _d_cost(*, network: str, size: int, channels: int, width: int, z_dim: int, loss: str, batch: int) -> float:
    """Measured once per network pair and process; it does not depend on the weights."""
    pair = make_pair(
        network, size=size, channels=channels, width=width, z_dim=z_dim, generator=torch.Generator().manual_seed(0)
    )
    return d_cost(pair, LOSSES[loss], (channels, size, size), batch)


def _generator(seed: int, purpose: str, device: str) -> torch.Generator:
    """Independent streams per purpose: the k-th batch of D is the same for every update ratio."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
