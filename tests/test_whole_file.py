"""Files that are written whole or not at all."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from metaopt.errors import StorageError
from metaopt.whole_file import whole_file, write_whole


def _names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "a.txt", "fé\n")
    write_whole(tmp_path / "new" / "b.bin", b"\x00\xff")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "fé\n".encode()
    assert (tmp_path / "new" / "b.bin").read_bytes() == b"\x00\xff"
    assert _names(tmp_path / "new") == ["a.txt", "b.bin"]


def test_what_was_there_stays_until_the_block_has_ended_and_if_it_raises(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_whole(path, "old")
    with pytest.raises(KeyError), whole_file(path) as file:
        file.write(b"half")
        assert path.read_text() == "old"
        raise KeyError
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["a"]


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_whole(path, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from metaopt.whole_file import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_what_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=r"folder could not be written: Is a directory\."):
        write_whole(tmp_path / "folder", "text")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"could not be written: (Not a directory|File exists)\."):
        write_whole(tmp_path / "file" / "a", "text")
    assert _names(tmp_path) == ["file", "folder"]
