"""Searches on a cluster of real processes: from here, and as jobs: submitted, watched, stopped, taken up again."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clusters import LocalCluster, local_cluster
from commands import invoke
from search_checks import check_whole
from sklearn.datasets import load_digits
from studies import metaopt, tiny_study, write_study

from metaopt.search.optuna_space import TrialRow, read_rows

AT_ONCE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from metaopt.search.package import pack
from metaopt.search.submit import submit
from metaopt.search.submitted import Submitted, fresh_folder, keep

address, study, out = sys.argv[1:]
together = Barrier(4)

def one(package):
    together.wait()
    search, new = submit(address, package.folder, package.study, out, {})
    kept = Submitted(
        study=package.study, address=address, folder=out, source=study, overrides=(), leave_out=None
    )
    together.wait()
    keep(kept, package.folder)
    return search.job, new

with ExitStack() as folders, ThreadPoolExecutor(4) as pool:
    packages = [pack(study, [], None, folders.enter_context(fresh_folder())) for _ in range(4)]
    for job, new in pool.map(one, packages):
        print(job, new)
"""
NETWORKS = Path(__file__).parents[1] / "gan" / "my_networks.py"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("home"), nodes=2) as started:
        yield started


def _client(cluster: LocalCluster, cache: Path) -> dict[str, str]:
    return cluster.client | {"METAOPT_CACHE": str(cache)}


def test_search_runs_on_the_cluster_at_ray_address_and_leaves_it_running(cluster: LocalCluster, tmp_path: Path) -> None:
    done = metaopt("search", write_study(tmp_path, tiny_study()), "--out", tmp_path / "out", env=cluster.client)
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.process.poll() is None
    check_whole(tmp_path / "out", "tiny", 6, n_points=21)


