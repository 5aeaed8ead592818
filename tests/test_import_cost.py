"""`import metaopt` and `metaopt --help` load nothing heavy, and what they promise is there when asked for."""

import subprocess
import sys
from pathlib import Path

import pytest
from studies import COMMANDS, tiny_study, write_study

import metaopt

HEAVY = {
    *("torch", "torchvision", "ray", "mlflow", "optuna", "pandas", "numpy", "scipy", "sklearn", "mlxtend"),
    *("matplotlib", "PIL", "yaml", "safetensors", "sqlalchemy"),
}  # pydantic is not among them: typer itself needs it to read options

_LOADED = "import sys; print('loaded', *sorted({name.partition('.')[0] for name in sys.modules}))"
_HELP = """
import sys
from metaopt.cli.main import run
for argv in {argvs!r}:
    sys.argv = ["metaopt", *argv]
    try:
        run()
    except SystemExit as end:
        assert not end.code, end
"""


def output(code: str) -> str:
    """What a fresh process prints that runs `code` and then says what it has loaded."""
    command = [sys.executable, "-c", f"{code}\n{_LOADED}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout


def loaded(text: str) -> set[str]:
    line = text.splitlines()[-1]
    assert line.startswith("loaded ")
    return set(line.split())


@pytest.mark.parametrize("command", ["search", "submit"])
def test_a_file_that_no_study_can_be_is_refused_before_anything_heavy_is_loaded(tmp_path: Path, command: str) -> None:
    study = write_study(tmp_path, tiny_study() | {"serch": {}})
    code = f"""
import sys
from metaopt.cli.main import run
sys.argv = ["metaopt", {command!r}, {str(study)!r}]
try:
    run()
except SystemExit as end:
    print("exit", end.code)
"""
    said = output(code)
    assert "exit 2" in said
    assert loaded(said) & (HEAVY - {"yaml"}) == set()


def test_the_check_sees_a_heavy_import() -> None:
    assert "numpy" in loaded(output("import numpy"))


@pytest.mark.parametrize("code", ["import metaopt", "import metaopt; metaopt.__version__", "import metaopt.errors"])
def test_import_metaopt_loads_nothing_heavy(code: str) -> None:
    names = loaded(output(code))
    assert "metaopt" in names
    assert names & HEAVY == set()


def test_import_metaopt_loads_no_room() -> None:
    code = "import metaopt, sys; print(*(name for name in sys.modules if name.startswith('metaopt')))"
    assert output(code).splitlines()[0] == "metaopt"


def test_schedules_load_nothing_heavy() -> None:
    names = loaded(output("import metaopt; metaopt.load_schedule, metaopt.Controls"))
    assert names & (HEAVY | {"pydantic"}) == set()


def test_help_of_the_program_loads_nothing_heavy() -> None:
    text = output(_HELP.format(argvs=[["--help"]]))
    for command in COMMANDS:
        assert command in text
    assert loaded(text) & HEAVY == set()


def test_help_of_every_command_loads_nothing_heavy() -> None:
    text = output(_HELP.format(argvs=[[command, "--help"] for command in COMMANDS]))
    for command in COMMANDS:
        assert f"metaopt {command}" in text
    assert loaded(text) & HEAVY == set()


def test_the_driver_of_a_search_carries_no_compiler_and_no_scikit_learn() -> None:
    code = "import metaopt.cli.outputs, metaopt.search.ray_runner, metaopt.search.search"
    data = "from metaopt.training.resources import resources; from metaopt.gan import task_from_spec"
    names = loaded(output(f"{code}; {data}; resources(task_from_spec('digits'))"))
    assert {"torch", "ray", "optuna", "pandas"} <= names
    assert names & {"triton", "sklearn"} == set()


def test_every_public_name_is_there() -> None:
    for name in metaopt.__all__:
        assert getattr(metaopt, name) is not None
    assert metaopt._HOMES.keys() | {"__version__"} == set(metaopt.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'metaopt' has no attribute 'trian'"):
        metaopt.trian  # noqa: B018
