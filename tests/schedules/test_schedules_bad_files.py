"""Schedule files that are refused: each message names the file, the key, the rule and the value."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metaopt.errors import ArtifactError
from metaopt.schedules import load_schedule

GOOD: dict[str, Any] = {
    "format": "metaopt.schedule/1",
    "family": "ttur",
    "params": {"lr_g": 5e-4, "lr_d": 1e-4},
    "ideal_d_loss": 1.386,
    "budget": 4000.0,
    "trained_on": ["digits"],
    "score": -0.2,
    "baselines": {"ttur": 0.1},
    "provenance": {"study": "smoke", "trial": 3},
}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != key}


def params(**changed: Any) -> dict[str, Any]:
    return GOOD | {"params": GOOD["params"] | changed}


def refusal(path: Path, content: str | bytes | dict[str, Any]) -> str:
    """The message, less the file's name that it must begin with."""
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ArtifactError) as caught:
        load_schedule(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "schedule.json"


def test_the_file_that_all_others_here_are_made_from_is_good(path: Path) -> None:
    path.write_text(json.dumps(GOOD))
    assert load_schedule(path).params == GOOD["params"]


CONTENTS: list[tuple[str, dict[str, Any], str]] = [
    ("a later format", GOOD | {"format": "metaopt.schedule/2"}, "`format` must be 'metaopt.schedule/1', but got "),
    ("no string format", GOOD | {"format": 1}, "`format` must be 'metaopt.schedule/1', but got 1."),
    ("null format", GOOD | {"format": None}, "`format` must be 'metaopt.schedule/1', but got None."),
    ("a family misspelt", GOOD | {"family": "tturr"}, "There is no family 'tturr'; did you mean 'ttur'? Known: "),
    ("a family unlike any", GOOD | {"family": "zzz"}, "There is no family 'zzz'. Known: constant, cosine, "),
    ("a family of code", GOOD | {"family": "os.system"}, "There is no family 'os.system'"),
    ("a family by number", GOOD | {"family": 3}, "`family` must be a string, but got 3."),
    ("a family in a list", GOOD | {"family": ["ttur"]}, "`family` must be a string, but got ['ttur']."),
    ("no format", without("format"), "`format` must be there, but it is missing."),
    ("no family", without("family"), "`family` must be there, but it is missing."),
    ("no params", without("params"), "`params` must be there, but it is missing."),
    ("no ideal_d_loss", without("ideal_d_loss"), "`ideal_d_loss` must be there, but it is missing."),
    ("an empty object", {}, "`format` must be there, but it is missing."),
    ("an unknown key", GOOD | {"scores": 1}, "unknown key `scores`; known: family, params, "),
    ("a class to make", GOOD | {"__class__": "os.system"}, "unknown key `__class__`; known: "),
    ("an unknown parameter", params(lr=1e-3), "There is no parameter of family 'ttur' called 'lr'"),
    ("params of another family", params(power=1.0), "There is no parameter of family 'ttur' called 'power'"),
    ("a class in params", params(__class__="x"), "There is no parameter of family 'ttur' called '__class__'"),
    ("a missing parameter", GOOD | {"params": {"lr_g": 1e-3}}, "Family 'ttur' needs `params.lr_d`"),
    ("a parameter too high", params(lr_d=11), "`1e-08 <= params.lr_d <= 10` must hold, but got lr_d=11."),
    ("a parameter too low", params(lr_g=0), "`1e-08 <= params.lr_g <= 10` must hold, but got lr_g=0."),
    ("a bool parameter", params(lr_g=True), "`params.lr_g` must be a finite number, but got True."),
    ("a string parameter", params(lr_g="1e-4"), "`params.lr_g` must be a finite number, but got '1e-4'."),
    ("a null parameter", params(lr_g=None), "`params.lr_g` must be a finite number, but got None."),
    ("a list parameter", params(lr_g=[1e-4]), "`params.lr_g` must be a finite number, but got [0.0001]."),
    ("a huge whole parameter", params(lr_g=10**400), "`params.lr_g` must be a finite number, but got 1000"),
    ("a huge whole score", GOOD | {"score": 10**400}, "`score` must be a finite number, but got 1000"),
    ("params in a list", GOOD | {"params": [1, 2]}, "`params` must be an object, but got [1, 2]."),
    ("null params", GOOD | {"params": None}, "`params` must be an object, but got None."),
    ("a string ideal", GOOD | {"ideal_d_loss": "1"}, "`ideal_d_loss` must be a finite number, but got '1'."),
    ("a bool ideal", GOOD | {"ideal_d_loss": True}, "`ideal_d_loss` must be a finite number, but got True."),
    ("a null ideal", GOOD | {"ideal_d_loss": None}, "`ideal_d_loss` must be a finite number, but got None."),
    ("a negative ideal", GOOD | {"ideal_d_loss": -1}, "`ideal_d_loss >= 0` must hold, but got ideal_d_loss=-1."),
    ("a string budget", GOOD | {"budget": "4000"}, "`budget` must be a finite number, but got '4000'."),
    ("a budget of 0", GOOD | {"budget": 0}, "`budget > 0` must hold, but got budget=0."),
    ("tasks as a string", GOOD | {"trained_on": "digits"}, "`trained_on` must be a list of strings, but got 'digits'."),
    ("a task by number", GOOD | {"trained_on": ["a", 3]}, "`trained_on` must be a list of strings, but got ['a', 3]."),
    ("null tasks", GOOD | {"trained_on": None}, "`trained_on` must be a list of strings, but got None."),
    ("a string score", GOOD | {"score": "best"}, "`score` must be a finite number, but got 'best'."),
    ("a bool score", GOOD | {"score": False}, "`score` must be a finite number, but got False."),
    ("baselines in a list", GOOD | {"baselines": [0.1]}, "`baselines` must be an object, but got [0.1]."),
    ("a null baseline", GOOD | {"baselines": {"a": None}}, "`baselines.a` must be a finite number, but got None."),
    ("a string provenance", GOOD | {"provenance": "me"}, "`provenance` must be an object, but got 'me'."),
    ("a nested provenance", GOOD | {"provenance": {"a": {}}}, "`provenance.a` must be a string, a finite number or"),
    ("a bool in provenance", GOOD | {"provenance": {"a": True}}, "`provenance.a` must be a string, a finite number or"),
]


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in CONTENTS], ids=[case[0] for case in CONTENTS])
def test_content_that_breaks_a_rule(path: Path, content: dict[str, Any], message: str) -> None:
    assert refusal(path, content).startswith(message)


