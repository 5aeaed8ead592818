"""The pictures and the page of an evaluation, read back."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from metaopt.analysis.evaluation import CONTROLS, SIGNALS, draw_fids, draw_forest, draw_over_training
from metaopt.analysis.report import Section, write_report
from metaopt.analysis.study import draw_regret, draw_scores
from PIL import Image

FLOORS = {"a": 2.0, "b": 3.0}


def results(n_schedules: int) -> pd.DataFrame:
    """Records as in results.csv: three evaluations of ten records, FIDs at each tenth."""
    rows = [
        {
            "schedule": f"s{schedule}",
            "task": task,
            "seed": seed,
            "progress": min(record / 20 + 0.003 * schedule, 1.0),
            "fid": 80.0 / (1 + record) + schedule if record % 10 == 0 else None,
            "lr_g": 1e-3 * (1 - record / 20),
            "lr_d": 1e-3,
            "update_ratio": 1.0 + schedule,
            "loss_gap": -record / 20,
            "d_sign": record / 20,
            "d_accuracy": 0.5 + record / 40,
            "log_grad_ratio": schedule - seed,
        }
        for schedule in range(n_schedules)
        for task in ("a", "b")
        for seed in (0, 1, 2)
        for record in range(21)
    ]
    return pd.DataFrame(rows)


def comparison() -> pd.DataFrame:
    rows = [
        {"schedule": s, "baseline": b, "task": t, "ln_ratio": x, "ln_ratio_low": x - 0.1, "ln_ratio_high": x + 0.2}
        for s in ("one", "two")
        for b in ("static", "cosine")
        for t, x in (("a", -0.5), ("b", 0.25), ("", -0.1))
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("n_schedules", [1, 14])
def test_pictures_have_something_drawn_in_them(tmp_path: Path, n_schedules: int) -> None:
    frame = results(n_schedules)
    taken = frame[frame["fid"].notna()].assign(at=frame["progress"].round(1))
    for path in (
        draw_fids(tmp_path / "fid.png", taken, FLOORS),
        draw_over_training(tmp_path / "controls.png", frame, CONTROLS),
        draw_over_training(tmp_path / "signals.png", frame, SIGNALS),
        draw_forest(tmp_path / "forest.png", comparison()),
    ):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert len(np.unique(pixels, axis=0)) > 50
        assert (pixels < 250).any(axis=1).mean() > 0.01


def test_the_page_is_whole_and_names_cannot_break_it(tmp_path: Path) -> None:
    picture = draw_forest(tmp_path / "forest.png", comparison())
    table = comparison().assign(schedule="<script>alert(1)</script>")
    sections = [Section(title="A & B", text="x < y", picture=picture, table=table), Section(title="no more")]
    page = write_report(tmp_path / "report.html", "<b>title</b>", sections).read_text(encoding="utf-8")
    assert "<script>" not in page and "<b>title" not in page
    assert "A &amp; B" in page and "x &lt; y" in page
    assert page.count("<img") == 1 and "src='data:image/png;base64," in page
    assert not re.search(r"(src|href)=['\"](?!data:)", page)
    assert len(re.findall("<tr", page)) == len(table) + 1


def test_names_of_files_cannot_break_the_pictures(tmp_path: Path) -> None:
    names = {"s0": "a$_$b", "s1": "_best[v2]"}
    frame = results(2).replace({"schedule": names, "task": {"a": "x$^$y"}})
    draw_over_training(tmp_path / "controls.png", frame, CONTROLS)
    taken = frame[frame["fid"].notna()].assign(at=frame["progress"].round(1))
    draw_fids(tmp_path / "fid.png", taken, FLOORS | {"x$^$y": 1.0})
    draw_forest(tmp_path / "forest.png", comparison().assign(schedule="a$_$b", baseline="_$^$"))
    sizes = [Image.open(tmp_path / f"{name}.png").size for name in ("controls", "fid", "forest")]
    assert all(width > 300 and height > 100 for width, height in sizes)


def test_a_diverged_trial_is_not_drawn_as_the_best(tmp_path: Path) -> None:
    rows = [(0, "finished", 0.0, "dcgan"), (1, "diverged", -0.5, ""), (2, "finished", -0.2, "")]
    trials = pd.DataFrame(rows, columns=["trial", "status", "score", "schedule"])
    with_it, without, fewer = (
        draw_scores(tmp_path / f"{i}.png", part).read_bytes()
        for i, part in enumerate((trials, trials[::2], trials[:1]))
    )
    assert with_it == without != fewer


def test_each_score_of_a_candidate_is_drawn(tmp_path: Path) -> None:
    frame = pd.DataFrame({"trial": [3, 5], "search": [-0.3, -0.2], "fresh": [-0.1, -0.2], "validation": [0.1, -0.1]})
    pictures = {
        draw_regret(
            tmp_path / f"{column}.png", frame if column == "none" else frame.assign(**{column: [-0.4, -0.5]})
        ).read_bytes()
        for column in ("none", "search", "fresh", "validation")
    }
    assert len(pictures) == 4
