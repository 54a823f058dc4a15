"""The configuration's JSON schema -> docs/config.md: a table of keys for each section. Knows no job."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

HEAD = """# Configuration

Every key of a run's YAML file, from `inverdict config schema --markdown`. `--set a.b=value` changes one; unknown keys
are refused. `inverdict config show CONFIG.yaml` prints a configuration with its defaults filled in.
"""
TOP = ("run", "seed", "publish")  # keys that are no section
Schema = Mapping[str, Any]


def page(schema: Schema) -> str:
    """The page, with a section for each object that a key of the configuration leads to, each once."""
    known = schema["$defs"]
    blocks = [HEAD, "## The file", _table({name: schema["properties"][name] for name in TOP}, schema, known)]
    told: set[str] = set()
    for name, spec in schema["properties"].items():
        if name not in TOP:
            blocks += list(_sections(name, spec, known, told))
    return "\n\n".join(block.rstrip() for block in blocks) + "\n"


def _sections(path: str, spec: Schema, known: Mapping[str, Schema], told: set[str]) -> Iterator[str]:
    for of in _objects(spec, known):
        if of in told:
            continue
        told.add(of)
        section = known[of]
        more = _backend(section)
        yield f"## {path}{f' ({more})' if more else ''}"
        if "description" in section:
            yield " ".join(section["description"].split("\n\n")[0].split())
        yield _table(section["properties"], section, known)
        for name, inner in section["properties"].items():
            yield from _sections(f"{path}.{name}", inner, known, told)


def _backend(section: Schema) -> str:
    """What tells the kinds of a model apart."""
    kind = section["properties"].get("backend", {})
    return f"backend: {kind['const']}" if "const" in kind else ""


def _objects(spec: Schema, known: Mapping[str, Schema]) -> list[str]:
    """The objects of ours that a value may be or hold."""
    if "$ref" in spec:
        name = spec["$ref"].rsplit("/", 1)[-1]
        return [name] if "properties" in known[name] else []
    inner = [*spec.get("anyOf", ()), *spec.get("oneOf", ()), *spec.get("prefixItems", ())]
    inner += [spec[key] for key in ("items", "additionalProperties") if isinstance(spec.get(key), dict)]
    return [name for one in inner for name in _objects(one, known)]


def _table(properties: Mapping[str, Schema], section: Schema, known: Mapping[str, Schema]) -> str:
    required = section.get("required", ())
    rows = ["| key | value | default | what it is |", "|---|---|---|---|"]
    for name, spec in properties.items():
        default = "*needed*" if name in required else _plain(spec.get("default"))
        about = " ".join(spec.get("description", "").split())
        cells = (f"`{name}`", _type(spec, known), default, about)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _plain(default: Any) -> str:
    if default is None or default in ([], {}):
        return "none"
    if isinstance(default, dict):
        return "as below"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _type(spec: Schema, known: Mapping[str, Schema]) -> str:
    """A value in words: number from 0 to 1, list of text, one of `a`, `b`."""
    if "const" in spec:
        return f"`{spec['const']}`"
    if "enum" in spec:
        return ", ".join(f"`{one}`" for one in spec["enum"])
    if "$ref" in spec:
        target = known[spec["$ref"].rsplit("/", 1)[-1]]
        return "section" if "properties" in target else _type(target, known)
    if several := spec.get("anyOf") or spec.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(one, known) for one in several if one.get("type") != "null"))
    if spec.get("type") == "array":
        if "prefixItems" in spec:
            return f"[{', '.join(_type(one, known) for one in spec['prefixItems'])}]"
        return f"list of {_type(spec.get('items', {}), known)}"
    if spec.get("type") == "object":
        inner = spec.get("additionalProperties")
        return f"name: {_type(inner, known)}" if isinstance(inner, dict) else "mapping"
    names = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true, false"}
    word = names.get(spec.get("type", ""), "any")
    low = spec.get("minimum", spec.get("exclusiveMinimum"))
    high = spec.get("maximum", spec.get("exclusiveMaximum"))
    bounds = [f"{'above' if 'exclusiveMinimum' in spec else 'from'} {low:g}"] if low is not None else []
    bounds += [f"{'below' if 'exclusiveMaximum' in spec else 'to'} {high:g}"] if high is not None else []
    return " ".join([word, *bounds])
