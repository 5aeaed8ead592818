"""Whether the generator of a training is still getting better, as schedules that read `Signals.kid_p` ask."""

from collections import deque

from torch import Tensor

from metaopt.metrics import p_not_better

N_IMAGES = 300
"""Images a look, generated and real: a quarter more time for the task digits, 4 % more for mnist5k, on one CPU core."""
LOOKS_BACK = 10


class KidTest:
    """The images of a training's generator, in features, against those of `LOOKS_BACK` looks before."""

    def __init__(self, real: Tensor) -> None:
        """Start with nothing seen.

        Args:
            real: features ``(m, d)`` of the images that are trained on; the same in all tests.
        """
        self._real = real
        self._past: deque[Tensor] = deque(maxlen=LOOKS_BACK)

    def look(self, features: Tensor) -> float | None:
        """Keep `features`; p-value of the test against the oldest ones kept, None before the eleventh look.

        Args:
            features: ``(n, d)`` on the CPU, finite, of images of the same latents at each look.
        """
        p = p_not_better(features, self._past[0], self._real) if len(self._past) == LOOKS_BACK else None
        self._past.append(features)
        return p

    def state_dict(self) -> dict[str, list[Tensor]]:
        """All that changes."""
        return {"past": list(self._past)}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Continue where `state_dict` was taken."""
        self._past = deque((features.cpu() for features in state["past"]), maxlen=LOOKS_BACK)
