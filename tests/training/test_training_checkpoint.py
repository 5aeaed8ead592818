"""Save and resume: the same numbers afterwards; damage, strangers and full disks meet one clear error."""

import json
import os
import pickle
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import N_RECORDS, closed_loop, constant, exact, tiny_task, trained

from metaopt.errors import ArtifactError, StorageError
from metaopt.gan import Task
from metaopt.schedules import Schedule
from metaopt.training import Outcome, Training, load_training, save_training
from metaopt.training.checkpoint import FORMAT

CASES = {
    "mlp": (tiny_task(), constant()),
    "mlp-closed": (tiny_task(), closed_loop()),
    "mlp-ratio-1.5": (tiny_task(), constant(update_ratio=1.5)),
    "dcgan": (tiny_task(network="dcgan", width=4), constant(update_ratio=1.5)),
    "dcgan-closed": (tiny_task(network="dcgan", width=4), closed_loop(0.7)),
}


@pytest.mark.parametrize(("task", "schedule"), CASES.values(), ids=CASES.keys())
def test_resumed_at_any_record_it_goes_on_bit_for_bit(task: Task, schedule: Schedule, tmp_path: Path) -> None:
    whole = trained(task, schedule, seed=2)
    saved = Training(task, schedule, 2)
    for n, _record in enumerate(saved.run(), start=1):
        save_training(saved, tmp_path / f"{n}.pt")
    cuts = random.Random(f"{task.network}{schedule!r}").sample(range(2, N_RECORDS), 3)
    for cut in (1, *cuts, N_RECORDS):
        resumed = Training(task, schedule, 2)
        assert load_training(resumed, tmp_path / f"{cut}.pt") == tmp_path / f"{cut}.pt"
        assert exact(resumed.run()) == exact(whole[cut:])
        assert torch.equal(resumed.sample(5), saved.sample(5))


def test_resumed_in_the_middle_of_a_slice(tmp_path: Path) -> None:
    training = Training(tiny_task(), closed_loop(1.5), 0)
    first = list(training.run(0.37))
    save_training(training, tmp_path / "a.pt")
    resumed = Training(tiny_task(), closed_loop(1.5), 0)
    load_training(resumed, tmp_path / "a.pt")
    assert exact(first + list(resumed.run())) == exact(trained(tiny_task(), closed_loop(1.5)))


def test_a_resumed_training_continues_with_its_learning_rates_and_outcome(tmp_path: Path) -> None:
    training = Training(tiny_task(), closed_loop(), 0)
    list(training.run())
    save_training(training, tmp_path / "a.pt")
    resumed = Training(tiny_task(), closed_loop(), 0)
    load_training(resumed, tmp_path / "a.pt")
    assert resumed.finding == (Outcome.FINISHED, "")
    assert list(resumed.run()) == []
    for ours, theirs in (
        (resumed.optimizer_d, training.optimizer_d),
        (resumed.optimizer_g, training.optimizer_g),
    ):
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]


_RESUME = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from test_training_checkpoint import CASES
from metaopt.training import Training, load_training
found = {}
for name in sys.argv[3:]:
    training = Training(*CASES[name], 4)
    load_training(training, Path(sys.argv[2]) / f"{name}.pt")
    found[name] = [record.as_dict() for record in training.run()]
