"""Where a study is kept cannot be written, or goes away: a message and no traceback, and nothing of it is broken."""

import os
import subprocess
import sys
from pathlib import Path

from search_checks import check_whole, n_ended, wait_until
from studies import metaopt, tiny_study, write_study

N_TRIALS = 8

READ_ONLY = """
set -u
mount -t tmpfs -o size=100M tmpfs {disk}
mount -o remount,ro {disk}
{search} > {log}/before.txt 2>&1
echo $? > {log}/before.code
mount -o remount,rw {disk}
{search} --set search.trials=2 > {log}/written.txt 2>&1
echo $? > {log}/written.code
mount -o remount,ro {disk}
{search} --resume > {log}/again.txt 2>&1
echo $? > {log}/again.code
mount -o remount,rw {disk}
{search} --resume > {log}/resumed.txt 2>&1
echo $? > {log}/resumed.code
cp -r {disk}/out {log}/out
"""


def _study(folder: Path, budget: int = 60) -> Path:
    tasks = [{"data": "digits", "budget": budget, "n_samples": 100, "width": 16}]
    return write_study(folder, tiny_study(tasks=tasks, search={"trials": N_TRIALS, "seed": 1, "sampler": "random"}))


def test_a_file_system_that_is_read_only_for_a_while(tmp_path: Path) -> None:
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    log.mkdir()
    search = f"{sys.executable} -m metaopt.cli.main search {_study(tmp_path)} --out {disk}/out"
    script = READ_ONLY.format(disk=disk, log=log, search=search)
    # a mount namespace of its own: needs no privileges, and the disk is gone with the process
    subprocess.run(["unshare", "--map-root-user", "--mount", "bash", "-c", script], check=True, timeout=1000)
    for moment, code in (("before", "1"), ("written", "0"), ("again", "1"), ("resumed", "0")):
        said = (log / f"{moment}.txt").read_text()
        assert (log / f"{moment}.code").read_text().strip() == code, said
        assert "Traceback" not in said
        assert ("Read-only file system" in said) == (code == "1"), said
    check_whole(log / "out", "tiny", N_TRIALS, n_points=21)


def test_a_folder_that_is_moved_away_and_back(tmp_path: Path) -> None:
    out, away, log = tmp_path / "out", tmp_path / "away", tmp_path / "log"
    study = _study(tmp_path, 2000)
    command = [sys.executable, "-m", "metaopt.cli.main", "search", study, "--out", out]
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as search:
        wait_until(search, log.read_text, lambda: n_ended(out) > 0)
        out.rename(away)
        assert search.wait(600) == 1, log.read_text()
    assert "Traceback" not in log.read_text()
    assert f"{out} has gone while it was written: put it back. Finished trials are kept." in log.read_text()
    if out.exists():
        assert not list(out.rglob("*.journal"))
        out.rename(tmp_path / "rest")
    away.rename(out)
    done = metaopt("search", study, "--out", out, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    check_whole(out, "tiny", N_TRIALS, n_points=21)


GROWN = """
import resource, sys
from pathlib import Path
from sessions import work
from metaopt.errors import StorageError
from metaopt.search.search import opened
from metaopt.search.study import load_study
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # Ray's own files would be larger: it is left out
try:
    with opened(load_study(sys.argv[1]), Path(sys.argv[2]), resume=False) as search:
        for k in range(100):
            work(search.session, str(k), search.session.next_job(str(k)))
except StorageError as error:
    print(error)
"""


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    out, study = tmp_path / "out", _study(tmp_path)
    paths = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", GROWN, study, out]
    full = subprocess.run(command, env=paths, capture_output=True, text=True, timeout=600, check=False)
    assert full.returncode == 0, full.stderr
    assert full.stdout == f"{out} could not be written: File too large.\n"
    done = metaopt("search", study, "--out", out, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    check_whole(out, "tiny", N_TRIALS, n_points=21)
