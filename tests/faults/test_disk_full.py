"""A search on a disk that fills up stops cleanly, and goes on once there is room."""

import subprocess
import sys
from pathlib import Path

import pytest
from search_checks import check_whole
from studies import tiny_study, write_study

N_TRIALS = 8

SCRIPT = """
set -u
mount -t tmpfs -o size={size} tmpfs {disk}
{python} -m metaopt.cli.main search {study} --out {disk}/out > {log}/full.txt 2>&1
echo $? > {log}/full.code
mount -o remount,size=100M {disk}
{python} -m metaopt.cli.main search {study} --out {disk}/out --resume > {log}/resumed.txt 2>&1
echo $? > {log}/resumed.code
cp -r {disk}/out {log}/out
"""


@pytest.mark.parametrize("size", ["600k", "1200k"])  # before the tracking store fits; after some trials
def test_full_disk_stops_cleanly_and_resumes(tmp_path: Path, size: str) -> None:
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    log.mkdir()
    study = write_study(tmp_path, tiny_study(search={"trials": N_TRIALS, "seed": 1, "sampler": "random"}))
    script = SCRIPT.format(size=size, disk=disk, log=log, study=study, python=sys.executable)
    # a mount namespace of its own: needs no privileges, and the disk is gone with the process
    subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", script], check=True, timeout=1000)
    said = (log / "full.txt").read_text()
    assert (log / "full.code").read_text().strip() == "1", said
    assert "Traceback" not in said
    assert "No space left on device" in said
    assert "--resume" in said
    assert (log / "resumed.code").read_text().strip() == "0", (log / "resumed.txt").read_text()
    check_whole(log / "out", "tiny", N_TRIALS, n_points=21)
