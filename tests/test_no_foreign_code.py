"""Nothing in the sources reads a file in a way that could run what it holds."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [file for room in ("metaopt", "analysis", "benchmarks", "cluster") for file in (ROOT / room).rglob("*.py")]
RUNS_CODE = {"eval", "exec", "compile", "__import__"}
UNPICKLES = {"load", "loads", "Unpickler", "read_pickle"}


def _offences(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        module, _, name = called.rpartition(".")
        bad = (
            (not module and name in RUNS_CODE)
            or (module in ("pickle", "cloudpickle", "marshal", "shelve", "joblib", "dill") and name in UNPICKLES)
            or name == "read_pickle"
            or (called == "torch.load" and given.get("weights_only") != "True")
            or (called in ("np.load", "numpy.load") and given.get("allow_pickle") != "False")
            or (called in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"))
            or given.get("shell") == "True"
            or called in ("os.system", "os.popen")
        )
        if bad:
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_read_as_code(file: Path) -> None:
    assert list(_offences(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "pickle.load(f)",
        "pickle.loads(b)",
        "yaml.load(f, Loader=yaml.Loader)",
        "pd.read_pickle(f)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
    ],
)
def test_what_would_run_code_is_found(source: str) -> None:
    assert list(_offences(source)) == [f"line 1: {source}"]


def test_what_runs_none_is_not_reported() -> None:
    harmless = (
        "torch.load(f, weights_only=True)\nnp.load(f, allow_pickle=False)\nmodel.eval()\nre.compile(p)\njson.load(f)"
    )
    assert list(_offences(harmless)) == []
