"""Studies of kind initialisation: what may stand in the file, and what the driver keeps of a start."""

import json
from collections.abc import Iterable
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import tiny_initialisation, write_study

from metaopt.errors import ConfigError
from metaopt.gan import Corruption
from metaopt.meta.maml import adapt, fine_tune, load_initialisation
from metaopt.meta.maml.adaptation import measured
from metaopt.meta.maml.games import images_of
from metaopt.meta.maml.meta_judging import cases
from metaopt.meta.maml.meta_run import MetaRun
from metaopt.meta.maml.meta_task import GroupSpec, meta_groups
from metaopt.search.export import export_start, export_trial
from metaopt.search.folder import START, claim, manifest_of, trial_folder
from metaopt.search.initialisation_study import Choice, InitialisationStudy, load_any_study
from metaopt.search.jobs import Job, Slice
from metaopt.search.optuna_space import Proposals, TrialRow
from metaopt.search.ranges import Range
from metaopt.search.session import Session
from metaopt.search.study import Study, load_study
from metaopt.search.unseen import judged_on_unseen
from metaopt.tracking import NullTracker


def loaded(folder: Path, overrides: tuple[str, ...] = (), **changes: Any) -> InitialisationStudy:
    study = load_any_study(str(write_study(folder, tiny_initialisation(**changes))), overrides)
    assert isinstance(study, InitialisationStudy)
    return study


def test_file_becomes_a_task_and_a_space(tmp_path: Path) -> None:
    episodes = tiny_initialisation()["episodes"] | {"corruption": [{}, {"noise": 0.2}]}
    study = loaded(tmp_path, ("search.trials=9",), episodes=episodes)
    (task,) = study.tasks
    assert task.train == (GroupSpec(data="digits", classes=(0, 1, 2, 3, 4, 5, 6)),)
    assert task.validation == (GroupSpec(data="digits", classes=(7, 8)),)
    assert task.corruptions == (Corruption(), Corruption(noise=0.2))
    assert (task.budget, task.adapt_steps, task.evaluations, task.shots) == (4, 5, 2, 5)
    assert study.space["algorithm"] == Choice(names=("joint", "maml", "fomaml", "reptile", "meta_sgd"))
    assert study.space["inner_steps"] == Range(low=2, high=4, log=False, whole=True)
    assert study.space["outer_lr"] == Range(low=1e-4, high=1e-2, log=True)
    assert (study.space["update_ratio"].low, study.space["update_ratio"].high) == (1, 1)  # type: ignore[union-attr]
    assert study.spec.search.trials == 9
    assert study.reference.params["algorithm"] == "joint"


def test_all_classes_and_whole_sets(tmp_path: Path) -> None:
    episodes = tiny_initialisation()["episodes"]
    episodes |= {"train": [{"data": "digits", "classes": "all"}], "validation": [{"data": "glyphs"}]}
    (task,) = loaded(tmp_path, episodes=episodes).tasks
    assert task.train == (GroupSpec(data="digits", classes=tuple(range(10))),)
    assert task.validation == (GroupSpec(data="glyphs"),)


def test_studies_of_schedules_are_read_as_before(tmp_path: Path) -> None:
    assert isinstance(load_any_study("smoke"), Study)
    assert load_any_study("smoke", ["search.trials=7"]) == load_study("smoke", ["search.trials=7"])
    study = write_study(tmp_path, tiny_initialisation())
    with pytest.raises(ConfigError, match=r"study.yaml:\d+: "):
        load_study(str(study))  # where schedules alone make sense


