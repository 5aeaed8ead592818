"""The SLURM script, run with stand-ins for what a machine without SLURM lacks."""

import os
import shutil
import subprocess
from pathlib import Path

import click
from cluster_files import CLUSTER
from ray.scripts.symmetric_run import curate_and_validate_ray_start_args

_STAND_INS = {
    "scontrol": 'echo "scontrol $*" >> "$CALLS"; printf "node1\\nnode2\\n"',
    "srun": 'echo "srun $*" >> "$CALLS"; while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "hostname": 'echo "10.1.2.3 172.17.0.1 "',
    "ray": 'echo "ray $*" >> "$CALLS"; echo "mode $RAY_AUTH_MODE" >> "$CALLS"; '
    'stat -c "token %a %s" "$RAY_AUTH_TOKEN_PATH" >> "$CALLS"; exit "${RAY_EXIT:-0}"',
}


def _submit(folder: Path, *arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    for name, body in _STAND_INS.items():
        stand_in = folder / "bin" / name
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text(f"#!/usr/bin/env bash\n{body}\n")
        stand_in.chmod(0o755)
    (folder / "cluster").mkdir(exist_ok=True)
    shutil.copy(CLUSTER / "activate.sh", folder / "cluster")
    activate = folder / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True, exist_ok=True)
    activate.write_text(f'export PATH="{folder}/bin:$PATH"\n')
    slurm = {
        "SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "8", "CALLS": str(folder / "calls"),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", CLUSTER / "slurm" / "metaopt.sbatch", *arguments],
        env=os.environ | slurm | environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    calls = folder / "calls"
    return done, calls.read_text().splitlines() if calls.exists() else []


def test_script_starts_one_ray_over_all_nodes_with_a_token_of_its_own(tmp_path: Path) -> None:
    done, calls = _submit(tmp_path, "my study.yaml", "runs/x")
    assert done.returncode == 0, done.stderr
    assert calls == [
        "scontrol show hostnames node[1-2]",
        "srun --nodes=1 --ntasks=1 --nodelist=node1 hostname -I",
        "srun --kill-on-bad-exit=1 " + calls[3],
        "ray symmetric-run --address 10.1.2.3:6379 --min-nodes 2 --num-cpus=8 -- "
        "env RAY_ADDRESS=10.1.2.3:6379 metaopt search my study.yaml --out runs/x --resume",
        "mode token",
        "token 600 64",
    ]
    assert not list(tmp_path.glob(".ray_token*"))


def test_script_passes_on_a_failure_and_removes_the_token(tmp_path: Path) -> None:
    done, calls = _submit(tmp_path, "s.yaml", "out", RAY_EXIT="3")
    assert done.returncode == 3
    assert calls[-1] == "token 600 64"
    assert not list(tmp_path.glob(".ray_token*"))


def test_script_says_what_it_needs(tmp_path: Path) -> None:
    done, calls = _submit(tmp_path, "s.yaml")
    assert done.returncode != 0
    assert "sbatch cluster/slurm/metaopt.sbatch STUDY OUT" in done.stderr
    assert calls == []


def test_options_are_those_of_symmetric_run_and_ray_start(tmp_path: Path) -> None:
    _, calls = _submit(tmp_path, "s.yaml", "out")
    words = calls[3].split()
    passed_on = curate_and_validate_ray_start_args(words[2 : words.index("--")])
    assert passed_on == ["--num-cpus=8"]  # `ray start` refuses options of the head, such as the dashboard's, elsewhere
    from ray.scripts.scripts import start

    start.make_context("ray start", passed_on, resilient_parsing=True)
    assert {option.split("=")[0] for option in passed_on} <= {
        name for option in start.params if isinstance(option, click.Option) for name in option.opts
    }
