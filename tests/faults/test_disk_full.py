"""A search on a disk that fills up stops cleanly, and goes on once there is room."""

import subprocess
import sys
from pathlib import Path

import pytest
from populations import population_study
from search_checks import check_whole
from studies import tiny_study, write_study

from metaopt.search.folder import claim, manifest_of
from metaopt.search.problems import images
from metaopt.search.study import load_study

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


ONE_FOLDER = """
set -u
mkdir {out}/{part}
mount -t tmpfs -o size=8k tmpfs {out}/{part}
{search} --resume > {log}/full.txt 2>&1
echo $? > {log}/full.code
cp -r {out}/{part} {log}/after
umount {out}/{part}
cp -r {log}/after/. {out}/{part}
{search} --resume > {log}/resumed.txt 2>&1
echo $? > {log}/resumed.code
"""


@pytest.mark.parametrize(("part", "population"), [("spool", False), ("population", True)])
def test_a_full_disk_under_the_spool_or_the_checkpoints_alone(tmp_path: Path, part: str, population: bool) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    log.mkdir()
    plain = tiny_study(search={"trials": N_TRIALS, "seed": 1, "sampler": "random"})
    study = write_study(tmp_path, population_study(trials=N_TRIALS, name="tiny") if population else plain)
    begun = load_study(str(study))
    claim(out, manifest_of(begun, [images(task).identity for task in begun.tasks]), resume=False)
    search = f"{sys.executable} -m metaopt.cli.main search {study} --out {out}"
    script = ONE_FOLDER.format(search=search, out=out, log=log, part=part)
    subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", script], check=True, timeout=1000)
    said = (log / "full.txt").read_text()
    assert (log / "full.code").read_text().strip() == "1", said
    assert "Traceback" not in said
    assert "could not be written: No space left on device." in said
    assert (log / "resumed.code").read_text().strip() == "0", (log / "resumed.txt").read_text()
    check_whole(out, "tiny", N_TRIALS, n_points=31 if population else 21)


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