REFERENCE = tiny_initialisation()["reference"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"algorithms": ["joint", "mamal"]}, "There is no algorithm 'mamal'; did you mean 'maml'"),
        (
            {"reference": {**REFERENCE, "algorithm": "anil"}},
            "`algorithm` one of joint, maml, .* must hold, but got 'anil'",
        ),
        ({"reference": {**REFERENCE, "lr_g": 2.0}}, "`0.001 <= lr_g <= 0.3` must hold, but got 2.0"),
        ({"reference": {**REFERENCE, "inner_steps": 1}}, "`2 <= inner_steps <= 4` must hold, but got 1"),
        ({"reference": {**REFERENCE, "lr": 2.0}}, "must have the keys adam_lr, algorithm, .*, but has .*lr,"),
        ({"outer_lr": {"low": 0, "high": 1}}, "`0 < low <= high` must hold, but got low=0, high=1"),
        (
            {"inner": {"steps": {"low": 1.5, "high": 3}}},
            "`1 <= low <= high, whole numbers,` must hold, but got low=1.5",
        ),
        ({"inner": {"ranges": {"lr": 1}}}, "family 'constant' has no parameter `lr`; did you mean `lr_"),
        ({"networks": {"loss": "wgan"}}, "cuts no weights, but got 'wgan'"),
        (
            {"outer_lr": {"low": 1e-4, "high": 1e-2, "log": False}},
            "`log` must be true or left out there",
        ),
        (
            {"search": {"trials": 4, "resources": {"gpu": 0.5}}},
            "learned on the CPU, so that `gpu` must be 0",
        ),
        (
            {
                "algorithms": ["joint"],
                "outer_lr": 1e-3,
                "adam_lr": 3e-3,
                "inner": {"steps": 2, "ranges": {"lr_g": 1e-3, "lr_d": 1e-3, "update_ratio": 1}},
            },
            "at least one parameter must have a range to search, but all are held",
        ),
        ({"learning": {"iteration": 4}}, "unknown key `learning.iteration`; did you mean `iterations`"),
        ({"kind": "initialization"}, "`kind` must be schedule or initialisation, but got 'initialization'"),
    ],
)
def test_what_cannot_run_is_refused_with_its_place(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"study.yaml(:\\d+)?: .*({said})"):
        load_any_study(str(write_study(tmp_path, tiny_initialisation(**changes))))


def test_groups_that_share_images_are_refused_with_their_place(tmp_path: Path) -> None:
    episodes = tiny_initialisation()["episodes"] | {"validation": [{"data": "digits", "classes": "6-8"}]}
    with pytest.raises(ConfigError, match=r"study.yaml:\d+: .*must not share images, but 'digits' of class 6"):
        loaded(tmp_path, episodes=episodes)


def test_key_leaves_out_what_does_not_change_a_trial(tmp_path: Path) -> None:
    study = loaded(tmp_path)
    assert loaded(tmp_path, ("search.trials=50", "search.workers=1", "description=x")).key == study.key
    others = (
        "seed=1",
        "networks.r1=0.1",
        "learning.adapt_steps=6",
        "outer_lr={low: 1e-4, high: 0.02}",
        "reference.lr_g=0.002",
    )
    assert len({study.key, *(loaded(tmp_path, (other,)).key for other in others)}) == 6


# What the driver keeps, worked through without Ray


def opened(folder: Path, trials: int = 4, **changes: Any) -> Session:
    study = loaded(folder, (f"search.trials={trials}",), **changes)
    identities = [meta_groups(task).identity for task in study.tasks]
    if not (folder / "out" / "study.json").exists():
        claim(folder / "out", manifest_of(study, identities), resume=True)
    return Session(study, folder / "out", identities, Proposals(folder / "out", study), NullTracker())


def slices(session: Session, job: Job) -> Iterable[Slice]:
    run = MetaRun(session.study.tasks[0], job.family, job.params, 0)  # type: ignore[arg-type]
    for until in (0.5, 1.0):
        records = list(run.run(until))
        starts = {0: run.initialisation()} if until == 1.0 and run.healthy else {}
        yield Slice(records={0: records}, starts=starts, wall_s=0.1)


def work_all(session: Session, most: int = 100) -> list[TrialRow]:
    for k in range(most):
        job = session.next_job(str(k))
        if job is None:
            break
        for part in slices(session, job):
            session.on_slice(str(k), part)
        session.on_end(str(k))
    return session.rows()


def test_each_trial_keeps_its_start_with_its_score(tmp_path: Path) -> None:
    rows = work_all(opened(tmp_path))
    assert [row.state for row in rows] == ["COMPLETE"] * 4
    assert rows[0].verdict and rows[0].verdict.score == 0.0
    algorithms = set()
    for row in rows:
        start = load_initialisation(trial_folder(tmp_path / "out", row.number) / START)
        assert row.verdict and start.score == row.verdict.score
        assert start.algorithm == row.params["algorithm"] and start.steps == row.params["inner_steps"]
        rates = {"lr_g": "adam_lr", "lr_d": "adam_lr"} if start.algorithm == "joint" else {}
        assert start.params == {name: row.params[rates.get(name, name)] for name in ("lr_g", "lr_d", "update_ratio")}
        assert start.provenance["trial"] == row.number
        algorithms.add(start.algorithm)
    assert len(algorithms) > 1


