"""A study file with a population: what is refused, by what it is known, and where the first members come from."""

import json
from pathlib import Path
from typing import Any

import pytest
from populations import RANGES, population_study, session_of, train_all
from sessions import hashes
from studies import tiny_study, write_study

from metaopt.errors import ConfigError
from metaopt.search.export import scored
from metaopt.search.folder import claim, manifest_of
from metaopt.search.optuna_space import read_rows
from metaopt.search.package import STUDY, pack
from metaopt.search.study import Study, load_study


def read(folder: Path, *overrides: str, **changes: Any) -> Study:
    return load_study(str(write_study(folder, population_study(**changes))), overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.sampler=tpe", "`sampler` must be left out for a population, which proposes itself, but is tpe"),
        ("search.sampler=random", "`sampler` must be left out for a population, which proposes itself, but is random"),
        ("search.pruner=asha", "`pruner` must be none for a population, which replaces its worst, but is asha"),
        ("search.objectives=[quality, compute]", "`objectives` must be quality alone for a population, but are"),
        ("search.racing=true", "`racing` must be false for a population, whose members train side by side, but is"),
        ("search.time_budget_s=60", "`time_budget_s` must be left out for a population, .* last evaluation, but is 60"),
        ("search.gpu_budget_s=9", "`gpu_budget_s` must be left out for a population, .* last evaluation, but is 9"),
        ("schedule.family=power_decay", "`family` must be constant for a population, .* but got power_decay"),
        ("evaluations=1", "`2 <= evaluations <= 10` must hold for a population, but got 1"),
        ("evaluations=11", "`2 <= evaluations <= 10` must hold for a population, but got 11"),
        ("search.trials=2", "`search.trials` must be at least 3, the published schedules and two members of a pop"),
        ("search.population.share=0.6", "`search.population.share`: input should be less than or equal to 0.5"),
        ("search.population.method=pbt3", "`search.population.method`: input should be 'pbt' or 'pb2'"),
        ("search.population.factors=[]", "`search.population.factors`: list should have at least 1 item"),
        ("search.population.methd=pbt", "unknown key `search.population.methd`; did you mean `method`"),
        ("search.population.first=nowhere", "runs/nowhere must be the folder of a study, but it holds no study.json"),
    ],
)
def test_what_is_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, override)


def test_several_horizons_are_refused_as_they_need_a_pruner(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`horizons` must be left out for a population, but are"):
        read(tmp_path, "search.horizons=[0.5, 1.0]")


def test_what_is_for_pbt_alone_is_refused_for_pb2(tmp_path: Path) -> None:
    for key, value in (("factors", "[0.5, 2.0]"), ("resample", "0.1")):
        with pytest.raises(ConfigError, match=f"`{key}` is for the method pbt and must be left out, but the method is"):
            read(tmp_path, f"search.population.{key}={value}", method="pb2")


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("search.trials=6", False),
        ("search.population.share=0.5", False),
        ("search.population.method=pb2", False),
        ("search.workers=1", True),
        ("search.evaluation_limit_s=100", True),
        ("description=x", True),
    ],
)
def test_key_is_of_what_members_depend_on(tmp_path: Path, override: str, same: bool) -> None:
    """On how many there are, too: they are decided on together."""
    assert (read(tmp_path).key == read(tmp_path, override).key) is same


def finished_study(folder: Path, **changes: Any) -> Path:
    """The folder of a finished study of constant schedules."""
    folder.mkdir()
    content = tiny_study(
        name="before",
        tasks=population_study()["tasks"],
        schedule={"family": "constant", "ranges": RANGES},
        search={"trials": 4, "seed": 3, "sampler": "random"},
    )
    session = session_of(folder, content | changes)
    claim_folder(folder, session.study)
    train_all(session)
    return folder


def claim_folder(folder: Path, study: Any) -> None:
    """As a search does; the folder holds the study file already."""
    content = manifest_of(study, hashes(study))
    whole = folder / "claimed"
    claim(whole, content, resume=False)
    (whole / "study.json").rename(folder / "study.json")
    whole.rmdir()


def test_the_best_trials_of_another_study_are_the_first_members(tmp_path: Path) -> None:
    first = finished_study(tmp_path / "first")
    best = [dict(row.params) for _, row in scored(read_rows(first, "before")) if not row.name]
    assert len(best) == 3
    study = read(tmp_path, first=str(first), trials=7)
    assert list(study.members) == best
    assert list(read(tmp_path, first=str(first), trials=3).members) == best[:2]
    (tmp_path / "out").mkdir()
    rows = train_all(session_of(tmp_path / "out", population_study(first=str(first), trials=7)))
    assert [row.params for row in rows[1:4]] == best
    assert len({tuple(row.params.values()) for row in rows}) == 7, "those that it lacks are drawn"
    assert all(
        row.verdict and row.verdict.intervals[0]["params"] == row.params for row in rows[1:] if not row.verdict.copied
    )


def test_the_key_is_of_the_first_members_and_not_of_where_they_were(tmp_path: Path) -> None:
    first = finished_study(tmp_path / "first")
    key = read(tmp_path, first=str(first)).key
    first.rename(tmp_path / "moved")
    assert read(tmp_path, first=str(tmp_path / "moved")).key == key != read(tmp_path).key


def test_first_members_that_are_refused(tmp_path: Path) -> None:
    first = finished_study(tmp_path / "first")
    narrow = {"lr_g": {"low": 1e-4, "high": 2.1e-4}, "lr_d": {"low": 1e-4, "high": 2.1e-4}}
    with pytest.raises(
        ConfigError, match=r"the range of `lr_.`, .0.0001, 0.00021., must contain the first members, but"
    ):
        read(tmp_path, first=str(first), schedule={"family": "constant", "ranges": narrow})
    manifest = json.loads((first / "study.json").read_text())
    manifest["spec"]["search"]["trials"] = 5
    (first / "study.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=r"must be the folder of a finished study, but .* has 4 of 5 trials"):
        read(tmp_path, first=str(first))


def test_first_members_of_another_family_are_refused(tmp_path: Path) -> None:
    first = finished_study(tmp_path / "first", schedule={"family": "power_decay"})
    with pytest.raises(
        ConfigError, match=r"study of constant schedules, but trial . of .* is one of family power_decay"
    ):
        read(tmp_path, first=str(first))


def test_a_job_brings_the_first_members(tmp_path: Path) -> None:
    first = finished_study(tmp_path / "first")
    (first / "secret.env").write_text("secret")
    study = read(tmp_path, first=str(first))
    package = pack(str(tmp_path / "study.yaml"), [], None, tmp_path / "job")
    files = {path.name for path in package.folder.rglob("*") if path.is_file()}
    assert files == {STUDY, "study.json", "optuna.journal"}
    spec = json.loads((package.folder / STUDY).read_text())
    assert not Path(spec["search"]["population"]["first"]).is_absolute()
    spec["search"]["population"]["first"] = str(package.folder / spec["search"]["population"]["first"])
    (tmp_path / "study.yaml").write_text(json.dumps(spec))
    assert load_study(str(tmp_path / "study.yaml")).members == study.members
