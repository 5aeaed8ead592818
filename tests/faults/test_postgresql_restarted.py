"""The PostgreSQL behind an MLflow server dies while trials run, and is started again."""

import os
import subprocess
import sys
from pathlib import Path

from mlflow_server import Server
from postgres import Postgres
from search_checks import check_whole, n_ended, wait_until
from studies import tiny_study, write_study

N_TRIALS = 10


def test_a_database_that_is_restarted_misses_nothing(tmp_path: Path) -> None:
    database, out = Postgres(tmp_path / "database"), tmp_path / "out"
    server = Server(database.uri, tmp_path / "artifacts")
    tasks = [{"data": "digits", "budget": 600, "n_samples": 100, "width": 16}]
    study = tiny_study(tasks=tasks, search={"trials": N_TRIALS, "seed": 1, "sampler": "random"})
    command = [sys.executable, "-m", "metaopt.cli.main", "search", write_study(tmp_path, study), "--out", out]
    environment = os.environ | {"MLFLOW_TRACKING_URI": server.uri}
    log = tmp_path / "log"
    try:
        database.start()
        server.start()
        with log.open("w") as said, subprocess.Popen(command, env=environment, stdout=said, stderr=said) as search:
            for act in (database.kill, database.start):
                enough = min(n_ended(out) + 2, N_TRIALS)
                wait_until(search, log.read_text, lambda enough=enough: n_ended(out) >= enough)
                act()
            assert search.wait(900) == 0, log.read_text()
        assert "Deliver them with" not in log.read_text()
        rows = check_whole(out, "tiny", N_TRIALS, n_points=21, store=database.uri)
        assert {row.verdict.status for row in rows if row.verdict} == {"finished"}
    finally:
        server.kill()
        database.kill()
