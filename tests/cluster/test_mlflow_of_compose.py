"""What the mlflow container runs, without a container: who gets in, and where the secrets go."""

import base64
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from cluster_files import CLUSTER, COMPOSE

_SCRIPT = CLUSTER / "docker" / "mlflow_server.sh"


def _secrets(folder: Path) -> dict[str, str]:
    shutil.copy(CLUSTER / "docker" / "make_secrets.sh", folder)
    subprocess.run(["bash", folder / "make_secrets.sh"], check=True)
    return {file.name: file.read_text() for file in (folder / "secrets").iterdir()}


def _environment(folder: Path, port: int) -> dict[str, str]:
    """That of the compose file, with its defaults, an SQLite file for PostgreSQL, and no store to make a bucket in."""
    bin_ = folder / "bin"
    bin_.mkdir()
    (bin_ / "python").write_text("#!/usr/bin/env bash\ncat > /dev/null\n")
    (bin_ / "python").chmod(0o755)
    (bin_ / "mlflow").write_text(f'#!/usr/bin/env bash\nexec "{sys.executable}" -m mlflow "$@"\n')
    (bin_ / "mlflow").chmod(0o755)
    composed = yaml.safe_load(COMPOSE.read_text())["services"]["mlflow"]["environment"]
    defaults = {
        "PUBLISHED": "127.0.0.1:5000",
        "ALLOWED_HOSTS": composed["ALLOWED_HOSTS"].partition(":-")[2].removesuffix("}"),
    }
    here = {
        "PATH": f"{bin_}:{os.environ['PATH']}", "HOME": str(folder), "SECRETS_DIR": str(folder / "secrets"),
        "HOST": "127.0.0.1", "PORT": str(port), "BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
    }  # fmt: skip
    return os.environ | composed | defaults | here


def test_secrets_go_into_the_environment_and_no_argument(tmp_path: Path) -> None:
    secrets = _secrets(tmp_path)
    environment = _environment(tmp_path, 5000)
    (tmp_path / "bin" / "mlflow").write_text('#!/usr/bin/env bash\necho "arguments $*"; env\n')
    done = subprocess.run(["bash", _SCRIPT], env=environment, capture_output=True, text=True, check=True)
    said, arguments = done.stdout.splitlines()[:2]
    assert said.startswith("mlflow: published at 127.0.0.1:5000, answers requests for localhost:*,127.0.0.1:*,")
    assert "--app-name basic-auth --allowed-hosts localhost:*,127.0.0.1:*" in arguments
    assert "--artifacts-destination s3://mlflow" in arguments
    for name, variable in (
        ("mlflow_admin_password", "MLFLOW_AUTH_ADMIN_PASSWORD"), ("postgres_password", "PGPASSWORD"),
        ("mlflow_session_key", "MLFLOW_FLASK_SERVER_SECRET_KEY"), ("store_secret_key", "AWS_SECRET_ACCESS_KEY"),
    ):  # fmt: skip
        assert f"{variable}={secrets[name]}" in done.stdout.splitlines()
        assert secrets[name] not in said + arguments
        assert secrets[name] not in (tmp_path / "auth.ini").read_text()


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = _environment(folder, port)
    with (folder / "log").open("w") as log, subprocess.Popen(
        ["bash", _SCRIPT], env=environment, cwd=folder, stdout=log, stderr=log
    ) as server:  # fmt: skip
        try:
            deadline = time.monotonic() + 900
            while _status(f"http://127.0.0.1:{port}/health") != 200:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0


def test_server_refuses_strangers_and_foreign_host_names(tmp_path: Path) -> None:
    secrets = _secrets(tmp_path)
    login = base64.b64encode(f"admin:{secrets['mlflow_admin_password']}".encode()).decode()
    wrong = base64.b64encode(b"admin:password1234").decode()
    with _serving(tmp_path) as url:
        experiment = f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0"
        assert _status(experiment, Authorization=f"Basic {login}") == 200
        assert _status(experiment) == 401
        assert _status(experiment, Authorization=f"Basic {wrong}") == 401
        assert _status(experiment, Authorization=f"Basic {login}", Host="evil.example:5000") == 403
