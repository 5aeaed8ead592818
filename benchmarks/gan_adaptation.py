"""GANs adapted to a few images of a kind never seen: meta-learned starts beside what people do.

    python benchmarks/gan_adaptation.py --out docs/results/gan_adaptation

MLP pairs at 12 x 12 pixels, non-saturating loss, R1 of 0.05. What is learned on, chosen on and tested on are characters
of `glyphs` and digits of `mnist5k`, split so that a character is in one part only, in either case and in both sets
(0 with O, 1 with I and L), and for learning also `textures` and `earth`; all as gray. Tested on are those characters
(unseen classes) and the first five classes of data sets of which nothing else was used (unseen data sets): FILE of each
`--unseen npz:FILE`, or `fashion_mnist` where none is given. All starts see the same images and noise (paired), at 5, 25
and 100 images, after 10, 50 and 200 iterations. 0 iterations is the start itself; an adaptation that diverges counts as
that.

Starts: from scratch; joint (a GAN trained on all training images, each group as often, at Adam's rate of 1e-3 or 3e-3
for both players, then fine-tuned); freeze_d (the same with the lower half of D frozen, Mo et al. 2020); maml, fomaml,
reptile, meta_sgd from random weights, with `--iterations` outer iterations; fomaml_after_joint and reptile_after_joint
from the jointly trained ones. Joint training has as many updates of either player as all inner loops of a meta-learned
start; joint_twice has twice as many, which is what a start learned after joint training has in all. Every start may
follow by plain gradient steps at three rates or by Adam at four; which, and at which inner rate it is learned, is
chosen on the groups to choose on, at 25 images and 50 iterations. The chosen ones are then learned anew with a seed of
their own for each seed of the test, so that intervals are over learning too. What was learned is kept in OUT/starts,
and the same command goes on where it was stopped.
"""

import argparse
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from metaopt.gan import LOSSES, Dataset, Pair, PairSpec, load_dataset, make_pair, task_from_spec, to_uint8
from metaopt.meta.maml import Episode, Inner, MetaTraining, Players, Rates, Weights, find_algorithm, stacked
from metaopt.meta.maml.adaptation import AdaptationMeasures, Follow, Target, followed, measured, target
from metaopt.meta.maml.games import Round, game_players, images_of, lower_half, pair_weights
from metaopt.meta.maml.groups import (
    Drawn,
    Group,
    Shots,
    check_groups,
    draw,
    groups_of,
    identity_of,
    image_episode,
    rounds_of,
    stack_rounds,
)
from metaopt.meta.statistics import iqm_interval
from metaopt.metrics import find_features
from metaopt.schedules import build_schedule
from metaopt.training import Training

SPEC = PairSpec(
    network="mlp", size=12, channels=1, width=64, z_dim=16, norm_g="none", norm_d="none", spectral_norm=False
)
LOSS, R1, BATCH, META_BATCH, STEPS, N_SAMPLES, PER_GROUP = "non_saturating", 0.05, 16, 4, 10, 250, 1000
JOINT_LRS, INNER_LRS = (1e-3, 3e-3), (0.03, 0.1)
FOLLOWS: tuple[tuple[Follow, float], ...] = (
    *(("sgd", lr) for lr in (0.03, 0.1, 0.3)),
    *(("adam", lr) for lr in (1e-3, 3e-3, 1e-2, 3e-2)),
)
LADDER, SHOTS = (10, 50, 200), (5, 25, 100)
CHOICE_SHOTS, CHOICE_STEPS, CHOICE_SEEDS = 25, 50, (100, 101)
AFTER = "_after_joint"
JOINT = {"joint": 1, "freeze_d": 1, "joint_twice": 2}
"""Start -> how many times the updates of joint training."""
STARTS = ("scratch", *JOINT, "maml", "fomaml", "reptile", "meta_sgd", f"fomaml{AFTER}", f"reptile{AFTER}")
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ALIKE = {"o": "0", "i": "1", "l": "1"}
SHARES = {"train": 22, "validation": 5, "test": 6}
SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to learn a start and to follow it."""

    name: str
    """Of `STARTS`."""
    lr: float
    """It is learned at: inner rate, or Adam's of joint training; 0 where nothing is learned."""
    how: Follow
    follow_lr: float

    @property
    def text(self) -> str:
        """For the table."""
        return f"{'' if not self.lr else f'learned at {self.lr:g}, '}{self.how} {self.follow_lr:g}"


