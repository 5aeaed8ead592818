"""Ray, for as long as a search needs it: a cluster's, or one of this machine that nobody else can reach."""

import gc
import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private import ray_constants

from metaopt.errors import ConfigError, MetaoptError

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # Optuna's journal is the record; Tune's snapshots are never read
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # workers start at once and not one after the other; `Room` bounds them
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_WIDE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for whether a Ray of this machine may have other nodes, and so listens on all addresses."""


@contextmanager
def started() -> Iterator[None]:
    """The cluster at RAY_ADDRESS, or else a Ray of this machine that ends with the block; quiet."""
    os.environ.update({key: os.environ.get(key, value) for key, value in _QUIET.items()})
    address = os.environ.get("RAY_ADDRESS", "local")
    with warnings.catch_warnings(), on_loopback(address == "local"):
        warnings.simplefilter("ignore")
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            dashboard = False if address == "local" else None  # None: leave a running cluster as it is
            try:
                ray.init(
                    address=address,
                    include_dashboard=dashboard,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
            except Exception as error:  # a busy machine is one of no type of its own
                if address == "local" and "timed out during startup" in str(error):
                    raise MetaoptError("Ray did not start on this machine within its 30 s; is it very busy?") from error
                if address == "local" or not isinstance(error, RuntimeError | ConnectionError):
                    raise
                raise ConfigError(
                    f"RAY_ADDRESS must be that of a cluster which lets this client in, but {address} does not; "
                    f"`metaopt doctor --address {address}` says more."
                ) from error
            logging.getLogger("ray").setLevel(logging.CRITICAL)
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray takes it, and aborts
            yield
        finally:
            _shut_down()


@contextmanager
def on_loopback(wanted: bool = True) -> Iterator[None]:
    """A Ray that is started within listens on 127.0.0.1 alone, unless the environment has Ray's switch for it."""
    if not wanted or _WIDE in os.environ:
        yield
        return
    before = ray_constants.ENABLE_RAY_CLUSTER  # read out of the environment when Ray was imported
    os.environ[_WIDE], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        del os.environ[_WIDE]
        ray_constants.ENABLE_RAY_CLUSTER = before


def _shut_down() -> None:
    # Ray ends the whole process if another thread's garbage collection drops a reference while it shuts down
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()
