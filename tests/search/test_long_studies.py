"""What the driver does for a trial does not grow with the trials before it."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from studies import tiny_study, write_study

from metaopt.cli.progress import SearchProgress
from metaopt.search import optuna_space
from metaopt.search.optuna_space import Proposals, Verdict, read_rows
from metaopt.search.study import load_study

N = 120


def proposals(folder: Path, trials: int = N, **search: Any) -> Proposals:
    content = tiny_study(search={"trials": trials, "seed": 1, "sampler": "tpe", **search})
    return Proposals(folder, load_study(str(write_study(folder, content))))


def told(record: Proposals, n: int) -> None:
    for k in range(n):
        proposal = record.ask(str(k))
        assert proposal is not None
        record.tell(proposal.number, Verdict(status="finished", score=float(k), scores=[1.0, float(k)]))


def test_a_verdict_is_read_once_however_often_all_trials_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[int] = Counter()
    row = optuna_space._row

    def counting(trial: Any) -> Any:
        read[trial.number] += 1
        return row(trial)

    monkeypatch.setattr(optuna_space, "_row", counting)
    record = proposals(tmp_path)
    for _ in range(N):
        told(record, 1)
        assert len(record.rows()) >= 1
    assert max(read.values()) <= 2  # while it waits in the queue, and when it has ended
    assert record.rows() == read_rows(tmp_path, "tiny")


def test_one_row_is_that_of_all_rows(tmp_path: Path) -> None:
    record = proposals(tmp_path, trials=12)
    told(record, 9)
    running = record.ask("runs")
    assert running is not None
    assert [record.row(number) for number in range(10)] == record.rows()[:10]
    assert record.row(running.number).state == "RUNNING"
    record.tell(running.number, Verdict(status="diverged", reason="it did"))
    assert record.row(running.number).state == "FAIL"


def test_lines_of_the_journal_per_trial_stay_the_same(tmp_path: Path) -> None:
    record = proposals(tmp_path)
    lines = []
    for _ in range(4):
        before = (tmp_path / "optuna.journal").read_bytes().count(b"\n")
        told(record, N // 4)
        lines.append((tmp_path / "optuna.journal").read_bytes().count(b"\n") - before)
    assert max(lines[1:]) == min(lines[1:])


class _Slow:
    """A session whose trials take longer to list than the display may spend."""

    n_running, takes, population = 1, "", None

    def __init__(self, clock: list[float]) -> None:
        self.looks, self._clock = 0, clock

    def rows(self) -> list[Any]:
        self.looks += 1
        self._clock[0] += 1.0
        return []


def test_the_display_takes_a_small_part_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    clock = [100.0]
    monkeypatch.setattr("metaopt.cli.progress.time", SimpleNamespace(monotonic=lambda: clock[0]))
    session = _Slow(clock)
    with SearchProgress(Console(quiet=True), 10) as progress:
        for _ in range(1000):
            progress(session)  # type: ignore[arg-type]
            clock[0] += 0.1
    assert 5 <= session.looks <= 1 + 100 / 20 + 1  # one a 20 s, and one at the end
