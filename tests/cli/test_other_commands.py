"""The commands around search and train, and what the README shows."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from commands import invoke, search_without_ray
from studies import COMMANDS, metaopt, tiny_study, write_study

from metaopt.schedules import ScheduleArtifact, save_schedule
from metaopt.search.study import load_study

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_examples(command: str) -> None:
    shown = invoke(command, "--help")
    assert shown.returncode == 0
    assert "Example" in shown.stdout
    assert f"metaopt {command}" in shown.stdout


def test_help_lists_all_commands() -> None:
    shown = metaopt("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^\W+{command}\s", shown, re.MULTILINE)


def test_doctor_checks_what_a_search_needs() -> None:
    done = metaopt("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BAD" not in done.stdout
    for sign in ("torch ", "CPU cores", "a local Ray started", "SQLite store and came back", "GB free"):
        assert sign in done.stdout


def test_readme_loop_follows_the_file(tmp_path: Path) -> None:
    params = {"lr_g": 2e-3, "lr_d": 1e-3, "update_ratio": 1.5, "power": 1.0}
    save_schedule(ScheduleArtifact(family="power_decay", params=params), tmp_path / "best_schedule.json")
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "controller" in block
    )
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    ending = (
        "import json; print(json.dumps([controller.d_updates, controller.g_updates, opt_g.param_groups[0]['lr'], "
        "controller.iteration, generator(torch.randn(500, 8)).mean().item()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import torch; torch.manual_seed(0)\n{code}\n{ending}"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    d_updates, g_updates, lr_g, iteration, mean = json.loads(done.stdout)
    assert iteration == pytest.approx(500, abs=0.5)
    assert d_updates / g_updates == pytest.approx(1.5, rel=0.01)
    assert lr_g == pytest.approx(0.0, abs=1e-5)
    assert mean == pytest.approx(1.0, abs=0.3)


def test_readme_study_can_be_read(tmp_path: Path) -> None:
    text = next(block for block in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.S) if "faces" in block)
    path = tmp_path / "faces.yaml"
    path.write_text(text)
    assert load_study(str(path)).name == "faces"


def test_ui_serves_the_store_of_a_study_on_loopback(tmp_path: Path) -> None:
    study = write_study(tmp_path, tiny_study(search={"trials": 2, "sampler": "random"}))
    assert search_without_ray(study, "--out", tmp_path / "out").returncode == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "metaopt.cli.main",
        "ui",
        "--study",
        str(tmp_path / "out"),
        "--port",
        str(port),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as server:
        try:
            body = json.dumps({"max_results": 10}).encode()
            url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search"
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            names: list[str] = []
            deadline = time.monotonic() + 600
            while not names and time.monotonic() < deadline and server.poll() is None:
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        names = [item["name"] for item in json.load(answer)["experiments"]]
                except (urllib.error.URLError, ConnectionError, TimeoutError):
                    time.sleep(0.5)
            assert "tiny" in names
        finally:
            os.killpg(server.pid, signal.SIGINT)  # what Ctrl-C does in a terminal
            server.wait(300)
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(request, timeout=5)


def test_unknown_study_is_named(tmp_path: Path) -> None:
    for arguments in (["ui", "--study", "nothing"], ["export", "--study", "nothing", "--out", "x.json"]):
        refused = invoke(*arguments, cwd=tmp_path)
        assert refused.returncode == 2
        assert "runs/nothing must be the folder of a study" in refused.stderr
