"""Real MLflow stores: a migrated SQLite file takes two seconds to make, so it is made once and copied."""

import shutil
from pathlib import Path

import pytest

from metaopt.tracking.mlflow_connect import connect


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> str:
    """The URI of an empty SQLite store in ``tmp_path``."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"