def pair(seed: int = 0) -> Pair:
    """Fresh networks of a seed."""
    return make_pair(SPEC, torch.Generator().manual_seed(seed))


def players(*, frozen: bool = False) -> Players[Round]:
    """Both networks; with the lower half of D frozen or not."""
    networks = pair()
    return game_players(networks, LOSSES[LOSS], r1=R1, frozen=lower_half(networks) if frozen else None)


def inner(lr: float, steps: int = STEPS) -> Inner:
    """As many updates of D as of G, at the same rate."""
    return Inner(schedule=build_schedule("constant", {"lr_g": lr, "lr_d": lr, "update_ratio": 1.0}), steps=steps)


def shots(k: int, query: int = 50) -> Shots:
    """k images to adapt to."""
    return Shots(shots=k, query=query, batch=BATCH, rounds=STEPS, z_dim=SPEC.z_dim)


# Groups


def identity_of_character(character: str) -> str:
    """What it is whatever its case, with those that look alike."""
    lower = character.lower()
    return ALIKE.get(lower, lower)


def parts_of_characters() -> dict[str, list[str]]:
    """Part -> identities of characters, by a fixed seed."""
    known = sorted({identity_of_character(c) for c in CHARACTERS})
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0)).tolist()
    found, start = {}, 0
    for part, n in SHARES.items():
        found[part] = [known[i] for i in order[start : start + n]]
        start += n
    return found


def character_groups(part: str, glyphs: Dataset, mnist: Dataset) -> list[Group]:
    """The characters of a part in both data sets."""
    identities = parts_of_characters()[part]
    classes = [i for i, c in enumerate(CHARACTERS) if identity_of_character(c) in identities]
    digits = [i for i in range(10) if identity_of_character(str(i)) in identities]
    return [*groups_of(glyphs, classes, channels=1), *groups_of(mnist, digits, channels=1)]


def unseen_sets(spec: str) -> list[Group]:
    """Five classes of a data set, or all of it where it has none; 1,000 images of each."""
    dataset = load_dataset(spec, size=SPEC.size)
    classes = None if dataset.y is None else dataset.y.unique().tolist()[:5]
    name = Path(spec).stem if ":" in spec else spec
    return [
        replace(group, name=f"{name}{group.name.removeprefix(spec)}", x=group.x[:PER_GROUP])
        for group in groups_of(dataset, classes, channels=SPEC.channels)
    ]


# Learning