@pytest.mark.parametrize(
    ("literal", "value"), [("NaN", "nan"), ("Infinity", "inf"), ("-Infinity", "-inf"), ("1e999", "inf")]
)
@pytest.mark.parametrize(
    ("key", "there"),
    [
        ("params.lr_g", '"lr_g": 0.0005'),
        ("ideal_d_loss", '"ideal_d_loss": 1.386'),
        ("budget", '"budget": 4000.0'),
        ("score", '"score": -0.2'),
        ("baselines.ttur", '"ttur": 0.1'),
        ("provenance.trial", '"trial": 3'),
    ],
)
def test_a_number_that_is_not_finite_is_named_by_its_key(
    path: Path, key: str, there: str, literal: str, value: str
) -> None:
    text = json.dumps(GOOD)
    assert there in text
    message = refusal(path, text.replace(there, f"{there.partition(':')[0]}: {literal}"))
    assert message.startswith(f"`{key}` must be a ")
    assert message.endswith(f", but got {value}.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a schedule file must be JSON, but it is not: Expecting value: line 1 column 1 (char 0)."),
        ("lr_g: 1e-4\n", "a schedule file must be JSON, but it is not: Expecting value"),
        ('{"format": ', "a schedule file must be JSON, but it is not: Expecting value"),
        (json.dumps(GOOD) + "}", "a schedule file must be JSON, but it is not: Extra data"),
        ("{'format': 1}", "a schedule file must be JSON, but it is not: Expecting property name"),
        (b"\x80\x04\x95cposix\nsystem\n.", "a schedule file must be JSON, but it is not: 'utf-8' codec can't decode"),
        (bytes(range(256)), "a schedule file must be JSON, but it is not: 'utf-8' codec can't decode"),
        (json.dumps(GOOD).encode("utf-16"), "a schedule file must be JSON, but it is not: 'utf-8' codec can't decode"),
        ("9" * 5000, "a schedule file must be JSON, but it is not: Exceeds the limit"),
        ("[" * 100_000, "a schedule file must be JSON, but it is not: "),
        ('{"a":' * 100_000, "a schedule file must be JSON, but it is not: "),
        ("[]", "a schedule file must be a JSON object, but got list."),
        ('"ttur"', "a schedule file must be a JSON object, but got str."),
        ("null", "a schedule file must be a JSON object, but got NoneType."),
        ('{"format": 1, "format": 2}', "each key must be given once, but `format` is there twice."),
        (json.dumps(GOOD).replace('"lr_d": ', '"lr_g": '), "each key must be given once, but `lr_g` is there twice."),
    ],
    ids=lambda value: None if isinstance(value, bytes) or len(value) > 100 else repr(value)[:30],
)
def test_a_file_that_is_no_json_object(path: Path, text: str | bytes, message: str) -> None:
    assert refusal(path, text).startswith(message)


