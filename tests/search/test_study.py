"""Study files: what they mean, and what is refused with which message."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import invoke
from studies import metaopt, tiny_study, write_study

from metaopt.errors import ConfigError, DataError
from metaopt.schedules import ScheduleArtifact, load_schedule, save_schedule
from metaopt.search import study as study_module
from metaopt.search import yaml_file
from metaopt.search.search import opened
from metaopt.search.study import load_study, study_schema

SMALL = """\
name: small
tasks:
  - data: digits
    budget: 100
schedule:
  family: constant
search:
  trials: 3
"""


def read(tmp_path: Path, text: str, *overrides: str) -> study_module.Study:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return load_study(str(path), overrides)


def test_defaults(tmp_path: Path) -> None:
    study = read(tmp_path, SMALL)
    assert study.name == "small"
    assert [task.name for task in study.tasks] == ["digits"]
    assert study.tasks[0].evaluations == study.spec.evaluations == 4
    assert study.reference.schedule.name == "dcgan"
    assert study.reference.params == {"lr_g": 2e-4, "lr_d": 2e-4, "update_ratio": 1.0}
    assert study.space["lr_g"].log
    assert (study.space["lr_g"].low, study.space["lr_g"].high) == (1e-5, 1e-2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E4", 1e4),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("012", 12),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("2020-01-01", "2020-01-01"),
        ("'1e-4'", "1e-4"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = yaml_file.parse(f"key: {text}", "x").content["key"]
    assert found == value
    assert type(found) is type(value)


def test_a_number_written_as_1e_4_is_that_number(tmp_path: Path) -> None:
    study = read(tmp_path, SMALL.replace("constant", "constant\n  ranges:\n    lr_g: {low: 1e-4, high: 1e-3}"))
    assert (study.space["lr_g"].low, study.space["lr_g"].high) == (1e-4, 1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo: [1, 2", r"study.yaml:\d+: this is not YAML"),
        ("", "study.yaml: must be a mapping"),
        ("- 1", "study.yaml: must be a mapping"),
        ("name:\tx\n\ty: 1", r"study.yaml:\d+: this is not YAML"),
        (SMALL.replace("trials: 3", "trails: 3"), "study.yaml:8: unknown key `search.trails`; did you mean `trials`?"),
        (SMALL + "serach: 1\n", "study.yaml:9: unknown key `serach`; did you mean `search`?"),
        (SMALL.replace("trials: 3", "seed: 3"), "study.yaml:7: `search.trials` must be there, but it is missing"),
        (SMALL + "name: again\n", "study.yaml:9: each key must be given once, but `name` is there twice"),
        (SMALL.replace("small", "../evil"), "study.yaml:1: `name`: string should match pattern"),
        (SMALL.replace("digits", "digit"), "study.yaml:3: There is no task 'digit'; did you mean 'digits'?"),
        (SMALL.replace("constant", "constnt"), "study.yaml:6: There is no family 'constnt'; did you mean 'constant'?"),
        (
            SMALL.replace("trials: 3", "trials: 3\n  sampler: tpee"),
            "study.yaml:9: `search.sampler`: input should be 'tpe'",
        ),
        (SMALL.replace("budget: 100", "network: mpl"), "study.yaml:3: There is no network 'mpl'; did you mean 'mlp'?"),
        (SMALL.replace("trials: 3", "trials: 2.5"), "study.yaml:8: `search.trials`: input should be a valid integer"),
        (SMALL.replace("trials: 3", "trials: yes"), "study.yaml:8: `search.trials`: .*, but got 'yes'"),
        (SMALL.replace("trials: 3", "trials: true"), "study.yaml:8: `search.trials`: .*, but got True"),
        (SMALL + "seeds: [1, 1]\n", "study.yaml:9: `seeds` must differ"),
        (SMALL + "reference: dcgn\n", "study.yaml:9: There is no schedule 'dcgn'; did you mean 'dcgan'?"),
        (SMALL + "reference: sngan\n", "study.yaml:9: the reference 'sngan' must be a point of family 'constant'"),
        (SMALL + "baselines: [ttur, sagan, wgan_gp]\n", "study.yaml:8: `search.trials` must be at least the 4"),
        (SMALL + "reference: ttur\nbaselines: [ttur]\n", "study.yaml:10: .*ttur.* there twice"),
        (SMALL + "baselines: [constant]\n", "study.yaml:9: first trials must differ, but 'constant'"),
        (
            SMALL.replace("  - data: digits\n", "  - data: digits\n  - data: digits\n"),
            "names of tasks must differ, but `digits`",
        ),
        (SMALL.replace("name: small", "name: !!python/name:os.system x"), "this is not YAML"),
        ("!!python/object/apply:os.system [echo]", "a study must be plain data, but got the tag"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?").replace("[", r"\[").replace("(", r"\(")):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{low: 1e-2, high: 1e-3}", "`low < high` must hold for `lr_g`, but got low=0.01, high=0.001"),
        ("{low: 1e-3, high: 1e-3}", "`low < high` must hold"),
        ("{low: 0, high: 1e-3}", "`low > 0` must hold for `lr_g`, which is searched on a log scale"),
        ("{low: 1e-4, high: 100}", r"`lr_g` must lie in .1e-08, 10., but got low=0.0001, high=100"),
        ("{low: 1e-3, high: 1e-2}", "must contain the reference 'dcgan'"),
        ("{lo: 1e-3, high: 1e-2}", "unknown key `schedule.ranges.lr_g.lo`; did you mean `low`"),
        (
            "{low: .nan, high: 1e-2}",
            "`schedule.ranges.lr_g.low`: input should be a finite number, but got nan",
        ),
        ("fast", "`schedule.ranges.lr_g`: input should be a valid number, but got 'fast'"),
    ],
)
def test_ranges_that_are_refused(tmp_path: Path, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, SMALL, f"schedule.ranges.lr_g={value}")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = write_study(tmp_path, tiny_study())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_study(str(path)).name == "tiny"


def test_alias_bomb_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="at most 100000 values"):
        read(tmp_path, "\n".join(lines))


def test_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(ConfigError, match="must be at most 1000000 characters"):
        load_study(str(path))


def test_overrides(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        SMALL,
        "search.trials=20",
        "tasks.0.budget=7",
        "seeds=[3, 4]",
        "schedule.ranges.update_ratio=1",
    )
    assert study.spec.search.trials == 20
    assert study.tasks[0].budget == 7
    assert study.spec.seeds == [3, 4]
    assert study.space["update_ratio"].low == study.space["update_ratio"].high == 1.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.trials", "an override must be KEY=VALUE"),
        ("tasks.5.budget=1", "there is no `5` there"),
        ("name.first=1", "there is no `first` there"),
        ("search.trails=1", "--set search.trails=1: unknown key `search.trails`; did you mean `trials`"),
        ("search.trials=[", "--set search.trials=.*this is not YAML"),
    ],
)
def test_overrides_that_are_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, SMALL, override)


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("search.trials=9", True),
        ("search.workers=1", True),
        ("description=x", True),
        ("tracking.uri=http://x", True),
        ("tracking.required=true", True),
        ("search.retries=3", True),
        ("search.seed=1", False),
        ("search.sampler=random", False),
        ("tasks.0.budget=9", False),
        ("seeds=[1]", False),
        ("evaluations=2", False),
        ("reference=ttur", False),
        ("schedule.family=cosine", False),
        ("schedule.ranges.lr_d={low: 1e-4, high: 1e-3}", False),
        ("name=other", False),
        ("baselines=[ttur]", False),
    ],
)
def test_key_is_of_what_trials_depend_on(tmp_path: Path, override: str, same: bool) -> None:
    assert (read(tmp_path, SMALL).key == read(tmp_path, SMALL, override).key) is same


VALIDATED = (
    SMALL
    + """\