def test_what_the_study_names_goes_with_it(cluster: LocalCluster, tmp_path: Path) -> None:
    here, environment = tmp_path / "here", _client(cluster, tmp_path / "cache")
    here.mkdir()
    np.savez(here / "mine.npz", x=(load_digits().images[:300, None] * 15).astype(np.uint8))
    (here / ".env").write_text("PASSWORD=secret\n")
    study = tiny_study(
        name="sent",
        tasks=[
            {"data": "npz:mine.npz", "budget": 60, "n_samples": 100, "width": 16},
            {"data": "digits", "budget": 60, "n_samples": 100, "network": "own_networks:make_pair"},
        ],
        search={"trials": 4, "seed": 1, "sampler": "random"},
    )
    write_study(here, study)
    shutil.copy(NETWORKS, here / "own_networks.py")
    environment["PYTHONPATH"] = str(here)
    done = metaopt("submit", "study.yaml", "--out", tmp_path / "out", "--allow-import", cwd=here, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = check_whole(tmp_path / "out", "sent", 4, n_points=42)
    assert {row.verdict.status for row in rows if row.verdict} == {"finished"}
    assert f"Search on:                           metaopt submit study.yaml --address {cluster.dashboard}" in re.sub(
        r"\S*python\S* -m \S+", "metaopt", done.stdout
    )
    sent = sorted(file.name for file in (tmp_path / "cache" / "jobs" / "sent" / "package").rglob("*") if file.is_file())
    assert [re.sub("^[0-9a-f]{16}-", "", name) for name in sent] == ["mine.npz", "own_networks.py", "study.yaml"]
    said = metaopt("status", "sent", env=environment)
    assert re.search(r"sent +SUCCEEDED", said.stdout)
    assert "Use the schedule" in said.stdout.splitlines()[-1]
    assert "Leaderboard" in metaopt("logs", "sent", env=environment).stdout


def test_a_stopped_search_is_taken_up_where_it_was(cluster: LocalCluster, tmp_path: Path) -> None:
    out, environment = tmp_path / "out", _client(cluster, tmp_path / "cache")
    tasks = [{"data": "digits", "budget": 5000, "n_samples": 100, "width": 16}]
    study = write_study(tmp_path, tiny_study(name="long", tasks=tasks))
    submitted = metaopt("submit", study, "--out", out, "--detach", env=environment)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    while not (out / "study.json").exists():
        time.sleep(0.2)
    shutil.rmtree(tmp_path / "cache" / "jobs")  # as of another machine
    again = metaopt("submit", study, "--out", out, "--detach", env=environment)
    assert again.returncode == 0, again.stderr
    assert "long is RUNNING there already, as metaopt-long-1." in again.stdout
    more = ("--set", "search.trials=9")
    other = metaopt("submit", study, "--out", out, *more, "--detach", env=environment)
    assert other.returncode == 2
    assert "Study 'long' is RUNNING there as metaopt-long-1, with" in other.stderr
    assert "with other settings, another folder or another tracking store" in other.stderr
    assert [folder.name for folder in (tmp_path / "cache" / "jobs").iterdir()] == ["long"]
    store = environment | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    assert metaopt("submit", study, "--out", out, "--detach", env=store).returncode == 2
    secret = environment | {"MLFLOW_TRACKING_URI": "http://me:hunter2@127.0.0.1:9"}
    refused = metaopt("submit", study, "--out", out, "--detach", env=secret)
    assert refused.returncode == 2 and "must hold no password where a study is submitted" in refused.stderr
    assert "hunter2" not in refused.stdout + refused.stderr
    while not any(row.verdict for row in _rows(out, "long")):
        time.sleep(0.2)
    attached = subprocess.Popen(
        [sys.executable, "-m", "metaopt.cli.main", "submit", study, "--out", out],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert attached.stdout and "there already" in attached.stdout.readline()
    assert any("a trial takes 1 CPU" in line for line in attached.stdout), "it shows what the search has printed"
    attached.send_signal(signal.SIGINT)
    _, left = attached.communicate(timeout=300)
    assert attached.returncode == 130 and "It goes on. See it with: metaopt logs -f long" in left
    stopped = metaopt("stop", "long", env=environment)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "long is STOPPED. Finished trials are kept." in stopped.stdout
    assert "Stopped. Finished trials are kept." in metaopt("logs", "long", env=environment).stdout
    before = {row.number: row.verdict for row in _rows(out, "long") if row.verdict}
    assert 0 < len(before) < 6
    resumed = metaopt("resume", "long", env=environment)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "search ended after" in resumed.stdout
    assert "search ended after" in metaopt("logs", "-f", "long", env=environment).stdout
    after = {row.number: row.verdict for row in check_whole(out, "long", 6, n_points=21)}
    assert {number: after[number] for number in before} == before
    assert "long is SUCCEEDED already." in metaopt("stop", "long", env=environment).stdout
    longer = metaopt("submit", study, "--out", out, "--set", "search.trials=8", env=environment)
    assert longer.returncode == 0, longer.stdout + longer.stderr
    further = {row.number: row.verdict for row in check_whole(out, "long", 8, n_points=21)}
    assert {number: further[number] for number in after} == after


def test_of_those_who_submit_at_once_one_starts_it(cluster: LocalCluster, tmp_path: Path) -> None:
    out, environment = tmp_path / "out", _client(cluster, tmp_path / "cache")
    study = write_study(tmp_path, tiny_study(name="rush"))
    command = [sys.executable, "-c", AT_ONCE, cluster.dashboard, study, out]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", *["metaopt-rush-1 False"] * 3, "metaopt-rush-1 True"]
    again = metaopt("logs", "-f", "rush", env=environment)
    assert "search ended after" in again.stdout
    check_whole(out, "rush", 6, n_points=21)


def _rows(out: Path, name: str) -> list[TrialRow]:
    return list(read_rows(out, name)) if (out / "study.json").exists() else []


def test_a_search_that_fails_says_so(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("years of work")
    study = write_study(tmp_path, tiny_study(name="failing"))
    done = metaopt("submit", study, "--out", tmp_path / "taken", env=_client(cluster, tmp_path / "cache"))
    assert done.returncode == 1
    assert "taken is not empty and holds no study; choose another --out." in done.stdout
    assert "The search has ended as FAILED: Job entrypoint command failed with exit code 2" in done.stderr


def test_whom_the_cluster_does_not_let_in(cluster: LocalCluster, tmp_path: Path) -> None:
    study = write_study(tmp_path, tiny_study())
    for change in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "0" * 64}):
        refused = metaopt("submit", study, env=_client(cluster, tmp_path / "cache") | change)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "must let this client in, but does not: set RAY_AUTH_MODE=token" in refused.stderr


def test_the_address_that_is_given_counts(cluster: LocalCluster, tmp_path: Path) -> None:
    environment = _client(cluster, tmp_path / "cache")
    elsewhere = metaopt("status", "--address", "http://127.0.0.2:9", env=environment)
    assert elsewhere.returncode == 2
    assert "http://127.0.0.2:9 must answer as the dashboard of a Ray cluster, but does not" in elsewhere.stderr
    relative = invoke("submit", write_study(tmp_path, tiny_study()), "--out", "runs/x", env=environment)
    assert relative.returncode == 2
    assert "--out must be an absolute path on the head, or begin with ~, but got 'runs/x'." in relative.stderr
    no_url = metaopt("status", "--address", cluster.address, env=environment)
    assert no_url.returncode == 2
    assert "must be that of the head's dashboard, http://HEAD:8265, but got" in no_url.stderr
    without = {name: value for name, value in environment.items() if name != "RAY_API_SERVER_ADDRESS"}
    nowhere = metaopt("logs", "unknown", env=without)
    assert nowhere.returncode == 2
    assert "must say where the head's dashboard is, as 'unknown' was not submitted from here." in nowhere.stderr
    unknown = invoke("resume", "unknown", env=environment)
    assert unknown.returncode == 2
    assert "Study 'unknown' was not submitted from here" in unknown.stderr
    no_name = invoke("logs", "../x", env=environment)
    assert no_name.returncode == 2
    assert "The name of a study must match" in no_name.stderr
