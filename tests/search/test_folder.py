"""Whose folder it is: only the same study, on the same images, may go on in it."""

from pathlib import Path

import pytest
from studies import tiny_study, write_study

from metaopt.errors import ConfigError
from metaopt.search.folder import claim, locked, manifest_of, read_manifest
from metaopt.search.study import Study, load_study


def study_of(tmp_path: Path, **changes: object) -> Study:
    return load_study(str(write_study(tmp_path, tiny_study(**changes))))


def test_a_new_folder_is_claimed_and_the_same_study_may_resume(tmp_path: Path) -> None:
    ours, out = manifest_of(study_of(tmp_path), ["hash"]), tmp_path / "out"
    claim(out, ours, resume=False)
    assert read_manifest(out) == ours
    claim(out, ours, resume=True)
    more = study_of(tmp_path, search={"trials": 99, "seed": 1, "sampler": "random", "workers": 1})
    claim(out, manifest_of(more, ["hash"]), resume=True)


@pytest.mark.parametrize(
    ("changes", "content_hash", "resume", "message"),
    [
        ({}, "hash", False, "already holds study 'tiny'; add --resume"),
        ({}, "other", True, "holds study 'tiny' on other images"),
        ({"evaluations": 3}, "hash", True, "holds another study: 'tiny' with key"),
        ({"name": "huge"}, "hash", True, "but this one is 'huge' with key"),
    ],
)
def test_who_is_refused(
    tmp_path: Path, changes: dict[str, object], content_hash: str, resume: bool, message: str
) -> None:
    out = tmp_path / "out"
    claim(out, manifest_of(study_of(tmp_path), ["hash"]), resume=False)
    before = (out / "study.json").read_bytes()
    with pytest.raises(ConfigError, match=message):
        claim(out, manifest_of(study_of(tmp_path, **changes), [content_hash]), resume=resume)
    assert (out / "study.json").read_bytes() == before


def test_a_folder_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    claim(out, manifest_of(study_of(tmp_path), ["hash"]), resume=False)
    monkeypatch.setattr("metaopt.__version__", "9.9.9")
    with pytest.raises(ConfigError, match="task defaults or another version of metaopt; its trials cannot be compared"):
        claim(out, manifest_of(study_of(tmp_path), ["hash"]), resume=True)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="is not empty and holds no study"):
        claim(tmp_path / "out", manifest_of(study_of(tmp_path), ["hash"]), resume=True)


def test_a_manifest_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"name": "ti')
    with pytest.raises(ConfigError, match=r"study.json: the manifest of the study cannot be read"):
        read_manifest(tmp_path)


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ConfigError, match="Another search is running"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
