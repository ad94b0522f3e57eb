"""Behaviour of the node types that handle numbers, texts, lists and metadata."""

from __future__ import annotations

import math
import operator
import random
import re
from collections.abc import Callable
from typing import Any

NodeFields = dict[str, Any]
INTEGER, FLOAT, STRING, METADATA = "integer_output", "float_output", "string_output", "metadata_output"
_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "ADD": operator.add,
    "SUB": operator.sub,
    "MUL": operator.mul,
    "DIV": operator.truediv,
    "EXP": operator.pow,
    "MOD": operator.mod,
    "ABS": lambda a, _: abs(a),
    "SQRT": lambda a, _: math.sqrt(a),
    "MIN": min,
    "MAX": max,
}
_ROUNDINGS: dict[str, Callable[[float], int]] = {"Floor": math.floor, "Ceiling": math.ceil, "Truncate": math.trunc}


def _pass(*names: str) -> Callable[[NodeFields], NodeFields]:
    """Return inputs as they are; None for those the node does not have."""
    return lambda node: {name: node[name] for name in names if name in node}


def _draw_integers(node: NodeFields, draw: random.Random, count: int) -> list[int]:
    low, high = sorted((node["low"], node["high"]))
    return [draw.randrange(low, max(high, low + 1)) for _ in range(count)]


def _round(node: NodeFields) -> NodeFields:
    """Round a number to a multiple of a whole one."""
    share = node["value"] / node["multiple"]
    return {"value": _ROUNDINGS.get(node["method"], round)(share) * node["multiple"]}


def _join(node: NodeFields) -> NodeFields:
    return {"value": "".join(node.get(f"string_{place}") or "" for place in ("left", "middle", "right"))}


def _replace(node: NodeFields) -> NodeFields:
    """Replace text; InvokeAI ignores case unless it is a regular expression."""
    text, pattern, put = node["string"], node["search_string"], node["replace_string"]
    if not pattern:
        return {"value": text}
    if node["use_regex"]:
        return {"value": re.sub(pattern, put, text)}
    return {"value": re.sub(re.escape(pattern), lambda _: put, text, flags=re.IGNORECASE)}


def _iterate(node: NodeFields) -> NodeFields:
    items = node["collection"]
    return {"item": items[node["index"]], "index": node["index"], "total": len(items)}


def _keep_metadata(node: NodeFields) -> NodeFields:
    """Return all it is given, extra keys too."""
    hidden = {"id", "type", "is_intermediate", "use_cache"}
    kept = {name: value for name, value in node.items() if name not in hidden and value is not None}
    return {"metadata": {**kept, "app_version": "6.14.2"}}


def _label_metadata(node: NodeFields) -> NodeFields:
    items = node["items"] if isinstance(node["items"], list) else [node["items"]]
    return {"metadata": {item["label"]: item["value"] for item in items}}


def _merge_metadata(node: NodeFields) -> NodeFields:
    merged: NodeFields = {}
    for entry in node["collection"] or []:
        merged |= entry
    return {"metadata": merged}


def _skip_layers(node: NodeFields) -> NodeFields:
    clip = node["clip"]
    return {"clip": {**clip, "skipped_layers": clip["skipped_layers"] + node["skipped_layers"]}}


VALUE_NODES: dict[str, tuple[str, Callable[[NodeFields], NodeFields]]] = {  # type → type of the output, its fields
    "integer": (INTEGER, _pass("value")),
    "float": (FLOAT, _pass("value")),
    "string": (STRING, _pass("value")),
    "boolean": ("boolean_output", _pass("value")),
    "rand_int": (INTEGER, lambda node: {"value": _draw_integers(node, random.Random(), 1)[0]}),
    "add": (INTEGER, lambda node: {"value": node["a"] + node["b"]}),
    "sub": (INTEGER, lambda node: {"value": node["a"] - node["b"]}),
    "mul": (INTEGER, lambda node: {"value": node["a"] * node["b"]}),
    "div": (INTEGER, lambda node: {"value": int(node["a"] / node["b"])}),
    "integer_math": (INTEGER, lambda node: {"value": int(_OPERATIONS[node["operation"]](node["a"], node["b"]))}),
    "float_math": (FLOAT, lambda node: {"value": _OPERATIONS[node["operation"]](node["a"], node["b"])}),
    "float_to_int": (INTEGER, _round),
    "string_join": (STRING, _join),
    "string_join_three": (STRING, _join),
    "string_replace": (STRING, _replace),
    "scheduler": ("scheduler_output", _pass("scheduler")),
    "model_identifier": ("model_identifier_output", _pass("model")),
    "seamless": ("seamless_output", _pass("unet", "vae")),  # the painter ignores these settings
    "freeu": ("unet_output", _pass("unet")),
    "range": (
        "integer_collection_output",
        lambda node: {"collection": list(range(node["start"], node["stop"], node["step"] or 1))},
    ),
    "random_range": (
        "integer_collection_output",
        lambda node: {"collection": _draw_integers(node, random.Random(node["seed"]), node["size"])},
    ),
    **{
        f"{kind}_collection": (f"{kind}_collection_output", lambda node: {"collection": node["collection"] or []})
        for kind in ("integer", "float", "string", "image")
    },
    "iterate": ("iterate_output", _iterate),
    "collect": ("collect_output", _pass("collection")),
    "core_metadata": (METADATA, _keep_metadata),
    "metadata_item": ("metadata_item_output", lambda node: {"item": {name: node[name] for name in ("label", "value")}}),
    "metadata": (METADATA, _label_metadata),
    "merge_metadata": (METADATA, _merge_metadata),
    "lora_selector": ("lora_selector_output", lambda node: {"lora": {name: node[name] for name in ("lora", "weight")}}),
    "clip_skip": ("clip_skip_output", _skip_layers),
}


def run_value_node(node: NodeFields) -> NodeFields:
    """Return the output of a node of `VALUE_NODES`; fails with whatever its computation raises."""
    output, compute = VALUE_NODES[node["type"]]
    return {**compute(node), "type": output}
