"""Where the files of cluster/ lie, and what is in them."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
COMPOSE = CLUSTER / "docker" / "compose.yaml"
_REFERENCE = Path(__file__).parents[1] / "reference"


def versions() -> dict[str, str]:
    """versions.env: name -> version."""
    return dict(re.findall(r"^([A-Z0-9_]+)=(\S+)$", (CLUSTER / "versions.env").read_text(), re.MULTILINE))


def documents(path: str) -> list[Any]:
    """All documents of a YAML file in cluster/."""
    return list(yaml.safe_load_all((CLUSTER / path).read_text()))


def code(file: Path) -> str:
    """A file without its comments."""
    return re.sub(r"(?m)(^|\s)#.*$", "", file.read_text())


def comments(file: Path) -> str:
    """The comments of a file, and of a Python file its docstrings."""
    text = file.read_text()
    return "\n".join(re.findall(r"(?m)(?:^|\s)#(.*)$", text) + re.findall(r'(?s)"""(.*?)"""', text))


def kuberay_schema(kind: str) -> dict[str, Any]:
    """The schema of a kind's `spec` as JSON schema, unknown fields refused as `kubectl` does."""
    read = json.loads((_REFERENCE / "kuberay.json").read_text())
    parts = {name: _strict(part) for name, part in read["parts"].items()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "parts": parts, **_strict(read["kinds"][kind])}


def _strict(schema: Any) -> Any:
    """Kubernetes' dialect in the words of JSON schema."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: _strict(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        out["properties"] = {name: _strict(field) for name, field in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            out.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
    return out
