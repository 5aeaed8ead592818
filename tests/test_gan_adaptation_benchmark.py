"""What the measurement of adapted GANs stands on: parts that share no character, paired cases, and its summary."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import gan_adaptation as bench

from metaopt.gan import load_dataset
from metaopt.meta.maml.groups import Group


def tiny_groups(classes: range = range(3)) -> list[Group]:
    return [
        Group(name=f"g{i}", x=load_dataset("digits", size=12).x[i * 150 : i * 150 + 150], identity=str(i))
        for i in classes
    ]


def test_a_character_is_in_one_part_only_whatever_its_case_and_data_set() -> None:
    glyphs, mnist = (load_dataset(name, size=12) for name in ("glyphs", "mnist5k"))
    names = {part: {g.name for g in bench.character_groups(part, glyphs, mnist)} for part in bench.SHARES}
    seen: dict[str, str] = {}
    for part, groups in names.items():
        for name in groups:
            source, _, number = name.rpartition("-")
            character = bench.CHARACTERS[int(number)] if source == "glyphs" else number
            what = {"O": "0", "o": "0", "I": "1", "i": "1", "l": "1", "L": "1"}.get(character, character.upper())
            assert seen.setdefault(what, part) == part, name
    assert sum(map(len, names.values())) == 62 + 10
    assert set(seen.values()) == set(bench.SHARES)


def test_all_starts_see_the_same_images_and_noise_and_seeds_see_others() -> None:
    first, again = (bench.cases(tiny_groups(), 5, [0, 1], 3) for _ in range(2))
    assert len(first) == 6 and {case.seed for case in first} == {0, 1}
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.drawn.support, b.drawn.support) and torch.equal(a.z, b.z)
    assert not any(torch.equal(a.z, b.z) for i, a in enumerate(first) for b in first[:i])
    for case in first:
        kept = {image.numpy().tobytes() for image in case.drawn.rest}
        assert sum(image.numpy().tobytes() in kept for image in case.drawn.support) <= 1  # twins in the data apart


def test_what_was_learned_is_kept_by_what_it_depends_on(tmp_path: Path) -> None:
    option = bench.Option(name="reptile", lr=0.1, how="sgd", follow_lr=0.1)
    learner = bench.Learner(tiny_groups(), 2, tmp_path)
    weights, _ = learner.start(option, 3)
    again, _ = bench.Learner(tiny_groups(), 2, tmp_path).start(option, 3)
    assert all(torch.equal(w, again["g"][name]) for name, w in weights["g"].items())
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    learner.start(option, 3)
    assert file.stat().st_mtime_ns == before
    for other in (bench.Learner(tiny_groups(), 3, tmp_path), bench.Learner(tiny_groups(range(1, 4)), 2, tmp_path)):
        other.start(option, 3)
    learner.start(option, 4)
    assert len(list(tmp_path.iterdir())) == 4


def test_joint_training_sees_every_group_as_often() -> None:
    random = torch.Generator().manual_seed(0)
    counts = torch.bincount(bench._as_often(7, 24, random), minlength=7)
    assert counts.sum() == 24 and set(counts.tolist()) <= {3, 4}


def test_joint_has_as_many_updates_of_either_player_as_the_inner_loops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.Learner(tiny_groups(), 2, tmp_path).start(bench.Option(name="joint", lr=1e-3, how="adam", follow_lr=1e-3), 0)
    assert f"{2 * 4 * 10} D and {2 * 4 * 10} G updates" in capsys.readouterr().out


def test_summary_is_of_paired_differences_from_joint() -> None:
    random = np.random.default_rng(0)
    rows = []
    for group in ("a", "b"):
        for seed in range(5):
            joint = float(np.exp(random.normal()))
            for start, factor in (("joint", 1.0), ("maml", 1.5), ("reptile", 0.5)):
                for step in (0, 10):
                    row = {"unseen": "classes", "shots": 5, "iterations": step, "start": start, "group": group}
                    row |= {"seed": seed, "fid": factor * joint, "kid": factor, "coverage": 0.5, "memorisation": 1.0}
                    rows.append(row | {"diverged": start == "maml" and seed == 0})
    found = bench.summary(pd.DataFrame(rows).sample(frac=1, random_state=0))
    assert len(found) == 6
    for start, factor, lost in (("joint", 1.0, 0), ("maml", 1.5, 2), ("reptile", 0.5, 0)):
        (row,) = found[(found["start"] == start) & (found["iterations"] == 10)].to_dict("records")
        assert row["ln_fid_ratio"] == pytest.approx(np.log(factor)) == pytest.approx(row["ln_fid_ratio_low"])
        assert row["kid_difference"] == pytest.approx(factor - 1.0)
        assert row["diverged"] == lost


def test_adapting_side_by_side_gives_rows_that_divergence_does_not_drop(tmp_path: Path) -> None:
    learner = bench.Learner(tiny_groups(), 2, tmp_path)
    of = bench.cases(tiny_groups(), 5, [0], 6)
    option = bench.Option(name="scratch", lr=0.0, how="adam", follow_lr=1e-3)
    rows = pd.DataFrame(bench.rows_of(option, learner.start(option, 0), of, [2, 6]))
    assert list(rows["iterations"]) == [0] * 3 + [2] * 3 + [6] * 3 and not rows["diverged"].any()
    weights, _ = learner.start(option, 0)
    broken = {p: {n: torch.full_like(w, 1e30) if p == "d" else w for n, w in o.items()} for p, o in weights.items()}
    lost = pd.DataFrame(bench.rows_of(option, (broken, None), of, [6]))
    after, before = (lost[lost["iterations"] == step].reset_index() for step in (6, 0))
    assert after["diverged"].all() and after["fid"].equals(before["fid"])