@pytest.mark.parametrize(
    "hostile",
    [
        GOOD | {"family": "__import__('os').system('touch ran')"},
        GOOD | {"__reduce__": ["os.system", "touch ran"]},
        GOOD | {"params": {"__class__": "os.system", "lr_g": "touch ran"}},
        GOOD | {"family": "../../ran"},
        GOOD | {"family": "!!python/object/apply:os.system ['touch ran']"},
    ],
)
def test_content_that_looks_like_code_runs_nothing(
    path: Path, hostile: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    assert "There is no" in (message := refusal(path, hostile)) or "unknown key" in message
    assert list(path.parent.iterdir()) == [path]


def test_text_that_looks_like_code_is_only_text(path: Path) -> None:
    note = "$(touch ran); ${jndi:x}; {{7*7}}"
    path.write_text(json.dumps(GOOD | {"provenance": {"study": note}, "trained_on": ["../../etc/passwd"]}))
    loaded = load_schedule(path)
    assert loaded.provenance == {"study": note}
    assert loaded.trained_on == ("../../etc/passwd",)


def test_100_mb_of_nothing_is_refused_unread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("wb") as file:
        file.truncate(100_000_000)
    monkeypatch.setattr(json, "loads", _never)
    with pytest.raises(ArtifactError, match="must be at most 1000000 bytes, but it has 100000000"):
        load_schedule(path)


def _never(*args: object, **kwargs: object) -> object:
    raise AssertionError("parsed a file that is too large")


def test_the_limit_is_one_byte_sharp(path: Path) -> None:
    text = json.dumps(GOOD)
    path.write_text(text + " " * (1_000_000 - len(text)))
    assert load_schedule(path).family == "ttur"
    assert refusal(path, text + " " * (1_000_001 - len(text))).startswith("a schedule file must be at most 1000000")


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"^/dev/zero: a schedule file must be at most 1000000 bytes"):
        load_schedule("/dev/zero")


@pytest.mark.parametrize(
    "content",
    [
        GOOD | {"family": "x" * 500_000},
        GOOD | {"x" * 500_000: 1},
        GOOD | {"trained_on": [0] * 100_000},
        params(lr_g="x" * 500_000),
    ],
)
def test_a_message_stays_short_whatever_the_file_holds(path: Path, content: dict[str, Any]) -> None:
    assert len(refusal(path, content)) <= 503


def test_one_key_twice_among_very_many_is_found(path: Path) -> None:
    text = "{" + ",".join(f'"{i}":0' for i in range(80_000)) + ',"79999":0}'
    assert refusal(path, text) == "each key must be given once, but `79999` is there twice."


def _missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_missing, "No such file or directory"),
        (_folder, "Is a directory"),
        (_loop, "Too many levels of symbolic links"),
    ],
)
def test_a_file_that_cannot_be_read(path: Path, make: Callable[[Path], None], reason: str) -> None:
    make(path)
    with pytest.raises(ArtifactError, match=rf"^{path}: the file cannot be read: {reason}\."):
        load_schedule(path)


def test_a_home_that_does_not_exist() -> None:
    with pytest.raises(ArtifactError, match=r"the home folder of '~no-such-user/s\.json' must exist"):
        load_schedule("~no-such-user/s.json")
