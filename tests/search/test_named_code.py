"""Code that a study names is run only where its user says so; code that its user has typed is run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import invoke
from sessions import hashes
from studies import metaopt, tiny_initialisation, tiny_study, write_study

from metaopt.errors import ConfigError
from metaopt.search.folder import claim, manifest_of
from metaopt.search.initialisation_study import load_any_study
from metaopt.search.package import pack
from metaopt.search.pools import tuning_pool
from metaopt.search.study import load_study

MODULE = """
from pathlib import Path
Path({marker!r}).touch()
from my_networks import make_pair
"""


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made by whoever imports the module `evil`."""
    marker = tmp_path / "marker"
    (tmp_path / "evil.py").write_text(MODULE.format(marker=str(marker)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "gan")
    monkeypatch.delitem(__import__("sys").modules, "evil", raising=False)
    return marker


def _task(**changes: Any) -> dict[str, Any]:
    return {"data": "digits", "budget": 60, "n_samples": 100} | changes


def _with_network(folder: Path) -> Path:
    return write_study(folder, tiny_study(tasks=[_task(network="evil:make_pair")]))


STUDIES: dict[str, dict[str, Any]] = {
    "tasks.0.network": tiny_study(tasks=[_task(network="evil:make_pair")]),
    "tasks.0.features": tiny_study(tasks=[_task(features="evil:make_pair")]),
    "validation.tasks.0.network": tiny_study(
        validation={"tasks": [_task(data="glyphs", network="evil:make_pair")], "seeds": [7]}
    ),
    "networks.network": tiny_initialisation(networks={"width": 8, "z_dim": 4, "network": "evil:make_pair"}),
    "learning.features": tiny_initialisation(learning={"iterations": 4, "features": "evil:make_pair"}),
}


@pytest.mark.parametrize("key", STUDIES)
@pytest.mark.parametrize(
    "read",
    [
        lambda file, folder: load_any_study(file),
        lambda file, folder: pack(file, [], None, folder / "package"),
    ],
)
def test_code_that_a_study_names_is_refused_unread(
    marker: Path, tmp_path: Path, key: str, read: Callable[[str, Path], object]
) -> None:
    file = write_study(tmp_path, STUDIES[key])
    with pytest.raises(ConfigError) as error:
        read(str(file), tmp_path)
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "evil" in text)
    assert str(error.value) == (
        f"{file}:{line}: `{key}` names code, 'evil:make_pair', which would be imported and run; where you trust it, "
        "add --allow-import."
    )
    assert not marker.exists()


def test_it_is_run_where_it_is_allowed(marker: Path, tmp_path: Path) -> None:
    study = load_study(str(_with_network(tmp_path)), allow_import=True)
    study.tasks[0].key()
    assert marker.exists()


def test_what_was_typed_is_no_news(marker: Path, tmp_path: Path) -> None:
    plain = str(write_study(tmp_path, tiny_study(tasks=[_task()])))
    study = load_study(plain, ["tasks.0.network=evil:make_pair"])
    assert study.tasks[0].network == "evil:make_pair"
    whole = "tasks=[{data: digits, budget: 60, network: 'evil:make_pair'}]"
    assert load_study(str(_with_network(tmp_path)), [whole]).tasks[0].network == "evil:make_pair"
    with pytest.raises(ConfigError, match="names code"):  # another key was typed, not this one
        load_study(str(_with_network(tmp_path)), ["search.trials=3"])
    assert load_study(str(_with_network(tmp_path)), ["tasks.0.network=mlp"]).tasks[0].network == "mlp"


def test_a_file_cannot_pretend_to_be_typed(marker: Path, tmp_path: Path) -> None:
    disguised = write_study(tmp_path, tiny_study(tasks=[_task(network="evil:make_pair")]), "--set tasks.0.width=16")
    with pytest.raises(ConfigError, match="names code"):
        load_study(str(disguised), ["tasks.0.width=16"])


def test_files_of_weights_are_no_code(tmp_path: Path) -> None:
    tasks = [_task(features="inception:/weights/of:mine.pth")]
    assert load_study(str(write_study(tmp_path, tiny_study(tasks=tasks)))).tasks[0].features.startswith("inception:")


def test_the_study_of_a_folder_is_data_too(marker: Path, tmp_path: Path) -> None:
    honest = load_study(str(write_study(tmp_path, tiny_study())))
    folder = tmp_path / "folder"
    claim(folder, manifest_of(honest, hashes(honest)), resume=False)
    manifest = (folder / "study.json").read_text()
    (folder / "study.json").write_text(manifest.replace('"network": null', '"network": "evil:make_pair"'))
    with pytest.raises(ConfigError, match=r"folder: `tasks\.0\.network` names code, 'evil:make_pair'"):
        tuning_pool(folder, honest.tasks)
    with pytest.raises(ConfigError, match="differs from digits in network"):
        tuning_pool(folder, honest.tasks, allow_import=True)


def test_the_commands_refuse_it_and_say_it_again(marker: Path, tmp_path: Path) -> None:
    file = _with_network(tmp_path)
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1] / 'gan'}"} | dict(__import__("os").environ)
    for command in (["search"], ["submit", "--address", "http://127.0.0.1:9"]):
        refused = invoke(*command, file, cwd=tmp_path)
        assert refused.returncode == 2
        assert "names code, 'evil:make_pair'" in refused.stderr
        assert "add --allow-import" in refused.stderr
    assert not marker.exists()
    assert not (tmp_path / "runs").exists()
    small = ["--set", "search.trials=1", "--allow-import"]
    done = metaopt("search", file, *small, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--resume --allow-import --set search.trials=2" in done.stdout.replace("\n", " ")
    assert marker.exists()


def test_train_runs_what_was_typed(marker: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1] / 'gan'}"} | dict(__import__("os").environ)
    typed = ["--set", "network=evil:make_pair", "--budget", "20", "--set", "n_samples=50", "--out", tmp_path / "out"]
    done = metaopt("train", "--task", "digits", *typed, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert marker.exists()
