"""Learning a start: records, judgements that are the same for all candidates, and what comes out."""

import math
from collections.abc import Mapping

import pytest
import torch

from metaopt.errors import ConfigError
from metaopt.gan import Corruption, PairSpec, to_uint8
from metaopt.meta.maml import adapt, fine_tune
from metaopt.meta.maml.games import images_of, pair_weights
from metaopt.meta.maml.meta_judging import cases
from metaopt.meta.maml.meta_run import MetaRecord, MetaRun
from metaopt.meta.maml.meta_task import GroupSpec, MetaTask
from metaopt.training import Outcome

SPEC = PairSpec(network="mlp", size=8, channels=1, width=12, z_dim=4, norm_g="none", norm_d="none", spectral_norm=False)
TASK = MetaTask(
    name="t",
    train=(GroupSpec(data="digits", classes=(0, 1, 2, 3, 4)),),
    validation=(GroupSpec(data="digits", classes=(7, 8)),),
    spec=SPEC,
    corruptions=(Corruption(), Corruption(noise=0.1)),
    shots=10,
    query=20,
    batch=8,
    meta_batch=2,
    budget=20,
    evaluations=2,
    adapt_steps=8,
    n_samples=60,
)


def params(algorithm: str = "fomaml", **changes: float) -> dict[str, object]:
    return {
        "algorithm": algorithm,
        "outer_lr": 0.01,
        "inner_steps": 2,
        "adam_lr": 0.01,
        "lr_g": 0.1,
        "lr_d": 0.1,
        "update_ratio": 1.0,
        **changes,
    }


def run(
    algorithm: str = "fomaml", seed: int = 0, task: MetaTask = TASK, **changes: float
) -> tuple[MetaRun, list[MetaRecord]]:
    found = MetaRun(task, "constant", params(algorithm, **changes), seed)
    return found, list(found.run())


def as_dicts(records: list[MetaRecord]) -> list[Mapping[str, object]]:
    return [{key: value for key, value in record.as_dict().items() if key != "wall_s"} for record in records]


def test_records_come_ten_an_evaluation_with_measures_at_each() -> None:
    _, records = run()
    assert len(records) == 21
    assert [i for i, record in enumerate(records) if record.fid is not None] == [0, 10, 20]
    assert [record.iteration for record in records] == list(range(21))
    assert records[-1].outcome is Outcome.FINISHED and not any(record.outcome for record in records[:-1])
    assert all(0 <= record.coverage <= 1 for record in records if record.coverage is not None)
    assert (records[0].lr_g, records[0].lr_d, records[0].update_ratio) == (0.1, 0.1, 1.0)


def test_run_is_a_function_of_task_parameters_and_seed_however_it_is_cut() -> None:
    _, whole = run()
    again = MetaRun(TASK, "constant", params(), 0)
    parts = [*again.run(0.5), *again.run(1.0)]
    assert as_dicts(parts) == as_dicts(whole)
    assert as_dicts(run(seed=1)[1]) != as_dicts(whole)


@pytest.mark.parametrize("algorithm", ["joint", "maml", "fomaml", "reptile", "meta_sgd", "anil", "maml_plus"])
def test_every_algorithm_learns_and_gives_a_start(algorithm: str) -> None:
    found, records = run(algorithm)
    assert records[-1].outcome is Outcome.FINISHED
    start = found.initialisation()
    assert (start.algorithm, start.how) == (algorithm, "adam" if algorithm == "joint" else "sgd")
    assert (start.rates is not None) == (algorithm in ("meta_sgd", "maml_plus"))
    assert bool(start.frozen) == (algorithm == "anil")
    first = pair_weights(TASK.pair(0))
    assert not any(torch.equal(w, first[p][n]) for p, of in start.weights.items() for n, w in of.items() if w.dim() > 1)


def test_learning_makes_adapting_better_than_from_where_it_began() -> None:
    for algorithm in ("fomaml", "reptile"):
        _, records = run(algorithm, lr_g=0.3, lr_d=0.3)
        assert records[-1].fid is not None and records[0].fid is not None
        assert math.log(records[-1].fid / records[0].fid) < -0.1


def test_measures_are_those_of_adaptations_done_by_hand() -> None:
    found, _ = run("reptile")
    start = found.initialisation()
    sampled = found.sample(64)
    case = cases(TASK)[0]
    weights = start.weights
    *_, after = adapt(start.players(start.pair()), weights, case.rounds, start.inner(8), derivatives="none")
    assert len(cases(TASK)) == 4 and len(case.rounds) == 8
    pair = start.pair()
    assert torch.equal(sampled[:8], case.support[torch.arange(8)])
    assert torch.equal(sampled[8:16], to_uint8(images_of(pair, weights["g"], case.z[:8])))
    close = (sampled[16:24].int() - to_uint8(images_of(pair, after["g"], case.z[:8])).int()).abs()
    assert close.max() <= 1  # side by side with the others, sums may round otherwise


def test_joint_training_follows_with_adam_and_has_as_many_updates() -> None:
    found, records = run("joint", lr_g=0.5, lr_d=0.5)  # which Adam does not take
    assert found._training.iteration == 40  # 20 outer iterations of 2 inner steps
    assert records[-1].iteration == 20
    start, case = found.initialisation(), cases(TASK)[0]
    *_, after = fine_tune(start.players(start.pair()), start.weights, case.rounds, start.inner(8))
    by_hand = to_uint8(images_of(start.pair(), after["g"], case.z[:8]))
    assert (found.sample(24)[16:].int() - by_hand.int()).abs().max() <= 1


def test_outer_divergence_is_an_outcome() -> None:
    found, records = run("maml", lr_g=1.0, lr_d=1.0, outer_lr=1e30)
    assert records[-1].outcome is Outcome.DIVERGED and len(records) < 21
    assert "non-finite" in records[-1].reason
    assert not found.healthy


def test_adaptation_that_diverges_counts_as_its_start_and_is_told() -> None:
    task = MetaTask(**{**vars(TASK), "loss": "wgan_gp", "adapt_steps": 40, "budget": 10, "evaluations": 1})
    found = MetaRun(task, "constant", params("joint", inner_steps=1, outer_lr=1e-4), 0)
    found.how = "sgd"  # at a rate that Adam would bear
    found.params |= {"lr_g": 1.0, "lr_d": 1.0}
    records = list(found.run())
    last = records[-1]
    assert last.warning == "adaptation diverged: 4 of 4"
    assert last.fid == last.start_fid and last.outcome is Outcome.FINISHED


def test_parameters_that_are_missing_are_named() -> None:
    with pytest.raises(
        ConfigError, match="`params` must have algorithm, outer_lr, inner_steps, adam_lr, but outer_lr is missing"
    ):
        MetaRun(
            TASK, "constant", {"algorithm": "maml", "inner_steps": 2, "lr_g": 0.1, "lr_d": 0.1, "update_ratio": 1}, 0
        )