class Learner:
    """Learns starts, and keeps them by what they depend on."""

    def __init__(self, groups: Sequence[Group], iterations: int, folder: Path) -> None:
        """Starts are learned on `groups`, and kept in `folder`."""
        self.groups, self.iterations, self.folder = groups, iterations, folder

    def start(self, option: Option, seed: int) -> tuple[Weights, Rates | None]:
        """Weights, and learned multipliers where there are any."""
        if option.name == "scratch":
            return pair_weights(pair(seed)), None
        if option.name in JOINT:
            times = JOINT[option.name]
            name = "joint" if times == 1 else option.name
            return self._kept(name, option.lr, seed, lambda: (self._joint(option.lr, seed, times), None))
        return self._kept(option.name, option.lr, seed, lambda: self._meta(option, seed))

    def _joint(self, lr: float, seed: int, times: int) -> Weights:
        random = torch.Generator().manual_seed(seed)
        most = max(len(group.x) for group in self.groups)
        images = [group.x[_as_often(len(group.x), most, random)] for group in self.groups]
        with TemporaryDirectory() as folder:
            file = Path(folder) / "joint.npz"
            np.savez(file, x=torch.cat(images).numpy())
            settings = {"network": SPEC.network, "width": SPEC.width, "z_dim": SPEC.z_dim, "batch": BATCH, "r1": R1}
            task = task_from_spec(
                f"npz:{file}", budget=times * self.iterations * META_BATCH * STEPS, evaluations=1, **settings
            )
            schedule = build_schedule("constant", {"lr_g": lr, "lr_d": lr, "update_ratio": 1.0})
            training = Training(task, schedule, seed)
            *_, last = training.run()
        print(f"joint at {lr:g}: {last.outcome}, {last.d_updates} D and {last.g_updates} G updates", flush=True)
        return pair_weights(Pair(generator=training.generator, discriminator=training.discriminator, z_dim=SPEC.z_dim))

    def _meta(self, option: Option, seed: int) -> tuple[Weights, Rates | None]:
        first = pair_weights(pair(seed))
        if option.name.endswith(AFTER):
            first, _ = self.start(replace(option, name="joint", lr=JOINT_LRS[0]), seed)
        training = MetaTraining(
            stacked(players(), META_BATCH),
            first,
            inner(option.lr),
            find_algorithm(option.name.removesuffix(AFTER)),
            lr=1e-3,
            iterations=self.iterations,
            beta1=0.5,
        )
        for record in training.run(self._episodes(seed)):
            if record.diverged:
                print(f"{option.name} at {option.lr:g} diverged at iteration {record.iteration}", flush=True)
        return training.weights, training.rates

    def _episodes(self, seed: int) -> Iterator[Sequence[Episode[Round]]]:
        random = torch.Generator().manual_seed(seed)
        while True:
            k = (5, 15, 50)[int(torch.randint(3, (), generator=random))]
            yield [image_episode(self.groups, shots(k), META_BATCH, random)]

    def _kept(
        self, name: str, lr: float, seed: int, learn: Callable[[], tuple[Weights, Rates | None]]
    ) -> tuple[Weights, Rates | None]:
        constants = [
            SPEC.width,
            SPEC.z_dim,
            LOSS,
            R1,
            BATCH,
            META_BATCH,
            STEPS,
            self.iterations,
            identity_of(self.groups),
        ]
        key = hashlib.sha256(json.dumps([name, lr, seed, *constants]).encode()).hexdigest()[:12]
        file = self.folder / f"{name}-{lr:g}-{seed}-{key}.pt"
        if not file.exists():
            started = time.perf_counter()
            weights, rates = learn()
            print(f"{name} at {lr:g}, seed {seed}: learned in {time.perf_counter() - started:.0f} s", flush=True)
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(".tmp")
            torch.save({"weights": weights, "rates": None if rates is None else rates.values}, temporary)  # noqa: PD011
            temporary.replace(file)
        content = torch.load(file, weights_only=True)
        return content["weights"], None if content["rates"] is None else Rates(values=content["rates"])


