"""What an update costs, so that a budget means the same compute for every update ratio."""

from copy import deepcopy

import torch
from torch.utils.flop_counter import FlopCounterMode

from metaopt.gan import GanLoss, Pair


def d_cost(pair: Pair, loss: GanLoss, image_shape: tuple[int, int, int], batch: int) -> float:
    """FLOPs of a D update over those of a D plus a G update, in (0, 1), forward and backward counted.

    Copies on the meta device are measured, so `pair` is left as it was and nothing is computed.

    Args:
        pair: the networks.
        loss: the losses of both players.
        image_shape: (C, H, W).
        batch: images per update.
    """
    generator, discriminator = deepcopy(pair.generator).to("meta"), deepcopy(pair.discriminator).to("meta")
    z = torch.zeros(batch, pair.z_dim, device="meta")
    real = torch.zeros(batch, *image_shape, device="meta")
    with FlopCounterMode(display=False) as counter_d:
        with torch.no_grad():
            fake = generator(z)
        torch.autograd.backward(loss.d_loss(discriminator(real), discriminator(fake)))
    with FlopCounterMode(display=False) as counter_g:
        loss_g = loss.g_loss(discriminator(generator(z)))
        torch.autograd.backward(loss_g, inputs=list(generator.parameters()))
    flops_d, flops_g = counter_d.get_total_flops(), counter_g.get_total_flops()
    return float(flops_d / (flops_d + flops_g))
