"""Writes kuberay.json: the schemas of `spec` that KubeRay's operator registers for RayCluster and RayJob.

    python tests/reference/kuberay_schema.py BASES      # ray-operator/config/crd/bases of a KubeRay checkout

Left out are words, defaults and the rules in CEL, which nothing here can run. Parts that occur more than once, such as
the template of a pod, are written once.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

_LEFT_OUT = ("x-kubernetes-validations", "x-kubernetes-map-type", "x-kubernetes-list-type", "default")
_SMALLEST = 200  # characters of a part that is worth a name of its own


def main() -> None:
    """Read both definitions, write one file beside this one."""
    specs = {kind: _spec(Path(sys.argv[1]) / f"ray.io_{kind.lower()}s.yaml") for kind in ("RayCluster", "RayJob")}
    seen: Counter[str] = Counter()
    for spec in specs.values():
        _count(spec, seen)
    names = {text: f"part{i}" for i, text in enumerate(text for text, n in seen.items() if n > 1)}
    parts = {name: _shared(json.loads(text), names, top=True) for text, name in names.items()}
    out = {"parts": parts, "kinds": {kind: _shared(spec, names) for kind, spec in specs.items()}}
    Path(__file__).with_name("kuberay.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


def _spec(file: Path) -> Any:
    versions = yaml.safe_load(file.read_text())["spec"]["versions"]
    schema = next(version for version in versions if version["name"] == "v1")["schema"]["openAPIV3Schema"]
    return _plain(schema["properties"]["spec"])


def _plain(schema: Any) -> Any:
    """The schema without words and CEL."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _plain(value) for key, value in schema.items() if key not in _LEFT_OUT}
    if isinstance(schema.get("description"), str):
        del kept["description"]
    if isinstance(schema.get("properties"), dict):  # names of fields, whatever they are
        kept["properties"] = {name: _plain(field) for name, field in schema["properties"].items()}
    return kept


def _text(schema: Any) -> str:
    return json.dumps(schema, sort_keys=True)


def _count(schema: Any, seen: Counter[str]) -> None:
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        if isinstance(part, dict) and "type" in part and len(_text(part)) >= _SMALLEST:
            seen[_text(part)] += 1
            if seen[_text(part)] > 1:
                continue  # its own parts have been counted
        _count(part, seen)


def _shared(schema: Any, names: dict[str, str], *, top: bool = False) -> Any:
    if isinstance(schema, list):
        return [_shared(item, names) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if not top and _text(schema) in names:
        return {"$ref": f"#/parts/{names[_text(schema)]}"}
    return {key: _shared(value, names) for key, value in schema.items()}


if __name__ == "__main__":
    main()