def _as_often(n: int, most: int, random: torch.Generator) -> Tensor:
    """`most` places of n, each as often as any other but for one."""
    return torch.cat([torch.randperm(n, generator=random) for _ in range(-(-most // n))])[:most]


def options(name: str) -> list[Option]:
    """All that may be chosen for a start."""
    learned = JOINT_LRS if name in JOINT else (0.0,) if name == "scratch" else INNER_LRS
    return [Option(name=name, lr=lr, how=how, follow_lr=f) for lr, (how, f) in product(learned, FOLLOWS)]


# Adapting


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A few images to adapt to, of one group and seed."""

    drawn: Drawn
    seed: int
    rounds: list[Round]
    z: Tensor
    """Noise to judge by."""
    target: Target


def cases(groups: Sequence[Group], k: int, seeds: Sequence[int], steps: int) -> list[Case]:
    """The same for every start."""
    found = []
    for seed, (i, group) in product(seeds, enumerate(groups)):
        random = torch.Generator().manual_seed(10_000 * (seed + 1) + 100 * i + k)
        drawn = draw(group, shots(k), random)
        rounds = rounds_of(drawn.support, shots(k), random, n=steps)
        z = torch.randn(N_SAMPLES, SPEC.z_dim, generator=random)
        against = target(drawn.support, drawn.rest, find_features("small"))
        found.append(Case(drawn=drawn, seed=seed, rounds=rounds, z=z, target=against))
    return found


def adapted(
    option: Option, start: tuple[Weights, Rates | None], of: Sequence[Case], ladder: Sequence[int]
) -> Iterator[tuple[int, list[Tensor]]]:
    """Images (N_SAMPLES, C, H, H) of each case's generator before and at each step of the ladder; all side by side."""
    weights, rates = start
    together = stacked(players(frozen=option.name == "freeze_d"), len(of))
    first = {p: {n: w.detach().expand(len(of), *w.shape) for n, w in o.items()} for p, o in weights.items()}
    rounds, networks = stack_rounds([case.rounds for case in of]), pair()

    def images(now: Weights) -> list[Tensor]:
        return [images_of(networks, {n: w[i].detach() for n, w in now["g"].items()}, c.z) for i, c in enumerate(of)]

    yield 0, images(first)
    loop = inner(option.follow_lr, max(ladder))
    for step, now in enumerate(followed(together, first, rounds, loop, rates, how=option.how), start=1):
        if step in ladder:
            yield step, images(now)


def rows_of(
    option: Option, start: tuple[Weights, Rates | None], of: Sequence[Case], ladder: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """A row a case and step."""
    unadapted: list[AdaptationMeasures] = []
    for step, images in adapted(option, start, of, ladder):
        found = [
            measured(x, case.target, torch.Generator().manual_seed(case.seed))
            for x, case in zip(images, of, strict=True)
        ]
        unadapted = unadapted or found
        for case, one, before in zip(of, found, unadapted, strict=True):
            diverged = not math.isfinite(one.fid)
            values = before if diverged else one
            yield {
                "start": option.name,
                "group": case.drawn.group.name,
                "shots": len(case.drawn.support),
                "seed": case.seed,
                "iterations": step,
                "fid": values.fid,
                "kid": values.kid,
                "coverage": values.coverage,
                "memorisation": values.memorisation,
                "diverged": diverged,
            }


def chosen(name: str, learner: Learner, groups: Sequence[Group]) -> Option:
    """What does best on the groups to choose on: mean ln FID at 25 images and 50 iterations."""
    of = cases(groups, CHOICE_SHOTS, CHOICE_SEEDS, CHOICE_STEPS)

    def mean_log_fid(option: Option) -> float:
        table = pd.DataFrame(rows_of(option, learner.start(option, CHOICE_SEEDS[0]), of, [CHOICE_STEPS]))
        return float(np.log(table.loc[table["iterations"] == CHOICE_STEPS, "fid"]).mean())

    scored = [(mean_log_fid(option), i, option) for i, option in enumerate(options(name))]
    value, _, best = min(scored, key=lambda one: one[:2])
    print(f"{name}: {best.text} of {len(scored)} options, ln FID {value:.3f} where it was chosen", flush=True)
    return best


def tested(best: dict[str, Option], learner: Learner, groups: Sequence[Group], seeds: Sequence[int]) -> pd.DataFrame:
    """A row a start, number of images, group, seed and step of the ladder; a start of its own for each seed."""
    rows: list[dict[str, Any]] = []
    for k, seed in product(SHOTS, seeds):
        of = cases(groups, k, [seed], max(LADDER))
        for option in best.values():
            rows += rows_of(option, learner.start(option, seed), of, LADDER)
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Medians by start, and the interquartile mean of paired differences from joint, with its 95 % interval.

    ln(FID / FID of joint), and the difference of KIDs.
    """
    rows = []
    for (where, k, step), part in table.groupby(["unseen", "shots", "iterations"]):
        joint = part[part["start"] == "joint"].set_index(["group", "seed"]).sort_index()
        for name in dict.fromkeys(part["start"]):
            own = part[part["start"] == name].set_index(["group", "seed"]).sort_index()
            ratio, further = np.log(own["fid"] / joint["fid"]), own["kid"] - joint["kid"]
            row: dict[str, Any] = {"unseen": where, "shots": k, "iterations": step, "start": name}
            row |= {key: own[key].median() for key in ("fid", "kid", "coverage", "memorisation")}
            for key, values in (("ln_fid_ratio", ratio), ("kid_difference", further)):
                by_group = [list(of) for _, of in pd.Series(values).groupby(level="group")]
                found = iqm_interval(by_group, np.random.default_rng(0))
                row |= {key: found.estimate, f"{key}_low": found.low, f"{key}_high": found.high}
            rows.append(row | {"diverged": int(own["diverged"].sum())})
    return pd.DataFrame(rows)


def draw_grid(path: Path, best: dict[str, Option], learner: Learner, groups: Sequence[Group]) -> None:
    """For four groups: images adapted to, and samples of each start at 25 images and 50 iterations."""
    of = cases([groups[i] for i in np.linspace(0, len(groups) - 1, 4).astype(int)], 25, [0], 50)
    figure = Figure(figsize=(12, 0.62 * (len(best) + 1) + 0.2), layout="constrained")
    axes = figure.subplots(len(best) + 1, len(of), squeeze=False)
    for axis, case in zip(axes[0], of, strict=True):
        _strip(axis, case.drawn.support[:SHOWN], case.drawn.group.name)
    axes[0][0].set_ylabel("adapted to", fontsize=7)
    for row, option in zip(axes[1:], best.values(), strict=True):
        *_, (_, images) = adapted(option, learner.start(option, 0), of, [50])
        for axis, x in zip(row, images, strict=True):
            _strip(axis, to_uint8(x[:SHOWN].nan_to_num()), "")
        row[0].set_ylabel(option.name.replace(AFTER, "\nafter joint"), fontsize=7)
    figure.savefig(path, dpi=110)


def _strip(axis: Any, images: Tensor, title: str) -> None:
    axis.imshow(torch.cat([x[0] for x in images], dim=1), cmap="gray", vmin=0, vmax=255)
    axis.set_title(title, fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])


def main() -> None:
    """Learn, choose, test, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=600, help="outer iterations of each meta-learned start")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--unseen", action="append", help="data sets for the test; repeatable")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    glyphs, mnist, *whole = (load_dataset(name, size=SPEC.size) for name in ("glyphs", "mnist5k", "textures", "earth"))
    train = [
        *character_groups("train", glyphs, mnist),
        *(g for data in whole for g in groups_of(data, None, channels=1)),
    ]
    validation = character_groups("validation", glyphs, mnist)
    test = {
        "classes": character_groups("test", glyphs, mnist),
        "data sets": [group for spec in asked.unseen or ["fashion_mnist"] for group in unseen_sets(spec)],
    }
    check_groups([*train, *validation], shots(50))
    for groups in test.values():
        check_groups(groups, shots(max(SHOTS), query=6))
    learner = Learner(train, asked.iterations, asked.out / "starts")
    best = {name: chosen(name, learner, validation) for name in STARTS}
    tables = []
    for where, groups in test.items():
        tables.append(tested(best, learner, groups, range(asked.seeds)).assign(unseen=where))
        draw_grid(asked.out / f"samples-{where.replace(' ', '-')}.png", best, learner, groups)
    table = pd.concat(tables)
    table.to_csv(asked.out / "measures.csv", index=False, float_format="%.4g")
    found = summary(table)
    found["option"] = [best[name].text for name in found["start"]]
    found.to_csv(asked.out / "summary.csv", index=False)
    print(found[found["iterations"] > 0].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
