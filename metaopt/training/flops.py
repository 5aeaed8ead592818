"""What an update costs, so that a budget means the same compute for every update ratio."""

from copy import deepcopy
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from metaopt.gan import Pair, PairSpec
from metaopt.training.game import Classes, Game
from metaopt.user_code import is_import_path


class FlopCounter(TorchDispatchMode):
    """Counts what runs inside it, by torch's own table of formulas.

    torch's FlopCounterMode hooks into modules and cannot see a gradient inside a loss, as penalties have it.
    """

    flops: float
    """So far: two for each multiply-add of a matrix product or convolution, forward and backward."""

    def __init__(self) -> None:
        """Start at 0."""
        super().__init__()  # type: ignore[no-untyped-call]
        from torch.utils.flop_counter import flop_registry  # loads Triton: 70 MB that a search's driver need not have

        self._formulas = flop_registry
        self.flops = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func` and add its cost."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = self._formulas.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        return out


def d_cost(pair: Pair, game: Game, spec: PairSpec, batch: int) -> float:
    """FLOPs of a D update over those of a D plus a G update, in (0, 1), forward, backward and penalties counted.

    Copies are measured, so `pair` is left as it was; on the meta device, where nothing is computed.

    Args:
        pair: the networks.
        game: losses and penalties of both players.
        spec: what `pair` was built from.
        batch: images per update.
    """
    # One's own networks may look at their numbers, which there are none of on the meta device.
    device = "cpu" if is_import_path(spec.network) else "meta"
    generator, discriminator = (deepcopy(player).to(device) for player in (pair.generator, pair.discriminator))
    z = torch.zeros(batch, pair.z_dim, device=device)
    real = torch.zeros(batch, spec.channels, spec.size, spec.size, device=device)
    classes: Classes = (torch.zeros(batch, dtype=torch.int64, device=device),) if spec.n_classes else ()
    counter_d, counter_g = FlopCounter(), FlopCounter()
    with counter_d:
        with torch.no_grad():
            fake = generator(z, *classes)
        objective = game.d_loss(discriminator, real, fake, classes, None).objective
        torch.autograd.backward(objective, inputs=list(discriminator.parameters()))
    with counter_g:
        loss = game.g_loss(discriminator, generator(z, *classes), classes, None)
        torch.autograd.backward(loss, inputs=list(generator.parameters()))
    return counter_d.flops / (counter_d.flops + counter_g.flops)
