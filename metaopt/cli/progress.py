"""How far a search is: one line kept up to date on a terminal, one line a finished trial elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from metaopt.search.export import scored
from metaopt.search.optuna_space import TrialRow
from metaopt.search.session import Session

_REFRESH_S = 0.2
_MOST = 0.05
"""Of the driver's time."""


class SearchProgress:
    """A reader of the session. Use as a context manager around `Search.run`."""

    def __init__(self, console: Console, n_trials: int) -> None:
        self._console, self._n_trials = console, n_trials
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._started = time.monotonic()
        self._next_look = 0.0
        self._session: Session | None = None
        self._seen: set[int] = set()
        self._before: int | None = None
        self._takes = ""
        self._n_told = 0
        self._error_told = False

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
            self._live.update(Text("starting Ray ..."))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            self._look(self._session)
        if self._live:
            self._live.stop()
        self._console.print(f"search ended after {_clock(time.monotonic() - self._started)}", highlight=False)

    def __call__(self, session: Session) -> None:
        """Look at the session, at most a few times a second, and the more rarely the longer a look takes."""
        self._session, began = session, time.monotonic()
        if began < self._next_look:
            return
        self._look(session)
        ended = time.monotonic()
        self._next_look = ended + max(_REFRESH_S, (ended - began) / _MOST)

    def _look(self, session: Session) -> None:
        if session.takes != self._takes:
            self._takes = session.takes
            self._console.print(f"a trial takes {session.takes}", highlight=False)
        self._tell_news(session)
        rows = session.rows()
        done = [row for row in rows if row.verdict is not None]
        if self._before is None:
            self._before = len(done)
            self._seen = {row.number for row in done}
        for row in done:
            if row.number not in self._seen:
                self._seen.add(row.number)
                self._console.print(_line(row, self._n_trials), highlight=False, markup=False, soft_wrap=True)
                self._tell_error(row)
        if self._live:
            self._live.update(Text(self._status(session, rows, len(done))))

    def _tell_error(self, row: TrialRow) -> None:
        """The first error of a run in full, where it is more than the line that each has."""
        reason = row.verdict.reason.strip() if row.verdict and row.verdict.status == "error" else ""
        if "\n" in reason and not self._error_told:
            self._error_told = True
            self._console.print(reason, highlight=False, markup=False, soft_wrap=True)

    def _tell_news(self, session: Session) -> None:
        """What a population has decided."""
        news = [] if session.population is None else session.population.news
        for line in news[self._n_told :]:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._n_told = len(news)

    def _status(self, session: Session, rows: list[TrialRow], n_done: int) -> str:
        elapsed_s = time.monotonic() - self._started
        n_new = n_done - (self._before or 0)
        left = "" if n_new < 2 else f", about {_clock(elapsed_s / n_new * (self._n_trials - n_done))} left"
        ranking = scored(rows)
        best = f"best score {ranking[0][0]:+.3f} (trial {ranking[0][1].number})" if ranking else "no score yet"
        return (
            f"{n_done}/{self._n_trials} trials, {session.n_running} running, {best}, {_clock(elapsed_s)} elapsed{left}"
        )


def _line(row: TrialRow, n_trials: int) -> str:
    verdict = row.verdict
    if verdict is None:
        return f"trial {row.number}: running"
    score = "" if verdict.score is None else f" {verdict.score:+.3f}"
    others = "".join(f" {name} {value:+.3f}" for name, value in list(verdict.objectives.items())[1:])
    fids = "  ".join(f"{label} FID {fid:.2f}" for label, fid in verdict.fids.items())
    name = f" ({row.name})" if row.name else ""
    reason = f"  {verdict.reason.strip().splitlines()[-1]}" if verdict.reason else ""
    return f"trial {row.number:>3} of {n_trials}  {verdict.status:<9}{score:>8}{others}  {fids}{name}{reason}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
