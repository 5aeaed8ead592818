"""Which parameters matter: those that decide the score, and none where too little is known."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from studies import tiny_study, write_study

from metaopt.search import importances as importances_module
from metaopt.search.importances import importances
from metaopt.search.optuna_space import Proposals, Verdict, read_rows
from metaopt.search.study import load_study


def _proposals(folder: Path, **search: object) -> Proposals:
    settings = {"trials": 12, "seed": 1, "sampler": "random"} | search
    return Proposals(folder, load_study(str(write_study(folder, tiny_study(search=settings)))))


def _asked(proposals: Proposals) -> int:
    proposal = proposals.ask("ray-0")
    assert proposal is not None
    return proposal.number


def _finished(score: float) -> Verdict:
    return Verdict(status="finished", score=score, scores=[score + 1, score])


def test_the_parameter_that_decides_the_score_is_the_important_one(tmp_path: Path) -> None:
    proposals = _proposals(tmp_path, trials=60)
    while (proposal := proposals.ask("x")) is not None:
        params = proposal.params
        proposals.tell(proposal.number, _finished(math.log(params["lr_d"]) + 0.4 * math.log(params["lr_g"])))
    found = importances(tmp_path, "tiny")
    assert list(found)[:2] == ["lr_d", "lr_g"]
    assert found["lr_d"] > 0.6 and sum(found.values()) <= 1.0
    assert found == importances(tmp_path, "tiny")


def test_no_more_trials_speak_for_the_importances_than_the_forest_can_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importances_module, "MOST", 40)
    seen: list[int] = []
    evaluate = optuna.importance.FanovaImportanceEvaluator.evaluate

    def counting(self: Any, study: optuna.Study, *args: Any, **kwargs: Any) -> dict[str, float]:
        seen.append(len(study.trials))
        return evaluate(self, study, *args, **kwargs)

    monkeypatch.setattr(optuna.importance.FanovaImportanceEvaluator, "evaluate", counting)
    proposals = _proposals(tmp_path, trials=60)
    while (proposal := proposals.ask("x")) is not None:
        proposals.tell(proposal.number, _finished(math.log(proposal.params["lr_d"])))
    found = importances(tmp_path, "tiny")
    assert next(iter(found)) == "lr_d" and found == importances(tmp_path, "tiny")
    assert seen == [40, 40]
    assert len(read_rows(tmp_path, "tiny")) == 60


def test_few_trials_have_no_importances(tmp_path: Path) -> None:
    assert importances(tmp_path, "tiny") == {}
    proposals = _proposals(tmp_path)
    for _ in range(7):
        proposals.tell(_asked(proposals), _finished(0.1))
    assert importances(tmp_path, "tiny") == {}
    proposals.tell(_asked(proposals), _finished(0.1))
    assert importances(tmp_path, "tiny") == {}  # eight that are all alike
    proposals.tell(_asked(proposals), _finished(0.3))
    assert importances(tmp_path, "tiny")