def test_reference_start_outlives_its_driver(tmp_path: Path) -> None:
    first = opened(tmp_path)
    work_all(first, most=1)  # the reference alone; the driver dies before trial 0 is asked for
    assert not (tmp_path / "out" / "trials").exists()
    rows = work_all(opened(tmp_path))
    assert rows[0].verdict and rows[0].verdict.score == 0.0
    kept = load_initialisation(trial_folder(tmp_path / "out", 0) / START)
    again = MetaRun(first.study.tasks[0], "constant", rows[0].params, 0)  # type: ignore[arg-type]
    list(again.run())
    for player, of in again.initialisation().weights.items():
        assert all(torch.equal(kept.weights[player][name], weight) for name, weight in of.items())


@pytest.mark.parametrize("damage", ["torn", "missing"])
def test_reference_start_that_is_not_whole_is_learned_again(tmp_path: Path, damage: str) -> None:
    work_all(opened(tmp_path), most=1)
    (kept,) = (tmp_path / "out" / "references").glob("*.safetensors")
    whole = kept.read_bytes()
    if damage == "torn":
        kept.write_bytes(whole[: len(whole) // 2])
    else:
        kept.unlink()
    again = opened(tmp_path)
    job = again.next_job("r")
    assert job is not None and job.kind == "reference"
    work_all(opened(tmp_path), most=1)
    assert kept.read_bytes() == whole


def test_kill_between_keeping_a_start_and_telling_doubles_nothing(tmp_path: Path) -> None:
    first = opened(tmp_path)
    work_all(first, most=2)
    job = first.next_job("dies")
    assert job is not None
    for part in slices(first, job):
        first.on_slice("dies", part)

    class KilledError(Exception): ...

    def die(*_: object) -> None:
        raise KilledError

    first.proposals.tell = die  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        first.on_end("dies")
    assert (trial_folder(tmp_path / "out", job.number) / START).exists()
    rows = work_all(opened(tmp_path))
    assert [row.state for row in rows] == ["COMPLETE"] * 4
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = work_all(opened(whole))
    assert [row.verdict.score for row in rows if row.verdict] == [row.verdict.score for row in expected if row.verdict]


def test_best_start_is_compared_with_the_reference_on_unseen_groups(tmp_path: Path) -> None:
    episodes = tiny_initialisation()["episodes"] | {"test": [{"data": "digits", "classes": [9]}]}
    session = opened(tmp_path, episodes=episodes)
    rows = work_all(session)
    found = judged_on_unseen(tmp_path / "out", session.study.tasks[0], 2)  # type: ignore[arg-type]
    assert list(found.groups) == ["digits-9"] and found.trial == 2
    of = cases(session.study.tasks[0], test=True)  # type: ignore[arg-type]
    assert len(of) == 5
    by_hand = []
    for number in (2, 0):
        start = load_initialisation(trial_folder(tmp_path / "out", number) / START)
        pair = start.pair()
        fids = []
        for case in of:
            follow = fine_tune if start.how == "adam" else partial(adapt, derivatives="none", rates=start.rates)
            *_, after = follow(start.players(pair), start.weights, case.rounds, start.inner(5))
            images = images_of(pair, after["g"], case.z)
            fids.append(measured(images, case.target, torch.Generator().manual_seed(0)).fid)
        by_hand.append(fids)
    ratios = [log(a / b) for a, b in zip(*by_hand, strict=True)]
    assert found.groups["digits-9"] == pytest.approx(sum(ratios) / 5, abs=2e-3)
    assert found.ratio.low <= found.ratio.estimate <= found.ratio.high
    assert json.loads((tmp_path / "out" / "test.json").read_text())["trial"] == 2
    assert rows[2].verdict and found.groups["digits-9"] != rows[2].verdict.score


def test_best_start_is_exported_with_where_it_comes_from(tmp_path: Path) -> None:
    rows = work_all(opened(tmp_path))
    best = min(rows, key=lambda row: row.verdict.score)  # type: ignore[union-attr, arg-type, return-value]
    start = export_start(tmp_path / "out")
    assert start.provenance["trial"] == best.number and start.provenance["study"] == "tiny_init"
    assert {"study_key", "date", "version.metaopt"} <= set(start.provenance)
    assert export_start(tmp_path / "out", 0).algorithm == "joint"
    with pytest.raises(ConfigError, match="has no trial 9 with a score"):
        export_start(tmp_path / "out", 9)
    with pytest.raises(ConfigError, match="must search for schedules, but searches for starts"):
        export_trial(tmp_path / "out")
