"""CMA-ES by Optuna, whose state in the journal can run no code."""

import io
import pickle
from collections.abc import Sequence
from typing import Any

from optuna.samplers import CmaEsSampler
from optuna.trial import FrozenTrial

from metaopt.errors import StorageError

_PARTS = {
    ("cmaes._cma", "CMA"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}
"""All that such a state consists of, which is its distribution and no random numbers."""


class JournalledCmaEsSampler(CmaEsSampler):
    """Optuna's, which pickles its optimizer into trials: read here without making anything but an optimizer.

    A folder of a study is data, which somebody else may have written.
    """

    def _restore_optimizer(self, completed_trials: Sequence[FrozenTrial]) -> Any:
        """The latest optimizer that a trial holds, or None. StorageError if it is something else."""
        for trial in reversed(completed_trials):
            attributes = {
                key: value for key, value in trial.system_attrs.items() if key.startswith(self._attr_key_optimizer)
            }
            if attributes:
                return _read(bytes.fromhex(self._concat_optimizer_attrs(attributes)), trial.number)
        return None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PARTS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def _read(state: bytes, number: int) -> Any:
    try:
        return _Unpickler(io.BytesIO(state)).load()
    except Exception as error:  # of any type: damage takes the unpickler anywhere
        raise StorageError(
            f"The state of the sampler `cmaes` that trial {number} holds must be one that Optuna wrote, but {error}."
        ) from error
