"""A study so small that a trial takes a fraction of a second, and the command line in a process of its own."""

import csv
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

COMMANDS = (
    *("search", "simulate", "submit", "status", "logs", "stop", "resume", "train", "adapt", "evaluate"),
    *("compare", "report", "export", "show", "data", "sync", "doctor", "ui"),
)


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


def tiny_initialisation(**changes: Any) -> dict[str, Any]:
    """A study of starts whose trials take a fraction of a second: digits, 4 outer iterations."""
    study: dict[str, Any] = {
        "kind": "initialisation",
        "name": "tiny_init",
        "episodes": {
            "size": 8,
            "shots": 5,
            "query": 10,
            "batch": 4,
            "train": [{"data": "digits", "classes": "0-6"}],
            "validation": [{"data": "digits", "classes": [7, 8]}],
        },
        "networks": {"width": 8, "z_dim": 4},
        "learning": {"iterations": 4, "meta_batch": 2, "adapt_steps": 5, "n_samples": 30},
        "inner": {
            "steps": {"low": 2, "high": 4},
            "ranges": {
                "lr_g": {"low": 1e-3, "high": 0.3},
                "lr_d": {"low": 1e-3, "high": 0.3},
                "update_ratio": 1,
            },
        },
        "reference": {
            "algorithm": "joint",
            "outer_lr": 1e-3,
            "adam_lr": 3e-3,
            "inner_steps": 2,
            "lr_g": 1e-3,
            "lr_d": 1e-3,
            "update_ratio": 1,
        },
        "evaluations": 2,
        "search": {"trials": 4, "seed": 1, "sampler": "random"},
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