validation:
  seeds: [7]
  tasks:
    - {data: mnist5k, size: 8, budget: 100}
"""
)


def test_a_validation_is_of_other_data_and_other_seeds(tmp_path: Path) -> None:
    study = read(tmp_path, VALIDATED)
    assert [task.name for task in study.validation] == ["mnist5k"]
    assert study.validation[0].evaluations == study.tasks[0].evaluations
    assert study.key == read(tmp_path, SMALL).key


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("validation.seeds=[0]", "`validation.seeds` must differ from each other and from `seeds`, but got [0]"),
        ("validation.seeds=[7, 7]", "`validation.seeds` must differ from each other"),
        ("validation.tasks.0.data=digits", "names of tasks must differ, but `digits` is there twice"),
        (
            "validation.tasks.0={data: digits, name: other, budget: 9}",
            "must be apart from those of `tasks`, but `digits`",
        ),
        ("validation.top=0", "`validation.top`: input should be greater than or equal to 1, but got 0"),
        ("search.objective=median", "`search.objective`: input should be 'mean', 'mean_tail' or 'worst'"),
        ("search.tail=0", "`search.tail`: input should be greater than 0, but got 0"),
    ],
)
def test_validations_that_are_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, VALIDATED, override)
    assert message in str(caught.value)


@pytest.fixture
def decay(tmp_path: Path) -> Path:
    """A schedule.json to start from."""
    params = {"lr_g": 1e-3, "lr_d": 2e-3, "update_ratio": 1.5, "power": 1.0, "warmup": 0.1}
    return save_schedule(ScheduleArtifact(family="power_decay", params=params), tmp_path / "decay.json")


def test_a_search_departs_from_a_start_whose_parameters_are_held(tmp_path: Path, decay: Path) -> None:
    study = read(tmp_path, SMALL, "schedule.family=residual", f"schedule.start={decay}")
    assert study.reference.schedule.name == "decay"
    held = {name for name, where in study.space.items() if where.low == where.high}
    assert held == {"lr_g", "lr_d", "update_ratio", "power", "warmup"}
    assert study.reference.params["lr_d"] == study.space["lr_d"].low == 2e-3
    assert {study.reference.params[name] for name in study.space.keys() - held} == {0.0}
    freed = read(
        tmp_path,
        SMALL,
        "schedule.family=residual",
        f"schedule.start={decay}",
        "schedule.ranges={lr_g: {low: 1e-4, high: 1e-2}, g_0: 0}",
    )
    assert (freed.space["lr_g"].low, freed.space["g_0"].high) == (1e-4, 0.0)
    assert freed.space["lr_d"].low == 2e-3


def test_a_start_without_a_ratio_of_its_own_holds_the_ratio(tmp_path: Path) -> None:
    space = read(tmp_path, SMALL, "schedule.family=linear_policy", "schedule.start=ttur").space
    assert space["update_ratio"].low == space["update_ratio"].high == 1.0


def test_the_key_of_a_study_is_of_what_its_start_holds(tmp_path: Path, decay: Path) -> None:
    overrides = ("schedule.family=residual", f"schedule.start={decay}")
    before = read(tmp_path, SMALL, *overrides).key
    spelt = f"schedule.start={decay.parent}/../{decay.parent.name}/{decay.name}"
    assert read(tmp_path, SMALL, overrides[0], spelt).key == before
    save_schedule(replace(load_schedule(decay), params=dict(load_schedule(decay).params) | {"power": 0.5}), decay)
    assert read(tmp_path, SMALL, *overrides).key != before


def test_starts_that_are_refused(tmp_path: Path, decay: Path) -> None:
    with pytest.raises(ConfigError, match="`start` must be a point of family 'cosine', but 'decay' is not"):
        read(tmp_path, SMALL, "schedule.family=cosine", f"schedule.start={decay}")
    with pytest.raises(ConfigError, match=r"`reference` must be left out where `schedule.start` takes its place"):
        read(tmp_path, SMALL + "reference: ttur\n", "schedule.family=residual", f"schedule.start={decay}")
    with pytest.raises(ConfigError, match="at least one parameter must have a range to search, but all are held"):
        read(tmp_path, SMALL, "schedule.family=power_decay", f"schedule.start={decay}")
    with pytest.raises(ConfigError, match=r"`racing` must be false for the sampler `es`"):
        read(tmp_path, SMALL, "search.racing=true", "search.sampler=es")
    with pytest.raises(ConfigError, match=r"nothing\.json: the file cannot be read"):
        read(tmp_path, SMALL, "schedule.family=residual", "schedule.start=nothing.json")


def test_schema_in_the_repository_is_fresh() -> None:
    kept = Path(study_module.__file__).with_name("study.schema.json").read_text(encoding="utf-8")
    assert kept == study_schema(), "type: make schema"


def broken_data(folder: Path) -> dict[str, str]:
    """Data that cannot be used -> what the message says."""
    x = np.random.default_rng(0).integers(0, 255, (200, 1, 8, 8), dtype=np.uint8)
    np.savez(folder / "whole.npz", x=x)
    (folder / "torn.npz").write_bytes((folder / "whole.npz").read_bytes()[:5000])
    np.savez(folder / "float.npz", x=x.astype(np.float32))
    np.savez(folder / "flat.npz", x=x.reshape(200, 64))
    np.savez(folder / "three.npz", x=x[:3])
    images = folder / "images"
    images.mkdir()
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return {
        "npz:missing.npz": "missing.npz",
        f"npz:{folder}/torn.npz": "torn.npz",
        f"npz:{folder}/float.npz": "uint8",
        f"npz:{folder}/flat.npz": "(N, C, H, W)",
        f"npz:{folder}/three.npz": "3 images",
        f"folder:{images}": "broken.png",
    }


def test_data_of_a_validation_are_looked_at_before_anything_is_written(tmp_path: Path) -> None:
    study = read(tmp_path, VALIDATED, "validation.tasks.0={data: 'npz:missing.npz', size: 8, budget: 9}")
    with pytest.raises(DataError, match=r"missing\.npz"), opened(study, tmp_path / "out", resume=False):
        pass
    assert not (tmp_path / "out").exists()


def test_command_exits_with_2_and_writes_nothing(tmp_path: Path) -> None:
    data = broken_data(tmp_path)
    for i, (spec, message) in enumerate(data.items()):
        tasks: list[dict[str, Any]] = [{"data": spec, "size": 8, "network": "mlp", "name": "mine"}]
        study = write_study(tmp_path, tiny_study(tasks=tasks))
        # one of them as a process: warnings and logs of libraries must not be on its screen, either
        command = metaopt if i == 0 else invoke
        refused = command("search", study, "--out", tmp_path / f"out{i}")
        assert refused.returncode == 2, (spec, refused.stderr)
        assert message in refused.stderr
        assert "Traceback" not in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
        assert not (tmp_path / f"out{i}").exists()
