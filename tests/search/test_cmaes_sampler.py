"""CMA-ES, whose state lies in the journal: as Optuna's own, and harmless where somebody else has written it."""

import json
import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import CmaEsSampler
from studies import tiny_study, write_study

from metaopt.errors import StorageError
from metaopt.search.cmaes_sampler import JournalledCmaEsSampler
from metaopt.search.optuna_space import JOURNAL, Proposals, Verdict
from metaopt.search.study import load_study

optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_proposes_what_optunas_own_does() -> None:
    def far(trial: optuna.Trial) -> float:
        return sum((trial.suggest_float(name, 0.0, 1.0) - 0.3) ** 2 for name in "abc")

    found = []
    for kind in (CmaEsSampler, JournalledCmaEsSampler):
        study = optuna.create_study(sampler=kind(seed=3))
        study.optimize(far, 40)
        found.append([trial.params for trial in study.trials])
    assert found[0] == found[1]


class _Harm:
    """What runs code where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_the_state_of_cmaes_in_a_foreign_journal_runs_no_code(tmp_path: Path) -> None:
    content = tiny_study(search={"trials": 20, "seed": 1, "sampler": "cmaes"})
    study, mark = load_study(str(write_study(tmp_path, content))), tmp_path / "mark"
    proposals = Proposals(tmp_path, study)
    for _ in range(12):
        proposal = proposals.ask("x")
        assert proposal is not None
        proposals.tell(proposal.number, Verdict(status="finished", score=float(proposal.number)))
    journal = tmp_path / JOURNAL
    lines = []
    for line in map(json.loads, journal.read_text().splitlines()):
        parts = [key for key in line.get("system_attr", {}) if key.startswith("cma:optimizer:")]
        if parts == ["cma:optimizer:0"]:
            line["system_attr"] = {"cma:optimizer:0": pickle.dumps(_Harm(mark)).hex()}
        if parts in ([], ["cma:optimizer:0"]):
            lines.append(json.dumps(line) + "\n")
    assert any("cma:optimizer:0" in line for line in lines), "its state is in the journal"
    journal.write_text("".join(lines))
    with pytest.raises(StorageError, match=r"The state of the sampler `cmaes` that trial 9 holds must be one that"):
        Proposals(tmp_path, study).ask("x")
    assert not mark.exists()
