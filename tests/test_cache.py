"""Where caches and fetched data lie."""

from pathlib import Path

import pytest

from metaopt.cache import default_cache_dir, default_data_dir


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [("/a/b", "/x", "/a/b"), ("", "/x", "/x/metaopt"), ("", "", "/home/me/.cache/metaopt"), ("~/c", "", "/home/me/c")],
)
def test_the_cache_follows_the_environment(own: str, xdg: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAOPT_CACHE", own)
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("METAOPT_DATA", "")
    assert default_cache_dir() == Path(expected)
    assert default_data_dir() == Path(expected, "data")
    monkeypatch.setenv("METAOPT_DATA", "~/sets")
    assert default_data_dir() == Path("/home/me/sets")
    assert default_cache_dir() == Path(expected)
