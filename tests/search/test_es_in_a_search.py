"""Antithetic evolution strategies in whole searches; driven by metaopt, each draw has a sampler of its own."""

import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from studies import tiny_study, write_study

from metaopt.search.es_sampler import DRAWN, AntitheticESSampler
from metaopt.search.optuna_space import Proposals, Verdict
from metaopt.search.study import load_study

optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_finds_a_shifted_minimum_better_than_random() -> None:
    optimum = {"a": 0.8, "b": 0.2, "c": 0.7, "d": 0.35, "e": 0.75, "f": 0.3}
    space = {name: FloatDistribution(0.0, 1.0) for name in optimum}

    def far(trial: optuna.Trial) -> float:
        return sum((trial.suggest_float(name, 0.0, 1.0) - best) ** 2 for name, best in optimum.items())

    def best(sampler: BaseSampler) -> float:
        study = optuna.create_study(sampler=sampler)
        study.optimize(far, 120)
        return study.best_value

    found = [best(AntitheticESSampler(seed, sigma0=0.08, learning_rate=4.0, space=space)) for seed in range(8)]
    by_chance = [best(RandomSampler(seed=seed)) for seed in range(8)]
    assert np.mean(found) < 0.4 * np.mean(by_chance)
    assert np.median(found) < 0.4 * np.median(by_chance)


def test_without_a_space_it_searches_what_completed_trials_share() -> None:
    study = optuna.create_study(sampler=AntitheticESSampler(0, n_pairs=1))
    study.optimize(lambda trial: trial.suggest_float("x", 1e-4, 1.0, log=True) + trial.suggest_float("y", -1, 1), 40)
    assert [DRAWN in trial.system_attrs for trial in study.trials] == [False] + 39 * [True]
    assert np.mean([trial.value for trial in study.trials[-10:]]) < -0.5


@pytest.mark.parametrize("restart_at", [3, 9, 14])
def test_a_resumed_search_goes_on_alike(tmp_path: Path, restart_at: int) -> None:
    search = {"trials": 16, "seed": 1, "sampler": "es"}
    ranges = {"update_ratio": 1.0, "lr_g": {"low": 1e-5, "high": 1e-2}}
    content = tiny_study(search=search, schedule={"family": "power_decay", "ranges": ranges})
    study = load_study(str(write_study(tmp_path, content)))

    def run(folder: Path, restart_at: int) -> list[dict[str, float]]:
        folder.mkdir()
        proposals, seen, running = Proposals(folder, study), [], []
        for i in range(16):
            if i == restart_at:  # two were running when the driver died
                proposals = Proposals(folder, study)
                again = [proposals.ask("again") for _ in running]
                assert [p.number for p in again if p] == running
                assert [dict(p.params) for p in again if p] == [seen[number] for number in running]
            proposal = proposals.ask(str(i))
            assert proposal is not None
            seen.append(dict(proposal.params))
            running.append(proposal.number)
            if len(running) == 3:
                number = running.pop(1)  # out of order
                score = math.log(seen[number]["lr_g"] / 1e-3) ** 2
                verdict = Verdict(status="diverged" if number % 5 == 4 else "finished", score=score)
                proposals.tell(number, verdict)
        return seen

    straight = run(tmp_path / "straight", restart_at=-1)
    assert straight[0] == dict(study.reference.params)
    assert run(tmp_path / "restarted", restart_at) == straight
    assert all(value in study.space[name] for params in straight for name, value in params.items())
    assert len({params["lr_g"] for params in straight}) == 16


def test_cmaes_and_es_start_at_the_reference_where_parameters_are_held(tmp_path: Path) -> None:
    ranges = {"update_ratio": 1.0, "power": 0.0, "lr_g": {"low": 1e-4, "high": 1.0}, "lr_d": {"low": 1e-4, "high": 1.0}}
    for sampler in ("cmaes", "es"):
        search = {"trials": 33, "seed": 1, "sampler": sampler}
        content = tiny_study(search=search, schedule={"family": "power_decay", "ranges": ranges})
        study = load_study(str(write_study(tmp_path, content)))
        (tmp_path / sampler).mkdir()
        proposals, logs = Proposals(tmp_path / sampler, study), []
        for i in range(33):
            proposal = proposals.ask(str(i))
            assert proposal is not None
            assert (proposal.params["update_ratio"], proposal.params["power"]) == (1.0, 0.0)
            logs.append(math.log10(proposal.params["lr_g"]))
            proposals.tell(proposal.number, Verdict(status="finished", score=0.0))
        reference = math.log10(study.reference.params["lr_g"])
        assert abs(np.mean(logs[1:9]) - reference) < 0.6  # the centre is 1.3 or more away
