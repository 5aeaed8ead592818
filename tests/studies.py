"""A study so small that a trial takes a fraction of a second, and the command line in a process of its own."""

import csv
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def tiny_study(**changes: Any) -> dict[str, Any]:
    """A study of trials of about 0.2 s: digits, 60 iterations."""
    study: dict[str, Any] = {
        "name": "tiny",
        "tasks": [{"data": "digits", "budget": 60, "n_samples": 100, "width": 16}],
        "evaluations": 2,
        "schedule": {"family": "power_decay"},
        "search": {"trials": 6, "seed": 1, "sampler": "random"},
    }
    return study | changes


def write_study(folder: Path, content: Mapping[str, Any], name: str = "study.yaml") -> Path:
    """Save a study as YAML."""
    path = folder / name
    path.write_text(yaml.safe_dump(dict(content)), encoding="utf-8")
    return path


def metaopt(*arguments: object, timeout_s: float = 1000, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "metaopt.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, **options)


def read_csv(file: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
