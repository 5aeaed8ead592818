"""Who may import whom: rooms import lower rooms only, and each heavy package has one home (docs/design.md)."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaopt.schedules import ScheduleArtifact, save_schedule

REPOSITORY = Path(__file__).parents[1]
LEVELS = {
    "errors": 0,
    "cache": 0,
    "whole_file": 0.5,
    "user_code": 1,
    "schedules": 1,
    "gan": 2,
    "metrics": 2,
    "integrations": 2,
    "training": 3,
    "meta": 4,
    "tracking": 4,
    "search": 5,
    "analysis": 5,
    "cli": 6,
}
ROOT = "metaopt"
FROM_ROOT = ("", "__version__")  # `import metaopt`, `from metaopt import __version__`
HOMES = {
    "ray": (
        "metaopt/search/ray_runner.py",
        "metaopt/search/ray_handing.py",
        "metaopt/search/ray_room.py",
        "metaopt/search/ray_trial.py",
        "metaopt/search/ray_grid.py",
        "metaopt/search/ray_memory.py",
        "metaopt/search/ray_start.py",
        "metaopt/search/submit.py",
        "metaopt/cli/doctor.py",
    ),
    "optuna": (
        "metaopt/search/optuna_space.py",
        "metaopt/search/importances.py",
        "metaopt/search/cmaes_sampler.py",
        "metaopt/search/es_sampler.py",
        "metaopt/search/samplers.py",
        "metaopt/search/journal.py",
        "metaopt/search/tpe.py",
    ),
    "mlflow": ("metaopt/tracking/",),
}
PURE = ("errors", "cache", "whole_file", "user_code", "schedules", ROOT)  # standard library only


def violations(repository: Path) -> list[str]:
    """Every import that breaks a rule, as ``file:line: why``."""
    files = sorted([*(repository / "metaopt").rglob("*.py"), *(repository / "analysis").rglob("*.py")])
    found = []
    for path in files:
        name = path.relative_to(repository).as_posix()
        for line, module in imports(path, package_of(name)):
            why = complaint(name, module)
            if why:
                found.append(f"{name}:{line}: {why}")
    return found


def complaint(file: str, module: str) -> str | None:
    """What is wrong with `file` importing `module`; None if nothing is."""
    room, package = room_of(file), module.partition(".")[0]
    if package in HOMES and not file.startswith(HOMES[package]):
        return f"{package} may be imported in {', '.join(HOMES[package])} only"
    if package != ROOT:
        outside = room in PURE and package not in sys.stdlib_module_names
        return f"{room} may import the standard library only, not {package}" if outside else None
    other = module.removeprefix(ROOT).removeprefix(".").partition(".")[0]
    if other in FROM_ROOT or other == room:
        return None
    if other not in LEVELS:
        return f"{module} is no room"
    if room == ROOT or LEVELS[other] >= LEVELS[room]:
        return f"{room} may not import {other}"
    return None


def room_of(file: str) -> str:
    """``metaopt/gan/tasks.py`` -> gan, ``analysis/runs.py`` -> analysis, ``metaopt/__init__.py`` -> metaopt."""
    parts = Path(file).with_suffix("").parts
    room = parts[0] if parts[0] != ROOT else parts[1]
    return ROOT if room == "__init__" else room


def package_of(file: str) -> str:
    """What a relative import in `file` starts from."""
    parts = Path(file).parts[:-1]
    return ".".join(parts if parts[0] == ROOT else (ROOT, *parts))


def imports(path: Path, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of all that a file imports anywhere, less what it imports for a type checker alone."""
    for node in run_time_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                start = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*start, base] if base else start)
            yield from ((node.lineno, f"{base}.{a.name}" if base == ROOT else base) for a in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            named = node.args[0] if node.args else None
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                yield node.lineno, named.value


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, without the bodies of ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from run_time_nodes(other)
            continue
        yield child
        yield from run_time_nodes(child)


def test_no_import_goes_up_or_leaves_its_home() -> None:
    assert violations(REPOSITORY) == []


def test_every_room_has_a_level_and_every_level_a_room() -> None:
    rooms = {path.name for path in (REPOSITORY / "metaopt").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert rooms | {"errors", "cache", "whole_file", "user_code", "analysis"} == set(LEVELS)


def test_every_home_exists_and_uses_its_package() -> None:
    """Else a rule would go on forbidding what has moved."""
    for package, homes in HOMES.items():
        for home in homes:
            path = REPOSITORY / home
            files = [path] if path.is_file() else list(path.rglob("*.py"))
            named = {module.partition(".")[0] for file in files for _, module in imports(file, ROOT)}
            assert package in named


@pytest.mark.parametrize(
    ("file", "line", "why"),
    [
        ("metaopt/training/training.py", "import ray", "ray may be imported in metaopt/search/ray_runner.py, "),
        ("metaopt/training/training.py", "def f():\n    from ray import tune", "ray may be imported in "),
        ("metaopt/training/training.py", "import torch, ray.tune as tune", "ray may be imported in "),
        ("metaopt/training/cohort.py", "try:\n    pass\nexcept ImportError:\n    import ray", "ray may be "),
        ("metaopt/search/session.py", "import optuna", "optuna may be imported in metaopt/search/optuna_space.py, "),
        ("metaopt/search/session.py", "from mlflow import MlflowClient", "mlflow may be imported in metaopt/tracking/"),
        (
            "metaopt/cli/ui.py",
            "import importlib\nimportlib.import_module('mlflow.server')",
            "mlflow may be imported in",
        ),
        ("analysis/runs.py", "__import__('mlflow')", "mlflow may be imported in metaopt/tracking/ only"),
        ("metaopt/gan/tasks.py", "from metaopt.metrics import Moments", "gan may not import metrics"),
        ("metaopt/metrics/frechet.py", "import metaopt.gan", "metrics may not import gan"),
        ("metaopt/training/health.py", "from metaopt.search.session import Session", "training may not import search"),
        ("metaopt/training/health.py", "from ..search import session", "training may not import search"),
        ("metaopt/training/health.py", "from .. import meta", "training may not import meta"),
        ("metaopt/meta/objective.py", "from metaopt import tracking", "meta may not import tracking"),
        ("metaopt/meta/objective.py", "from metaopt import train", "metaopt.train is no room"),
        ("metaopt/search/study.py", "from metaopt.analysis import runs", "search may not import analysis"),
        ("analysis/runs.py", "from metaopt.cli import main", "analysis may not import cli"),
        ("metaopt/schedules/curves.py", "import numpy as np", "schedules may import the standard library only, not nu"),
        ("metaopt/schedules/types.py", "from torch import Tensor", "schedules may import the standard library only"),
        ("metaopt/schedules/types.py", "from metaopt.gan import Task", "schedules may not import gan"),
        ("metaopt/errors.py", "from metaopt.schedules import Controls", "errors may not import schedules"),
        ("metaopt/__init__.py", "from metaopt.schedules import Controls", "metaopt may not import schedules"),
        ("metaopt/__init__.py", "import numpy", "metaopt may import the standard library only, not numpy"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, file: str, line: str, why: str) -> None:
    planted = plant(tmp_path, file, line)
    (found,) = violations(tmp_path)
    assert found.startswith(f"{file}:{planted + line.count(chr(10))}: {why}")


@pytest.mark.parametrize(
    "line",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ray",
        "import typing\nif typing.TYPE_CHECKING:\n    from metaopt.search.session import Session",
        "# import ray",
        "text = 'import ray'",
        "from metaopt import __version__",
        "import metaopt",
        "from . import records",
        "from metaopt.integrations.torch import ScheduleController",
        "import rays_of_light",
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path: Path, line: str) -> None:
    plant(tmp_path, "metaopt/training/training.py", line)
    assert violations(tmp_path) == []


def plant(folder: Path, file: str, line: str) -> int:
    """Copy a file's room to `folder` and add `line` to its end there; returns the number of the line's first row."""
    path = folder / file
    shutil.copytree((REPOSITORY / file).parent, path.parent, ignore=_folders)
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}\n{line}\n", encoding="utf-8")
    return before.count("\n") + 2


def _folders(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_dir()]


_BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Block(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is not installed here")

sys.meta_path.insert(0, Block())
for name in {blocked!r}:
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{{name}} is not blocked")
"""

_TRAINING = """
import math
import torch
torch.set_num_threads(1)
import metaopt.schedules, metaopt.gan, metaopt.metrics, metaopt.training, metaopt.meta, metaopt.integrations.torch
from metaopt.gan import task_from_spec
from metaopt.meta import curve, outcome, score
from metaopt.schedules import named_schedule
from metaopt.training import train
task = task_from_spec("digits", budget=20, evaluations=1, n_samples=100)
*_, last = train(task, named_schedule("gap_aware").build(), seed=0)
assert math.isfinite(last.fid), last
print(last.outcome, last.progress)
"""

_SCHEDULE = """
from metaopt.schedules import Signals, load_schedule
schedule = load_schedule(sys.argv[1])
state, controls = schedule.step(schedule.init(), Signals(progress=0.5))
print(controls.lr_g, controls.lr_d, controls.update_ratio)
outside = {m.partition(".")[0] for m in sys.modules} - sys.stdlib_module_names - {"metaopt", "__main__", "__mp_main__"}
assert not {"numpy", "scipy", "yaml", "pydantic", "torch"} & outside, outside
"""


def run(code: str, blocked: tuple[str, ...], *arguments: str) -> str:
    """Output of a fresh process in which the `blocked` packages are not installed."""
    command = [sys.executable, "-c", _BLOCKED.format(blocked=blocked) + code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1000)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_training_runs_where_only_pytorch_is() -> None:
    assert run(_TRAINING, ("ray", "optuna", "mlflow")) == "finished 1.0"


def test_a_schedule_file_is_followed_where_not_even_pytorch_is(tmp_path: Path) -> None:
    params = {"lr_g": 0.25, "lr_d": 0.5, "update_ratio": 2.0, "power": 1.0}
    path = save_schedule(ScheduleArtifact(family="power_decay", params=params), tmp_path / "s.json")
    blocked = ("ray", "optuna", "mlflow", "torch", "numpy", "pandas", "pydantic", "yaml")
    assert run(_SCHEDULE, blocked, str(path)) == "0.125 0.25 2.0"
