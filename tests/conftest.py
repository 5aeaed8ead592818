"""Shared by all tests: a cache of their own, and one thread."""

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("patient", deadline=None)  # the machine may be busy, and no test asserts a time
settings.load_profile("patient")
os.environ["OMP_NUM_THREADS"] = "1"  # the commands that tests start: threads that wait for each other's cores only spin


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache and tracking server are none of the tests' business."""
    os.environ["METAOPT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    yield