print(json.dumps(found))
"""


def test_resumed_in_another_process(tmp_path: Path) -> None:
    names, expected = ("mlp-closed", "dcgan"), {}
    for name in names:
        training = Training(*CASES[name], 4)
        list(training.run(0.4))
        save_training(training, tmp_path / f"{name}.pt")
        expected[name] = exact(training.run())
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", _RESUME, here, tmp_path, *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in names:
        assert [repr(record | {"wall_s": None}) for record in found[name]] == expected[name]


@pytest.fixture
def newest(tmp_path: Path) -> Path:
    """A checkpoint after 9 records, and the previous one, after 5, beside it."""
    training = Training(tiny_task(width=4, z_dim=2), constant(), 0)
    for n, _record in enumerate(training.run(0.4), start=1):
        if n in (5, 9):
            save_training(training, tmp_path / "a.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "a.pt.previous"]
    return tmp_path / "a.pt"


def _loaded(path: Path) -> tuple[Path, Training]:
    training = Training(tiny_task(width=4, z_dim=2), constant(), 0)
    return load_training(training, path), training


def _cut(share: float) -> Any:
    return lambda content: content[: int(share * len(content))]


DAMAGES: dict[str, Any] = {
    "empty": lambda _content: b"",
    "garbage": lambda _content: bytes(range(256)) * 40,
    "text": lambda _content: b"not a checkpoint\n",
    "cut to a tenth": _cut(0.1),
    "cut to a half": _cut(0.5),
    "last byte cut": lambda content: content[:-1],
    "first byte cut": lambda content: content[1:],
    "zeros at the end": lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_newest_file_is_passed_over(damage: Any, newest: Path) -> None:
    whole = exact(_loaded(newest)[1].run())
    newest.write_bytes(damage(newest.read_bytes()))
    used, training = _loaded(newest)
    assert (used.name, training.n_records) == ("a.pt.previous", 5)
    assert exact(training.run())[4:] == whole


def test_a_missing_newest_file_is_passed_over(newest: Path) -> None:
    newest.unlink()  # as after a kill between the two renames
    assert _loaded(newest)[0].name == "a.pt.previous"


def _same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(_same, a, b))
    return a == b


def test_a_flipped_byte_is_never_loaded_as_something_else(newest: Path) -> None:
    content, whole = newest.read_bytes(), _loaded(newest)[1].state_dict()
    previous = _loaded(newest.with_name("a.pt.previous"))[1].state_dict()
    training, n_found = Training(tiny_task(width=4, z_dim=2), constant(), 0), 0
    places = range(0, len(content), len(content) // 120)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        newest.write_bytes(damaged)
        used = load_training(training, newest)  # a byte of padding or of a date does no harm
        n_found += used != newest
        assert _same(training.state_dict(), whole if used == newest else previous), place
    assert n_found > len(places) / 3


def test_every_byte_of_the_numbers_is_watched(newest: Path) -> None:
    content = newest.read_bytes()
    with zipfile.ZipFile(newest) as archive:
        largest = max(archive.infolist(), key=lambda item: item.file_size)
        start = content.index(archive.read(largest))
    for place in (start, start + largest.file_size // 2, start + largest.file_size - 1):
        damaged = bytearray(content)
        damaged[place] ^= 1
        newest.write_bytes(damaged)
        assert _loaded(newest)[0].name == "a.pt.previous"


def test_both_damaged_is_an_error_with_both_reasons(newest: Path) -> None:
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    newest.with_name("a.pt.previous").write_bytes(b"")
    with pytest.raises(
        ArtifactError, match=r"a\.pt is not a whole checkpoint: .* is damaged.*a\.pt\.previous is not a whole"
    ):
        _loaded(newest)


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.pt is not a whole .*No such file.*none\.pt\.previous is not"):
        _loaded(tmp_path / "none.pt")


class _Hostile:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["zip", "bare pickle", "among the state"])
def test_code_in_a_file_is_refused_and_not_run(form: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "a.pt"
    hostile = _Hostile(f"touch {marker}")
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(hostile))
        pickle.loads(path.read_bytes())
    else:
        state = _fresh_state() if form == "among the state" else {}
        torch.save({"format": FORMAT} | state | {"seed": hostile}, path)
        torch.load(path, weights_only=False)
    assert marker.exists()  # it does bite those who let it
    marker.unlink()
    reason = "is not a whole checkpoint" if form == "bare pickle" else "holds more than tensors and numbers"
    with pytest.raises(ArtifactError, match=rf"a\.pt {reason}"):
        _loaded(path)
    assert not marker.exists()


def _fresh_state() -> dict[str, Any]:
    return Training(tiny_task(width=4, z_dim=2), constant(), 0).state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "metaopt.training/2"}, "`format` must be 'metaopt.training/1'"),
        ({"seed": 1}, "`seed` must be 0, but the saved one is 1"),
        ({"task": "another"}, "`task` must be '[0-9a-f]{64}', but the saved one is 'another'"),
        ({"data": "another"}, "`data` must be '[0-9a-f]{64}', but the saved one is 'another'"),
    ],
    ids=["format", "seed", "task", "data"],
)
def test_the_state_of_another_training_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    torch.save({"format": FORMAT} | _fresh_state() | change, tmp_path / "a.pt")
    with pytest.raises(ArtifactError, match=rf"a\.pt: {message}"):
        _loaded(tmp_path / "a.pt")


@pytest.mark.parametrize("task", [tiny_task(width=4, z_dim=2, budget=41), tiny_task(width=8, z_dim=2)])
def test_a_refused_state_leaves_the_training_as_it_was(task: Task, newest: Path) -> None:
    training = Training(task, constant(), 0)
    with pytest.raises(ArtifactError, match="`task` must be"):
        load_training(training, newest)
    assert exact(training.run()) == exact(trained(task, constant()))


def test_a_state_with_a_part_missing_is_refused(tmp_path: Path) -> None:
    whole = _fresh_state()
    assert len(whole) == 17
    for key in whole:
        state = {name: part for name, part in whole.items() if name != key}
        torch.save({"format": FORMAT} | state, tmp_path / "a.pt")
        with pytest.raises(ArtifactError, match=f"`{key}` must be there, but it is missing"):
            _loaded(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [[1, 2], {}, 3.0, {"format": None}], ids=repr)
def test_another_kind_of_file_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ArtifactError, match=r"a\.pt: `format` must be"):
        _loaded(tmp_path / "a.pt")


_FULL_DISK = """
import json, resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from tiny import constant, tiny_task
from metaopt.errors import StorageError
from metaopt.training import Training, load_training, save_training
path = Path(sys.argv[2])
training = Training(tiny_task(), constant(), 0)
list(training.run(0.2))
save_training(training, path)
size, found = path.stat().st_size, []
list(training.run(0.4))
for limit in (0, 1, 100, size // 2, size - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        save_training(training, path)
        found.append("saved")
    except StorageError as error:
        found.append(str(error))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
fresh = Training(tiny_task(), constant(), 0)
used = load_training(fresh, path).name
files = sorted(one.name for one in path.parent.iterdir())
save_training(training, path)
print(json.dumps({"found": found, "n": fresh.n_records, "used": used, "files": files}))
"""


def test_a_full_disk_is_a_storage_error_and_keeps_the_old_state(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, Path(__file__).parent, path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    said = f"{path} could not be written: File too large."
    assert set(result["found"]) == {said}
    assert (result["n"], result["used"], result["files"]) == (5, "a.pt", ["a.pt"])
    resumed = Training(tiny_task(), constant(), 0)
    assert load_training(resumed, path) == path
    assert exact(resumed.run()) == exact(trained(tiny_task(), constant())[9:])


def test_a_folder_is_made_and_one_that_cannot_be_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    save_training(Training(tiny_task(), constant(), 0), tmp_path / "new" / "a.pt")
    assert load_training(Training(tiny_task(), constant(), 0), tmp_path / "new" / "a.pt").exists()
    with pytest.raises(StorageError, match=r"a\.pt could not be written"):
        save_training(Training(tiny_task(), constant(), 0), tmp_path / "file" / "a.pt")
