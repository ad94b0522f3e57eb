"""The nodes that only handle values: numbers, words, lists, metadata, and what to load."""

from __future__ import annotations

import math
import operator
import random
import re
from collections.abc import Callable
from typing import Any

Node = dict[str, Any]


class NodeError(Exception):
    """A node failed; `kind` is the class InvokeAI would name."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


Run = Callable[[Node], Node]
VALUES: dict[str, Run] = {}


def value(*kinds: str) -> Callable[[Run], Run]:
    """Registers what these node types do."""

    def register(run: Run) -> Run:
        VALUES.update(dict.fromkeys(kinds, run))
        return run

    return register


@value("integer", "float", "string", "boolean")
def primitive(node: Node) -> Node:
    """A value."""
    return {"value": node["value"], "type": f"{node['type']}_output"}


@value("rand_int")
def random_integer(node: Node) -> Node:
    """Another number each time, as on the real server."""
    low, high = sorted((node["low"], node["high"]))
    return {"value": random.randrange(low, max(high, low + 1)), "type": "integer_output"}


@value("add", "sub", "mul", "div")
def arithmetic(node: Node) -> Node:
    """Whole numbers."""
    a, b = node["a"], node["b"]
    if node["type"] == "div" and b == 0:
        raise NodeError("ZeroDivisionError", "division by zero")
    results = {"add": a + b, "sub": a - b, "mul": a * b}
    return {"value": results[node["type"]] if node["type"] in results else int(a / b), "type": "integer_output"}


@value("integer_math", "float_math")
def calculation(node: Node) -> Node:
    """Numbers under a named operation."""
    a, b = node["a"], node["b"]
    try:
        result = _OPERATIONS[node["operation"]](a, b)
    except (ArithmeticError, ValueError) as error:
        raise NodeError(type(error).__name__, str(error)) from None
    whole = node["type"] == "integer_math"
    kind = "integer_output" if whole else "float_output"
    return {"value": int(result) if whole else result, "type": kind}


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


@value("float_to_int")
def rounded(node: Node) -> Node:
    """A number as a multiple of a whole one."""
    share, multiple = node["value"] / node["multiple"], node["multiple"]
    ways: dict[str, Callable[[float], int]] = {"Floor": math.floor, "Ceiling": math.ceil, "Truncate": math.trunc}
    return {"value": ways.get(node["method"], round)(share) * multiple, "type": "integer_output"}


@value("string_join", "string_join_three")
def joined(node: Node) -> Node:
    """Words in a row."""
    parts = (node.get(f"string_{place}") or "" for place in ("left", "middle", "right"))
    return {"value": "".join(parts), "type": "string_output"}


@value("string_replace")
def replaced(node: Node) -> Node:
    """Words with others in their place; InvokeAI ignores case unless it is a regular expression."""
    pattern = node["search_string"] if node["use_regex"] else re.escape(node["search_string"])
    put = node["replace_string"] if node["use_regex"] else lambda _: node["replace_string"]
    try:
        value = re.sub(pattern, put, node["string"], flags=0 if node["use_regex"] else re.IGNORECASE)
    except re.error as error:
        raise NodeError("error", str(error)) from None
    return {"value": value if pattern else node["string"], "type": "string_output"}


@value("scheduler", "model_identifier")
def passed_on(node: Node) -> Node:
    """What was chosen."""
    name = "scheduler" if node["type"] == "scheduler" else "model"
    return {name: node[name], "type": f"{node['type']}_output"}


@value("seamless", "freeu")
def adjusted(node: Node) -> Node:
    """Parts of a model, set differently; the painter does not mind."""
    parts: Node = {name: node[name] for name in ("unet", "vae") if name in node}
    return {**parts, "type": "seamless_output" if node["type"] == "seamless" else "unet_output"}


@value("random_range")
def random_numbers(node: Node) -> Node:
    """Whole numbers, the same for the same seed."""
    draw = random.Random(node["seed"])
    low, high = sorted((node["low"], node["high"]))
    numbers = [draw.randrange(low, max(high, low + 1)) for _ in range(node["size"])]
    return {"collection": numbers, "type": "integer_collection_output"}


@value("range")
def number_range(node: Node) -> Node:
    """Whole numbers from start up to stop."""
    numbers = list(range(node["start"], node["stop"], node["step"] or 1))
    return {"collection": numbers, "type": "integer_collection_output"}


@value("integer_collection", "float_collection", "string_collection", "image_collection")
def collection(node: Node) -> Node:
    """A list, as it is."""
    return {"collection": node["collection"] or [], "type": f"{node['type']}_output"}


@value("iterate")
def iterate(node: Node) -> Node:
    """One item of a list."""
    items = node["collection"]
    output = {"item": items[node["index"]], "index": node["index"], "total": len(items)}
    return {**output, "type": "iterate_output"}


@value("collect")
def collect(node: Node) -> Node:
    """What the edges brought together."""
    return {"collection": node["collection"], "type": "collect_output"}


@value("core_metadata")
def core_metadata(node: Node) -> Node:
    """Whatever it is given, extra keys too."""
    hidden = {"id", "type", "is_intermediate", "use_cache"}
    kept = {name: value for name, value in node.items() if name not in hidden and value is not None}
    return {"metadata": {**kept, "app_version": "6.14.2"}, "type": "metadata_output"}


@value("metadata_item")
def metadata_item(node: Node) -> Node:
    """One label and value."""
    label = node["label"]
    return {"item": {"label": label, "value": node["value"]}, "type": "metadata_item_output"}


@value("metadata")
def metadata(node: Node) -> Node:
    """Labels and values together."""
    items = node["items"] if isinstance(node["items"], list) else [node["items"]]
    return {"metadata": {item["label"]: item["value"] for item in items}, "type": "metadata_output"}


@value("merge_metadata")
def merge_metadata(node: Node) -> Node:
    """Several as one, later ones first."""
    merged: Node = {}
    for entry in node["collection"] or []:
        merged |= entry
    return {"metadata": merged, "type": "metadata_output"}


@value("lora_selector")
def select_lora(node: Node) -> Node:
    """A LoRA and its weight, to be collected."""
    return {"lora": {"lora": node["lora"], "weight": node["weight"]}, "type": "lora_selector_output"}


@value("clip_skip")
def skip_layers(node: Node) -> Node:
    """Fewer layers of the text encoder."""
    clip = node["clip"]
    skipped = clip["skipped_layers"] + node["skipped_layers"]
    return {"clip": {**clip, "skipped_layers": skipped}, "type": "clip_skip_output"}
