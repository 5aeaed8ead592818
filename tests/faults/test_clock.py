"""The clock of the machine jumps back and forth by hours while trials run: it dates things, and decides nothing."""

import importlib.util
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from search_checks import check_whole, n_ended, wait_until
from sqlalchemy import create_engine, text
from studies import tiny_study, write_study

N_TRIALS = 8
_NOT_THE_LAST = """select l.run_uuid, l.key from latest_metrics l join metrics m
                   on m.run_uuid = l.run_uuid and m.key = l.key where m.step > l.step"""


def _jumping(file: Path) -> dict[str, str]:
    """What makes the clock of a process, and of all that it starts, the one in a file; not what measures durations."""
    found = importlib.util.find_spec("libfaketime")
    assert found and found.origin, "what sets the clock must be there: pip install libfaketime"
    library = Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    settings = {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return settings | {"LD_PRELOAD": str(library), "FAKETIME_FORCE_MONOTONIC_FIX": "0"}


def test_a_clock_that_jumps_doubles_and_stops_nothing(tmp_path: Path) -> None:
    out, clock, log = tmp_path / "out", tmp_path / "clock", tmp_path / "log"
    tasks = [{"data": "digits", "budget": 600, "n_samples": 100, "width": 16}]
    search = {"trials": N_TRIALS, "seed": 1, "sampler": "random", "workers": 2}
    # as long as a jump: by the wall clock it would be over at once, or never
    search |= {"time_budget_s": 3000.0, "evaluation_limit_s": 1000.0}
    study = write_study(tmp_path, tiny_study(tasks=tasks, search=search))
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out]
    clock.write_text("+0")
    environment = os.environ | _jumping(clock)
    with log.open("w") as said, subprocess.Popen(command, env=environment, stdout=said, stderr=said) as process:
        for enough, jump in ((1, "-7200"), (3, "+7200"), (5, "-3600")):
            wait_until(process, log.read_text, lambda enough=enough: n_ended(out) >= enough)
            clock.write_text(jump)
        assert process.wait(600) == 0, log.read_text()
    rows = check_whole(out, "tiny", N_TRIALS, n_points=21)
    assert {row.verdict.status for row in rows if row.verdict} == {"finished"}
    assert "time budget" not in log.read_text()
    ended = [row.ended for row in rows if row.ended]
    assert max(ended) - min(ended) > timedelta(hours=1), "the clock did not jump"
    with create_engine(f"sqlite:///{out / 'mlflow.db'}").connect() as store:
        assert store.execute(text(_NOT_THE_LAST)).fetchall() == []
