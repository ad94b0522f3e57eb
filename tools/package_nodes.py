"""Writes the node types that are packaged with sweep, from a server's own description of its nodes.

::

    python -m tools.package_nodes openapi.json sweep/workflow/invokeai/nodes-6.14.2.json
    python -m tools.package_nodes object_info.json sweep/workflow/comfyui/nodes-core.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sweep.workflow import FieldSchema, NodeSchema, read_object_info, read_openapi

CORE = ("nodes", "comfy_extras")  # modules of ComfyUI's own nodes


def write_packaged(schemas: Mapping[str, NodeSchema], path: Path) -> None:
    """Write node types as they are packaged with sweep: facts, no texts, one type a line so that releases compare."""
    lines = []
    for kind, node in sorted(schemas.items()):
        facts = {**list_unusual(node), "fields": {name: list_unusual(field) for name, field in node.fields.items()}}
        lines.append(f"{json.dumps(kind)}:{json.dumps(facts, separators=(',', ':'))}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8", newline="\n")


def list_unusual(schema: NodeSchema | FieldSchema) -> dict[str, Any]:
    """Return the attributes that differ from their defaults, except the name, which is the key already."""
    found = {}
    for slot in fields(schema)[1:]:
        value = getattr(schema, slot.name)
        if slot.repr and (value != slot.default or type(value) is not type(slot.default)):
            found[slot.name] = list(value) if isinstance(value, tuple) else value
    return found


def package(source: Path, target: Path) -> None:
    """Write the nodes of an OpenAPI document of InvokeAI, or the core nodes of an `/object_info` answer of ComfyUI."""
    document = json.loads(source.read_text("utf-8"))
    if "components" in document:
        write_packaged(read_openapi(document), target)
    else:
        own = {kind: v for kind, v in document.items() if str(v.get("python_module", "")).startswith(CORE)}
        write_packaged(read_object_info(own), target)


if __name__ == "__main__":
    package(*map(Path, sys.argv[1:]))
