"""invokeai-py-client, measured where SWEEP_PEER names a Python that has it: `pip install invokeai-py-client` there.

It takes workflows as the editor exports them, with a form; so the graphs that the other clients send are written as
one export whose form has the three fields that differ between them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.loops import Graph

FIELDS: Final = (("compel", "prompt"), ("denoise_latents", "denoising_start"), ("noise", "seed"))


def python() -> str | None:
    """Find the Python that has the library; None where none is named."""
    return os.environ.get("SWEEP_PEER")


def submit_all(url: str, graphs: Sequence[Graph], folder: Path) -> float:
    """Every graph submitted, waited for and downloaded; the seconds it took. Raises CalledProcessError."""
    varied = [_find_varied(graphs, kind, field) for kind, field in FIELDS]
    export, points = folder / "export.json", folder / "points.json"
    export.write_text(json.dumps(_export(graphs[0], varied)))
    points.write_text(json.dumps([[graph["nodes"][node][field] for node, field in varied] for graph in graphs]))
    script = Path(__file__).with_name("peer_client.py")
    command = [str(python()), str(script), url, str(export), str(points), str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def _find_varied(graphs: Sequence[Graph], kind: str, field: str) -> tuple[str, str]:
    """Find the node of this type whose field is not the same in all graphs."""
    for name, node in graphs[0]["nodes"].items():
        if node["type"] == kind and len({graph["nodes"][name][field] for graph in graphs}) > 1:
            return name, field
    raise ValueError(f"no {kind}.{field} differs between the graphs")


def _export(graph: Graph, form: Sequence[tuple[str, str]]) -> dict[str, Any]:
    elements: dict[str, Any] = {
        f"field-{at}": {
            "id": f"field-{at}",
            "type": "node-field",
            "parentId": "root",
            "data": {"fieldIdentifier": {"nodeId": node, "fieldName": field}, "showDescription": False},
        }
        for at, (node, field) in enumerate(form)
    }
    root = {"id": "root", "type": "container", "data": {"layout": "column", "children": list(elements)}}
    return {
        **dict.fromkeys(("author", "description", "version", "contact", "tags", "notes"), ""),
        "name": "peer",
        "exposedFields": [],
        "meta": {"version": "3.0.0", "category": "user"},
        "form": {"elements": {"root": root, **elements}, "rootElementId": "root"},
        "nodes": [_node(node) for node in graph["nodes"].values()],
        "edges": [_edge(number, edge) for number, edge in enumerate(graph["edges"])],
    }


def _node(node: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in node.items() if name not in _OF_THE_NODE and value is not None}
    data = {
        "id": node["id"],
        "type": node["type"],
        "version": "1.0.0",
        "nodePack": "invokeai",
        "label": "",
        "notes": "",
        "isOpen": True,
        "isIntermediate": bool(node.get("is_intermediate", True)),
        "useCache": bool(node.get("use_cache", True)),
        "inputs": {name: {"name": name, "label": "", "value": value} for name, value in fields.items()},
    }
    return {"id": node["id"], "type": "invocation", "position": {"x": 0, "y": 0}, "data": data}


_OF_THE_NODE = frozenset({"id", "type", "is_intermediate", "use_cache"})


def _edge(number: int, edge: dict[str, Any]) -> dict[str, Any]:
    source, target = edge["source"], edge["destination"]
    ends = {"source": source["node_id"], "sourceHandle": source["field"]}
    return {
        "id": f"edge-{number}",
        "type": "default",
        **ends,
        "target": target["node_id"],
        "targetHandle": target["field"],
    }
