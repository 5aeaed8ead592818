"""GANs adapted to a few images of a kind never seen: meta-learned starts beside what people do.

    python benchmarks/gan_adaptation.py --out docs/results/gan_adaptation

MLP pairs at 12 x 12 pixels, non-saturating loss, R1 of 0.05. Starts are learned on 40 characters of `glyphs`, seven
digits of `mnist5k`, `textures` and `earth` (all as gray); what is left to choose about each (its inner rate, plain
steps or Adam and its rate) is chosen on ten other characters and another digit, at 25 images and 50 iterations. Then
each adapts to 5, 25 and 100 images of classes never seen (six characters, two digits) and of data sets never seen
(`fashion_mnist`, and classes of FILE where `--unseen npz:FILE` is given), for 10, 50 and 200 iterations. All starts see
the same images and noise (paired). 0 iterations is the start itself; an adaptation that diverges counts as that.

Starts: from scratch; joint (a GAN trained on all of the training images with metaopt's `static` schedule, then
fine-tuned); freeze_d (the same with the lower half of D frozen, Mo et al. 2020); maml, fomaml, reptile, meta_sgd from
random weights; fomaml_after_joint and reptile_after_joint from the jointly trained ones.
Pretraining takes as many updates as all inner loops of a meta-learned start have together, and runs again are cheap:
what was learned is kept in OUT/starts.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from metaopt.gan import LOSSES, Pair, PairSpec, load_dataset, make_pair, task_from_spec, to_uint8
from metaopt.meta.maml import Episode, Inner, MetaTraining, Players, Weights, find_algorithm, stacked
from metaopt.meta.maml.adaptation import AdaptationMeasures, Follow, Target, followed, measured, target
from metaopt.meta.maml.games import Round, game_players, images_of, lower_half, pair_weights
from metaopt.meta.maml.groups import (
    Drawn,
    Group,
    Shots,
    check_groups,
    draw,
    groups_of,
    image_episode,
    rounds_of,
    stack_rounds,
)
from metaopt.meta.maml.inner import Rates
from metaopt.meta.statistics import iqm_interval
from metaopt.metrics import find_features
from metaopt.schedules import build_schedule, find_schedule
from metaopt.training import Training

SPEC = PairSpec(
    network="mlp", size=12, channels=1, width=64, z_dim=16, norm_g="none", norm_d="none", spectral_norm=False
)
LOSS, R1, BATCH, META_BATCH, STEPS, N_SAMPLES, PER_GROUP = "non_saturating", 0.05, 16, 4, 10, 250, 1000
INNER_LRS, ADAM_LRS = (0.03, 0.1, 0.3), (1e-3, 3e-3, 1e-2)
LADDER, SHOTS = (10, 50, 200), (5, 25, 100)
CHOICE = {"shots": 25, "steps": 50}
META = ("maml", "fomaml", "reptile", "meta_sgd")
AFTER = "_after_joint"
STARTS = ("scratch", "joint", "freeze_d", *META, f"fomaml{AFTER}", f"reptile{AFTER}")
SHOWN = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """Where adaptation starts and how it goes on."""

    weights: Weights
    rates: Rates | None = None
    how: Follow = "adam"
    lr: float
    frozen: bool = False

    @property
    def text(self) -> str:
        """For the table."""
        return f"{self.how} {self.lr:g}"


def pair() -> Pair:
    """Fresh networks, always the same ones."""
    return make_pair(SPEC, torch.Generator().manual_seed(0))


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


def split() -> tuple[dict[str, list[Group]], dict[str, list[Group]]]:
    """Groups to learn on and to choose on; and those of the test, by what is unseen."""
    glyphs, mnist = (load_dataset(name, size=SPEC.size) for name in ("glyphs", "mnist5k"))
    order = torch.randperm(62, generator=torch.Generator().manual_seed(0)).tolist()
    whole = [load_dataset(name, size=SPEC.size) for name in ("textures", "earth")]
    train = [*groups_of(glyphs, order[:40], channels=1), *groups_of(mnist, range(7), channels=1)]
    for dataset in whole:
        train += groups_of(dataset, None, channels=1)
    validation = [*groups_of(glyphs, order[40:50], channels=1), *groups_of(mnist, [7], channels=1)]
    classes = [*groups_of(glyphs, order[50:56], channels=1), *groups_of(mnist, [8, 9], channels=1)]
    return {"train": train, "validation": validation}, {"unseen classes": classes}


def unseen_sets(spec: str) -> list[Group]:
    """Five classes of a data set, or all of it where it has none; 1,000 images of each."""
    dataset = load_dataset(spec, size=SPEC.size)
    classes = None if dataset.y is None else dataset.y.unique().tolist()[:5]
    name = Path(spec).stem if ":" in spec else spec
    return [
        Group(name=f"{name}{group.name.removeprefix(spec)}", x=group.x[:PER_GROUP], identity=group.identity)
        for group in groups_of(dataset, classes, channels=SPEC.channels)
    ]


def meta_learned(name: str, lr: float, first: Weights, groups: Sequence[Group], *, iterations: int, seed: int) -> Start:
    """A start by one of the algorithms, from `first` on, with images of 5 to 50 an episode."""
    training = MetaTraining(
        stacked(players(), META_BATCH),
        first,
        inner(lr),
        find_algorithm(name.removesuffix(AFTER)),
        lr=1e-3,
        iterations=iterations,
        beta1=0.5,
    )

    def episodes() -> Iterator[Sequence[Episode[Round]]]:
        random = torch.Generator().manual_seed(seed)
        while True:
            k = (5, 15, 50)[int(torch.randint(3, (), generator=random))]
            yield [image_episode(groups, shots(k), META_BATCH, random)]

    for record in training.run(episodes()):
        if record.diverged:
            print(f"{name} at inner rate {lr:g} diverged at iteration {record.iteration}", flush=True)
    return Start(weights=training.weights, rates=training.rates, how="sgd", lr=lr)


def jointly_trained(iterations: int, groups: Sequence[Group], seed: int) -> Weights:
    """A GAN trained on as many images of each group, with the `static` schedule."""
    random = torch.Generator().manual_seed(seed)
    images = [group.x[torch.randint(len(group.x), (PER_GROUP // 4,), generator=random)] for group in groups]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "joint.npz"
        np.savez(file, x=torch.cat(images).numpy())
        task = task_from_spec(
            f"npz:{file}",
            network=SPEC.network,
            width=SPEC.width,
            z_dim=SPEC.z_dim,
            batch=BATCH,
            budget=iterations,
            loss=LOSS,
            r1=R1,
            evaluations=1,
        )
        training = Training(task, find_schedule("static").build(), seed)
        *_, last = training.run()
    print(f"joint: {last.outcome}, FID to all training images {last.fid}", flush=True)
    trained = Pair(generator=training.generator, discriminator=training.discriminator, z_dim=SPEC.z_dim)
    return pair_weights(trained)


def starts(name: str, asked: argparse.Namespace, groups: Sequence[Group]) -> list[Start]:
    """All that could be chosen for a start; kept in a file once learned."""
    if name == "scratch":
        return [Start(weights=pair_weights(pair()), lr=lr) for lr in ADAM_LRS]
    joint = kept(asked, "joint", lambda: {"weights": jointly_trained(_passes(asked), groups, asked.seed)})["weights"]
    if name in ("joint", "freeze_d"):
        return [Start(weights=joint, lr=lr, frozen=name == "freeze_d") for lr in ADAM_LRS]
    first = joint if name.endswith(AFTER) else pair_weights(pair())
    found = []
    for lr in INNER_LRS:
        content = kept(asked, f"{name}-{lr:g}", lambda lr=lr: _content(name, lr, first, asked, groups))
        rates = None if content["rates"] is None else Rates(values=content["rates"])
        found.append(Start(weights=content["weights"], rates=rates, how="sgd", lr=lr))
        found += [Start(weights=content["weights"], lr=adam_lr) for adam_lr in ADAM_LRS]
    return found


def _passes(asked: argparse.Namespace) -> int:
    """Updates of all inner loops together."""
    return int(asked.iterations) * META_BATCH * STEPS


def _content(
    name: str, lr: float, first: Weights, asked: argparse.Namespace, groups: Sequence[Group]
) -> dict[str, Weights | None]:
    start = meta_learned(name, lr, first, groups, iterations=asked.iterations, seed=asked.seed)
    rates = None if start.rates is None else start.rates.values  # noqa: PD011 (no pandas here)
    return {"weights": start.weights, "rates": rates}


def kept(asked: argparse.Namespace, name: str, learn):  # type: ignore[no-untyped-def]
    """What `learn` gives, from OUT/starts where it is there."""
    file = asked.out / "starts" / f"{name}-{asked.iterations}-{asked.seed}.pt"
    if not file.exists():
        started = time.perf_counter()
        content = learn()
        print(f"{name}: learned in {time.perf_counter() - started:.0f} s", flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, file)
    return torch.load(file, weights_only=True)


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
    for i, group in enumerate(groups):
        for seed in seeds:
            random = torch.Generator().manual_seed(10_000 * (seed + 1) + 100 * i + k)
            drawn = draw(group, shots(k), random)
            rounds = rounds_of(drawn.support, shots(k), random, n=steps)
            z = torch.randn(N_SAMPLES, SPEC.z_dim, generator=random)
            against = target(drawn.support, drawn.rest, find_features("small"))
            found.append(Case(drawn=drawn, seed=seed, rounds=rounds, z=z, target=against))
    return found


def adapted(start: Start, of: Sequence[Case], ladder: Sequence[int]) -> Iterator[tuple[int, list[Tensor]]]:
    """Images (N_SAMPLES, C, H, H) of each case's generator at each step of the ladder and before; all side by side."""
    together = stacked(players(frozen=start.frozen), len(of))
    first: Weights = {
        p: {n: w.detach().expand(len(of), *w.shape) for n, w in o.items()} for p, o in start.weights.items()
    }
    rounds = stack_rounds([case.rounds for case in of])
    networks = pair()

    def images(weights: Weights) -> list[Tensor]:
        return [images_of(networks, {n: w[i].detach() for n, w in weights["g"].items()}, c.z) for i, c in enumerate(of)]

    yield 0, images(first)
    for step, weights in enumerate(
        followed(together, first, rounds, inner(start.lr, max(ladder)), start.rates, how=start.how), 1
    ):
        if step in ladder:
            yield step, images(weights)


