"""The driver's journal is a file that stock Optuna reads, whole after every accident."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from metaopt.search.journal import DriverJournal

WRITER = """
import os, signal, sys
from pathlib import Path
import optuna
from optuna.storages import JournalStorage
from metaopt.search.journal import DriverJournal
study = optuna.create_study(study_name="s", storage=JournalStorage(DriverJournal(Path(sys.argv[1]))))
for value in range(3):
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    study.tell(trial, value)
study.ask().set_user_attr("seen", "by the kernel")
os.kill(os.getpid(), signal.SIGKILL)
"""


def study_at(path: Path) -> optuna.Study:
    return optuna.create_study(study_name="s", storage=JournalStorage(DriverJournal(path)), load_if_exists=True)


def stock(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))


def test_a_killed_writer_has_lost_nothing_and_stock_optuna_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ended = subprocess.run([sys.executable, "-c", WRITER, path], check=False, timeout=300)
    assert ended.returncode == -signal.SIGKILL
    theirs, ours = stock(path).trials, study_at(path).trials
    assert [trial.value for trial in theirs] == [0, 1, 2, None]
    assert theirs[3].user_attrs == {"seen": "by the kernel"}
    assert [(t.number, t.state, t.params, t.values, t.user_attrs) for t in ours] == [
        (t.number, t.state, t.params, t.values, t.user_attrs) for t in theirs
    ]


def test_what_another_program_adds_is_seen(tmp_path: Path) -> None:
    study = study_at(tmp_path / "journal")
    stock(tmp_path / "journal").enqueue_trial({"x": 0.25})
    assert study.ask().suggest_float("x", 0, 1) == 0.25


def test_each_line_is_read_once(tmp_path: Path) -> None:
    journal = DriverJournal(tmp_path / "journal")
    journal.append_logs([{"op_code": 9, "n": n} for n in range(3)])
    assert [log["n"] for log in journal.read_logs(0)] == [0, 1, 2]
    assert list(journal.read_logs(3)) == []
    journal.append_logs([{"op_code": 9, "n": 3}])
    assert [log["n"] for log in journal.read_logs(3)] == [3]
    with pytest.raises(ValueError, match="must be 4, but got 1"):
        list(journal.read_logs(1))


def test_a_line_that_another_program_has_begun_waits_for_its_end(tmp_path: Path) -> None:
    journal = DriverJournal(tmp_path / "journal")
    with (tmp_path / "journal").open("ab", buffering=0) as other:
        other.write(b'{"op_co')
        assert list(journal.read_logs(0)) == []
        other.write(b'de":9}\n')
    assert list(journal.read_logs(0)) == [{"op_code": 9}]


def test_a_file_that_was_moved_away_or_replaced_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = DriverJournal(path)
    journal.append_logs([{"op_code": 9}])
    path.rename(tmp_path / "away")
    for _ in ("moved", "replaced"):
        with pytest.raises(OSError, match="journal was moved away or replaced"):
            journal.append_logs([{"op_code": 9}])
        path.touch()
    assert (tmp_path / "away").read_text().count("\n") == 1 and not path.read_text()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from metaopt.search.journal import DriverJournal
journal = DriverJournal(Path(sys.argv[1]))
journal.append_logs([{"op_code": 9, "n": 0}])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY))
try:
    journal.append_logs([{"op_code": 9, "text": 100 * "x"}])
except OSError:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal.append_logs([{"op_code": 9, "n": 1}])
"""


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path / "journal"], check=True, timeout=300)
    assert (tmp_path / "journal").read_text() == '{"op_code":9,"n":0}\n{"op_code":9,"n":1}\n'


def test_the_disk_has_what_came_before_a_trial_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    at_once = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (at_once(fd), synced.append(os.fstat(fd).st_size)))
    study = study_at(tmp_path / "journal")
    for value in range(20):
        trial = study.ask()
        for name in "abcdefgh":
            trial.suggest_float(name, 0, 1)
        study.tell(trial, value)
        assert synced[-1] == (tmp_path / "journal").stat().st_size
    assert len(synced) == 1 + 20  # the study, and each trial: not each of its ten lines
    assert {trial.state for trial in stock(tmp_path / "journal").trials} == {TrialState.COMPLETE}
