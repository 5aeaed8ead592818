"""`metaopt adapt` as a user runs it."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import invoke
from PIL import Image
from studies import metaopt, read_csv

from metaopt.cli.adapt import ladder
from metaopt.gan import PairSpec, load_dataset, make_pair
from metaopt.gan.images import content_hash, with_channels
from metaopt.meta.maml import Initialisation, Rates, Weights, load_initialisation, save_initialisation
from metaopt.meta.maml.adaptation import followed, measured, target
from metaopt.meta.maml.games import images_of, pair_weights
from metaopt.meta.maml.groups import Shots, rounds_of
from metaopt.metrics import small_features

SPEC = PairSpec(network="mlp", size=8, channels=1, width=24, z_dim=6, norm_g="none", norm_d="none", spectral_norm=False)
ADAM = {"family": "constant", "params": {"lr_g": 4e-3, "lr_d": 4e-3, "update_ratio": 1.5}, "how": "adam"}
SGD = {"family": "power_decay", "params": {"lr_g": 0.1, "lr_d": 0.05, "update_ratio": 1.0, "power": 1.0}, "how": "sgd"}
WIDE = {"COLUMNS": "500", "NO_COLOR": "1"}
"""No line breaks in what typer says."""
WRITTEN = ["adaptation.csv", "adapted.safetensors", "after.png", "before.png", "support.png"]


def initialisation(path: Path, spec: PairSpec = SPEC, **fields: Any) -> Path:
    usual: dict[str, Any] = {
        "spec": spec,
        "loss": "non_saturating",
        "weights": fields.pop("weights", None) or pair_weights(make_pair(spec, torch.Generator().manual_seed(0))),
        "steps": 5,
        "batch": 8,
        "algorithm": "reptile",
        "trained_on": ("glyphs-1",),
        "score": 0.5,
        "provenance": {"made_by": "a test"},
    }
    return save_initialisation(Initialisation(**usual | ADAM | fields), path)


def folder_of_images(path: Path, n: int = 60, *, colour: bool = False) -> Path:
    """Handwritten digits as PNGs, gray or green."""
    path.mkdir()
    for i, image in enumerate(load_dataset("digits").x[:n, 0].numpy()):
        shown = np.stack([image // 3, image, image // 2], -1) if colour else image
        Image.fromarray(shown).save(path / f"{i:03d}.png")
    return path


def adapted(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    done = invoke("adapt", *arguments, **options)
    assert "Traceback" not in done.stderr
    return done


def same(a: Weights, b: Weights) -> bool:
    return all(torch.equal(w, b[p][n]) for p, of in a.items() for n, w in of.items())


def directly(init: Initialisation, images: torch.Tensor, steps: int, seed: int) -> list[Weights]:
    """The weights after each step, by the library alone."""
    random = torch.Generator().manual_seed(seed)
    shots = Shots(shots=len(images), query=1, batch=init.batch, rounds=1, z_dim=init.spec.z_dim)
    pair = init.pair()
    players, inner = init.players(pair), init.inner(steps)
    rounds = rounds_of(images, shots, random, n=128)  # as many as the command keeps; the first ones are the same
    return list(followed(players, init.weights, rounds, inner, init.rates, how=init.how))


def test_the_ladder_is_geometric_with_both_ends() -> None:
    assert ladder(1) == [0, 1]
    assert ladder(5) == [0, 1, 2, 3, 5]
    assert ladder(50) == [0, 1, 3, 7, 19, 50]
    assert ladder(10_000) == [0, 1, 10, 100, 1000, 10_000]


@pytest.mark.parametrize("fields", [ADAM, SGD, "rates"])
def test_the_weights_are_those_of_the_library(tmp_path: Path, fields: Any) -> None:
    if fields == "rates":
        weights = pair_weights(make_pair(SPEC, torch.Generator().manual_seed(0)))
        random = torch.Generator().manual_seed(2)
        values = {p: {n: torch.rand(3, generator=random) for n in of} for p, of in weights.items()}
        fields = SGD | {"rates": Rates(values=values, per_step=True), "steps": 3}
    file, folder = initialisation(tmp_path / "i", **fields), folder_of_images(tmp_path / "images", 30)
    out = tmp_path / "out"
    done = adapted("--init", file, "--data", folder, "--out", out, "--steps", 8, "--seed", 4, "--samples", 30)
    assert done.returncode == 0, done.stderr
    init, found = load_initialisation(file), load_initialisation(out / "adapted.safetensors")
    expected = directly(init, load_dataset(f"folder:{folder}", size=8).x, 8, 4)
    assert not same(expected[-1], expected[-2])
    assert same(found.weights, expected[-1])
    assert found.provenance == {
        "made_by": "a test",
        "adapted_from": str(file),
        "adapted_to": str(folder),
        "adapted_to_images": 30,
        "adapted_to_content": content_hash(load_dataset(f"folder:{folder}", size=8).x),
        "adapted_steps": 8,
        "adapted_seed": 4,
    }
    assert found.score is None
    kept = ("spec", "loss", "r1", "family", "params", "steps", "batch", "how", "frozen", "algorithm", "trained_on")
    assert all(getattr(found, name) == getattr(init, name) for name in kept)
    assert (found.rates is None) == (init.rates is None)


def test_shots_are_adapted_to_and_the_others_are_compared_with(tmp_path: Path) -> None:
    file, folder = initialisation(tmp_path / "i"), folder_of_images(tmp_path / "images")
    arguments = ("--steps", 6, "--shots", 20, "--seed", 3, "--samples", 40)
    out = tmp_path / "out"
    done = adapted("--init", file, "--data", folder, "--out", out, *arguments)
    assert done.returncode == 0, done.stderr
    assert "adapting to 20 images, and comparing with the other 40" in done.stdout
    images = load_dataset(f"folder:{folder}", size=8).x
    order = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    init = load_initialisation(file)
    expected = directly(init, images[order[:20]], 6, 3)
    assert same(load_initialisation(out / "adapted.safetensors").weights, expected[-1])
    against = target(images[order[:20]], images[order[20:]], small_features)
    z = torch.randn(40, 6, generator=torch.Generator().manual_seed(3))
    rows = read_csv(out / "adaptation.csv")
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 4, 6]
    for row in rows:
        weights = [init.weights, *expected][int(row["step"])]
        found = measured(images_of(init.pair(), weights["g"], z), against, torch.Generator().manual_seed(3))
        assert {name: float(row[name]) for name in asdict(found)} == pytest.approx(asdict(found), rel=1e-9)


def test_adapting_makes_better_images_and_writes_pictures(tmp_path: Path) -> None:
    file, folder = initialisation(tmp_path / "i"), folder_of_images(tmp_path / "images", 120)
    out = tmp_path / "out"
    done = adapted("--init", file, "--data", f"folder:{folder}", "--out", out, "--steps", 300, "--shots", 60)
    assert done.returncode == 0, done.stderr
    rows = read_csv(out / "adaptation.csv")
    assert list(rows[0]) == ["step", "fid", "kid", "coverage", "memorisation"]
    assert float(rows[-1]["kid"]) < 0.5 * float(rows[0]["kid"])
    assert float(rows[-1]["fid"]) < 0.7 * float(rows[0]["fid"])
    assert float(rows[-1]["memorisation"]) > 0
    assert sorted(path.name for path in out.iterdir()) == WRITTEN
    sizes = {}
    for name in ("before", "after", "support"):
        with Image.open(out / f"{name}.png") as grid:
            sizes[name] = grid.size
    assert sizes["before"] == sizes["after"] == (8 * 32 + 9 * 2, 8 * 32 + 9 * 2)
    assert (out / "before.png").read_bytes() != (out / "after.png").read_bytes()
    for row in rows:
        assert f"{float(row['fid']):.4g}" in done.stdout
        assert f"{float(row['memorisation']):.4g}" in done.stdout


def test_the_python_that_is_printed_loads_the_generator(tmp_path: Path) -> None:
    file, folder = initialisation(tmp_path / "i"), folder_of_images(tmp_path / "it's", 12)
    done = adapted("--init", file, "--data", folder, "--out", "it's out", "--steps", 2, "--samples", 4, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names: dict[str, Any] = {}
    exec("\n".join(done.stdout.splitlines()[-4:]), names)
    assert names["images"].shape == (16, 1, 8, 8)
    found = load_initialisation(tmp_path / "it's out" / "adapted.safetensors")
    assert same(pair_weights(names["pair"]), found.weights)


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    file, folder = initialisation(tmp_path / "i"), folder_of_images(tmp_path / "images")
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        arguments = ("--out", tmp_path / name, "--seed", seed, "--shots", 20, "--steps", 5, "--samples", 20)
        assert adapted("--init", file, "--data", folder, *arguments).returncode == 0
    for name in WRITTEN:
        one, two, other = ((tmp_path / out / name).read_bytes() for out in ("one", "two", "other"))
        assert one == two
        assert one != other


def test_all_images_are_for_both_unless_shots_are_asked_for(tmp_path: Path) -> None:
    file = initialisation(tmp_path / "i")
    out = tmp_path / "out"
    done = adapted("--init", file, "--data", "digits", "--out", out, "--steps", 1, "--samples", 100)
    assert done.returncode == 0, done.stderr
    assert "adapting to all 1797 images, and comparing with the same: FID does not see memorisation" in done.stdout
    assert "too few for a covariance" not in done.stdout
    rows = read_csv(out / "adaptation.csv")
    assert all(float(row["fid"]) > 0 and row["memorisation"] == "" for row in rows)


@pytest.mark.parametrize(("n", "shots"), [(5, None), (1, None), (12, 7), (8, 8)])
def test_too_few_to_compare_with_are_adapted_to_without_measures(tmp_path: Path, n: int, shots: int | None) -> None:
    file, folder = initialisation(tmp_path / "i"), folder_of_images(tmp_path / "images", n)
    out = tmp_path / "out"
    more = () if shots is None else ("--shots", shots)
    done = adapted("--init", file, "--data", folder, "--out", out, "--steps", 3, *more)
    assert done.returncode == 0, done.stderr
    left = n if shots is None else n - shots
    assert f"no measures: there must be 6 images or more to compare with, but there are {left}\n" in done.stdout
    rows = read_csv(out / "adaptation.csv")
    assert [int(row.pop("step")) for row in rows] == [0, 1, 2, 3]
    assert all(value == "" for row in rows for value in row.values())
    found = load_initialisation(out / "adapted.safetensors")
    assert not same(found.weights, load_initialisation(file).weights)


def test_copies_are_told_and_memorisation_is_left_out(tmp_path: Path) -> None:
    """Else it would be a distance over 0."""
    folder = folder_of_images(tmp_path / "images", 2)
    for i in range(18):
        (folder / f"copy{i}.png").write_bytes((folder / f"00{i % 2}.png").read_bytes())
    out = tmp_path / "out"
    arguments = ("--out", out, "--shots", 10, "--steps", 2, "--samples", 10)
    done = adapted("--init", initialisation(tmp_path / "i"), "--data", folder, *arguments)
    assert done.returncode == 0, done.stderr
    assert "no memorisation: 10 of the 10 images to compare with are copies of those adapted to" in done.stdout
    assert all(float(row["fid"]) > 0 and row["memorisation"] == "" for row in read_csv(out / "adaptation.csv"))


def test_fewer_images_than_shots(tmp_path: Path) -> None:
    file, folder = initialisation(tmp_path / "i"), folder_of_images(tmp_path / "images", 9)
    done = metaopt("adapt", "--init", file, "--data", folder, "--out", tmp_path / "out", "--shots", 10)
    assert done.returncode == 2
    assert f"{folder} must have at least as many images as --shots, 10, but has 9." in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_made_gray_or_colour_and_of_the_size_of_the_networks(tmp_path: Path, channels: int) -> None:
    spec = replace(SPEC, channels=channels, size=12)
    file = initialisation(tmp_path / "i", spec)
    folder = folder_of_images(tmp_path / "images", 10, colour=channels == 1)
    images = load_dataset(f"folder:{folder}", size=12).x
    assert images.shape[1] != channels
    out = tmp_path / "out"
    done = adapted("--init", file, "--data", folder, "--out", out, "--steps", 3, "--samples", 8)
    assert done.returncode == 0, done.stderr
    expected = directly(load_initialisation(file), with_channels(images, channels), 3, 0)
    assert same(load_initialisation(out / "adapted.safetensors").weights, expected[-1])
    with Image.open(out / "support.png") as grid:
        shown = np.asarray(grid).astype(int)
    assert (np.ptp(shown, axis=-1).max() == 0) == (images.shape[1] == 1 or channels == 1)


def test_an_npz_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=load_dataset("digits").x[:12].numpy())
    file = initialisation(tmp_path / "i")
    arguments = ("--init", file, "--data", f"npz:{tmp_path}/mine.npz", "--out", tmp_path / "out", "--steps", 1)
    done = metaopt("adapt", *arguments)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == WRITTEN


def test_a_home_folder_that_no_shell_has_filled_in(tmp_path: Path) -> None:
    folder_of_images(tmp_path / "faces", 8)
    file = initialisation(tmp_path / "i")
    home = {"HOME": str(tmp_path)}
    done = adapted("--init", file, "--data", "~/faces", "--out", tmp_path / "out", "--steps", 1, env=home)
    assert done.returncode == 0, done.stderr


def test_divergence_keeps_what_was_measured(tmp_path: Path) -> None:
    params = {"lr_g": 10.0, "lr_d": 10.0, "update_ratio": 1.0}
    file = initialisation(tmp_path / "i", loss="lsgan", family="constant", params=params, how="sgd")
    folder, out = folder_of_images(tmp_path / "images", 20), tmp_path / "out"
    done = adapted("--init", file, "--data", folder, "--out", out, "--steps", 400, "--samples", 20)
    assert done.returncode == 1
    step = int(done.stderr.partition("diverged at step ")[2].partition(":")[0])
    weights = directly(load_initialisation(file), load_dataset(f"folder:{folder}", size=8).x, 400, 0)
    finite = [all(bool(w.isfinite().all()) for of in one.values() for w in of.values()) for one in weights]
    assert finite[: step - 1] == [True] * (step - 1) and not finite[step - 1]
    rows = read_csv(out / "adaptation.csv")
    assert [int(row["step"]) for row in rows] == [at for at in ladder(400) if at < step]
    assert rows and f"{float(rows[0]['fid']):.4g}" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == ["adaptation.csv", "before.png", "support.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--init", "none"), "none: the file cannot be read: No such file or directory."),
        (("--init", "pickle"), "pickle: the file holds a pickle, which could run code: refused."),
        (("--init", "torn"), "torn: the file must be whole, and of safetensors, but is not"),
        (("--init", "images"), "images: an initialisation must be a file, but this is a folder"),
        (("--init", "strange"), "`network` names code, 'no_such_nets:build', which would be imported and run"),
        (("--data", "digit"), "There is no data set 'digit'; did you mean 'digits'?"),
        (("--data", "i"), "There is no data set 'i'"),
        (("--data", "empty"), "empty: the folder must hold images"),
        (("--data", "~nobody-of-that-name/faces"), "There is no data set '~nobody-of-that-name/faces'"),
        (("--data", "npz:i"), "i: must be an .npz file"),
        (("--out", "images"), "images must be a new or empty folder; choose another --out."),
        (("--out", "i"), "i must be a new or empty folder"),
        (("--steps", "0"), "Invalid value for '--steps'"),
        (("--shots", "0"), "Invalid value for '--shots'"),
        (("--samples", "1"), "Invalid value for '--samples'"),
    ],
)
def test_wrong_input_is_said_and_nothing_is_written(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    file = initialisation(tmp_path / "i")
    folder_of_images(tmp_path / "images", 8)
    (tmp_path / "empty").mkdir()
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickle")
    (tmp_path / "torn").write_bytes(file.read_bytes()[:-100])
    weights = pair_weights(make_pair(SPEC, torch.Generator()))
    initialisation(tmp_path / "strange", replace(SPEC, network="no_such_nets:build"), weights=weights)
    before = sorted(tmp_path.rglob("*"))
    arguments = {"--init": "i", "--data": "images", "--out": "out"} | {change[0]: change[1]}
    done = adapted(*(part for pair in arguments.items() for part in pair), cwd=tmp_path, env=WIDE)
    assert done.returncode == 2
    assert message in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


SCRIPT = """
mount -t tmpfs -o size={size} tmpfs {disk}
{python} -m metaopt.cli.main adapt --init {init} --data {data} --out {disk}/out --steps 20 --samples 20 > {log} 2>&1
echo $? >> {log}
ls -A {disk}/out >> {log}
"""


@pytest.mark.parametrize(
    ("size", "left"), [("4k", ["before.png", "support.png"]), ("48k", [*WRITTEN[:1], *WRITTEN[2:]])]
)
def test_a_full_disk(tmp_path: Path, size: str, left: list[str]) -> None:
    spec = replace(SPEC, width=200)
    init, data = initialisation(tmp_path / "i", spec), folder_of_images(tmp_path / "images", 10)
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    script = SCRIPT.format(size=size, disk=disk, init=init, data=data, log=log, python=sys.executable)
    # a mount namespace of its own: needs no privileges, and the disk is gone with the process
    subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", script], check=True, timeout=600)
    said = log.read_text().splitlines()
    code = next(i for i, line in enumerate(said) if line.isdigit())
    assert said[code] == "1", said
    assert "Traceback" not in log.read_text()
    assert "No space left on device" in said[code - 1]
    assert said[code + 1 :] == left


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from metaopt.cli.main import run; sys.argv = ['metaopt', 'adapt', '--help']\n"
        "try: run()\nexcept SystemExit: print(*sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Adapt a learned initialisation to a few images" in said
    assert {"torch", "numpy", "PIL", "safetensors", "metaopt.meta"}.isdisjoint(said.splitlines()[-1].split())