def rows_of(name: str, start: Start, of: Sequence[Case], ladder: Sequence[int]) -> Iterator[dict[str, object]]:
    """A row a case and step."""
    unadapted: list[AdaptationMeasures] = []
    for step, images in adapted(start, of, ladder):
        found = [
            measured(x, case.target, torch.Generator().manual_seed(case.seed))
            for x, case in zip(images, of, strict=True)
        ]
        unadapted = unadapted or found
        for case, one, before in zip(of, found, unadapted, strict=True):
            diverged = not math.isfinite(one.fid)
            values = before if diverged else one
            yield {
                "start": name,
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


def chosen(name: str, asked: argparse.Namespace, parts: dict[str, list[Group]]) -> Start:
    """What does best on the groups to choose on: mean ln FID at 25 images and 50 iterations."""
    of = cases(parts["validation"], CHOICE["shots"], [100, 101], CHOICE["steps"])

    def mean_log_fid(start: Start) -> float:
        table = pd.DataFrame(rows_of(name, start, of, [CHOICE["steps"]]))
        return float(np.log(table.loc[table["iterations"] == CHOICE["steps"], "fid"]).mean())

    scored = [(mean_log_fid(start), i, start) for i, start in enumerate(starts(name, asked, parts["train"]))]
    for value, _, start in scored:
        print(f"{name}, {start.text}: ln FID {value:.3f} on the groups to choose on", flush=True)
    return min(scored, key=lambda one: one[:2])[2]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Medians by start, and IQM of ln(FID / FID of joint) with its 95 % interval; KID's mean difference likewise."""
    rows = []
    keys = ["unseen", "shots", "iterations"]
    for (where, k, step), part in table.groupby(keys):
        joint = part[part["start"] == "joint"].set_index(["group", "seed"]).sort_index()
        for name in STARTS:
            own = part[part["start"] == name].set_index(["group", "seed"]).sort_index()
            ratio, further = np.log(own["fid"] / joint["fid"]), own["kid"] - joint["kid"]
            row: dict[str, object] = {"unseen": where, "shots": k, "iterations": step, "start": name}
            row |= {key: own[key].median() for key in ("fid", "kid", "coverage", "memorisation")}
            for key, values in (("ln_fid_ratio", ratio), ("kid_difference", further)):
                by_group = [list(of) for _, of in pd.Series(values).groupby(level="group")]
                found = iqm_interval(by_group, np.random.default_rng(0))
                row |= {key: found.estimate, f"{key}_low": found.low, f"{key}_high": found.high}
            rows.append(row | {"diverged": int(own["diverged"].sum())})
    return pd.DataFrame(rows)


def draw_grid(path: Path, best: dict[str, Start], groups: Sequence[Group]) -> None:
    """For four groups: images adapted to, and samples of each start at 25 images and 50 iterations."""
    of = cases([groups[i] for i in np.linspace(0, len(groups) - 1, 4).astype(int)], 25, [0], 50)
    figure = Figure(figsize=(12, 0.62 * (len(best) + 1) + 0.2), layout="constrained")
    axes = figure.subplots(len(best) + 1, len(of), squeeze=False)
    for axis, case in zip(axes[0], of, strict=True):
        _strip(axis, case.drawn.support[:SHOWN], case.drawn.group.name)
    axes[0][0].set_ylabel("adapted to", fontsize=8)
    for row, (name, start) in zip(axes[1:], best.items(), strict=True):
        *_, (_, images) = adapted(start, of, [50])
        for axis, x in zip(row, images, strict=True):
            _strip(axis, to_uint8(x[:SHOWN].nan_to_num()), "")
        row[0].set_ylabel(name, fontsize=8)
    figure.savefig(path, dpi=110)


def _strip(axis, images: Tensor, title: str) -> None:  # type: ignore[no-untyped-def]
    axis.imshow(torch.cat([x[0] for x in images], dim=1), cmap="gray", vmin=0, vmax=255)
    axis.set_title(title, fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])


def main() -> None:
    """Learn, choose, test, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=600, help="outer iterations of each meta-learned start")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of learning")
    parser.add_argument("--unseen", action="append", default=[], help="further data sets for the test; repeatable")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    parts, test = split()
    test["unseen data sets"] = [group for spec in ("fashion_mnist", *asked.unseen) for group in unseen_sets(spec)]
    check_groups([*parts["train"], *parts["validation"]], shots(50))
    for groups in test.values():
        check_groups(groups, shots(max(SHOTS), query=6))
    best = {name: chosen(name, asked, parts) for name in STARTS}
    rows: list[dict[str, object]] = []
    for where, groups in test.items():
        for k in SHOTS:
            of = cases(groups, k, range(asked.seeds), max(LADDER))
            for name, start in best.items():
                rows += [{"unseen": where, **row} for row in rows_of(name, start, of, LADDER)]
        draw_grid(asked.out / f"samples-{where.replace(' ', '-')}.png", best, groups)
    table = pd.DataFrame(rows)
    table.to_csv(asked.out / "measures.csv", index=False)
    found = summary(table)
    found["follows"] = [best[name].text for name in found["start"]]
    found.to_csv(asked.out / "summary.csv", index=False)
    print(found[found["iterations"] > 0].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
