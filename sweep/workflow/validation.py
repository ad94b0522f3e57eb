"""Validation: checks values against the schemas of fields, and graphs against the node types of a server."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Final

from sweep.errors import Problem, WorkflowError, did_you_mean
from sweep.text import truncate
from sweep.workflow.dialect import NodeSchemas
from sweep.workflow.digests import order_computation
from sweep.workflow.graph import (
    Address,
    BoardRef,
    Edge,
    Graph,
    ImageRef,
    ModelRef,
    Node,
    Value,
    is_made_up,
    label,
    make_readable,
    named,
)
from sweep.workflow.node_schemas import FieldSchema, NodeSchema

_MANY = 12  # choices up to this number are listed in full


def check_value(schema: FieldSchema, value: Value) -> str | None:
    """Explain why a value does not fit, as the end of a sentence ("takes 0 to 1, not 1.5"); None where it fits.

    A whole number fits a field of fractions, a yes or no does not; nothing fits a field that only edges feed.
    """
    if schema.input == "connection":
        return "takes no value, only an edge"
    if value is None:
        return None if schema.nullable or schema.type == "any" else "needs a value"
    if isinstance(value, list | tuple) and schema.items:
        single = replace(schema, type=schema.items, items="", nullable=False)
        return next(filter(None, (check_value(single, item) for item in value)), None)
    return _check_single(schema, value)


_WORDS: Final = {  # type of a field → its name for people
    "string": "text",
    "array": "a list",
    "boolean": "true or false",
    "ImageField": "an image",
    "ModelIdentifierField": "a model",
    "BoardField": "a board",
}


def _check_single(schema: FieldSchema, value: Value) -> str | None:
    match schema.type, value:
        case (("integer" | "number"), _):
            return _check_number(schema, value)
        case "string", str():
            return _check_choice(schema, value)
        case "ModelIdentifierField", ModelRef():
            return _check_model(schema, value)
        case ("any", _) | ("boolean", bool()) | ("ImageField", ImageRef() | {"image_name": _}):
            return None
        case ("ModelIdentifierField", {"key": _}) | ("BoardField", BoardRef() | {} | "auto" | "none"):
            return None
        case kind, {} if kind not in _WORDS:
            return None
    way = "; write {image: FILE}, or {images: [FILE, …]} as an axis" if schema.type == "ImageField" else ""
    wanted = _WORDS.get(schema.type, schema.type)
    return f"takes {wanted}, not {_show(value)}{way if isinstance(value, str) else ''}"


def _check_number(schema: FieldSchema, value: Value) -> str | None:
    kind, fits = ("whole numbers", float.is_integer) if schema.type == "integer" else ("numbers", math.isfinite)
    if isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(value, float) and not fits(value)):
        return f"takes {kind}, not {_show(value)}"
    if schema.choices:
        return _check_choice(schema, f"{value:.15g}")
    is_within = (
        (schema.minimum is None or value >= schema.minimum)
        and (schema.maximum is None or value <= schema.maximum)
        and (schema.exclusive_minimum is None or value > schema.exclusive_minimum)
        and (schema.exclusive_maximum is None or value < schema.exclusive_maximum)
    )
    if not is_within:
        return f"takes {describe_range(schema)}, not {_show(value)}"
    if schema.multiple_of and not math.isclose(remainder := math.remainder(value, schema.multiple_of), 0, abs_tol=1e-9):
        near = value - remainder
        return f"takes multiples of {schema.multiple_of:g}, not {_show(value)} (nearest: {near:g})"
    return None


def describe_range(schema: FieldSchema) -> str:
    """Describe the range of a number field: "0 to 1", "more than 0", "multiples of 8"; empty without limits."""
    low, high = schema.minimum, schema.maximum
    if low is not None and high is not None:
        text = f"{_write_bound(low)} to {_write_bound(high)}"
    else:
        above, below = schema.exclusive_minimum, schema.exclusive_maximum
        bounds = {"at least": low, "at most": high, "more than": above, "less than": below}
        text = " and ".join(f"{words} {_write_bound(bound)}" for words, bound in bounds.items() if bound is not None)
    steps = f"multiples of {schema.multiple_of:g}" if schema.multiple_of else ""
    return ", ".join(filter(None, (text, steps)))


def _write_bound(bound: float) -> str:
    """Write a limit: whole numbers with all their digits."""
    return str(bound) if isinstance(bound, int) else f"{bound:.12g}"


def _check_choice(schema: FieldSchema, value: str) -> str | None:
    if not schema.choices or value in schema.choices:
        return None
    known = f" It takes {', '.join(schema.choices)}." if len(schema.choices) <= _MANY else ""
    return f"does not take {value!r}.{did_you_mean(value, schema.choices)}{known}"


def _check_model(schema: FieldSchema, value: ModelRef) -> str | None:
    if schema.model_types and value.type and value.type not in schema.model_types:
        return f"takes a {' or '.join(schema.model_types)} model; {value.name} is a {value.type}"
    if schema.model_bases and value.base and value.base not in {*schema.model_bases, "any"}:
        return f"takes a model for {' or '.join(schema.model_bases)}; {value.name} is for {value.base}"
    return None


def _show(value: Value) -> str:
    return truncate(repr(value) if isinstance(value, str) else str(value), 60)


_SCALARS = frozenset({"integer", "number", "string", "boolean"})
_COERCED = frozenset({("integer", "number"), ("integer", "string"), ("number", "string")})
_COMMON_WORDS = frozenset({"image", "processor", "to", "from", "and", "loader", "model"})


def check_graph(graph: Graph, schemas: NodeSchemas, *, may_lack_values: bool = False) -> list[Problem]:
    """List every problem that makes the graph unrenderable with these nodes; missing models and images are problems,
    unless it `may_lack_values`: see `open_fields`.
    """
    wiring = check_wiring(graph, schemas.dialect.collecting_nodes)
    nodes = _check_nodes(graph, schemas, may_lack_values)
    return [Problem(message=said) for said in (*wiring, *nodes, *_check_edges(graph, schemas))]


def _check_nodes(graph: Graph, schemas: NodeSchemas, may_lack_values: bool) -> Iterator[str]:
    fed = {edge.destination for edge in graph.edges}
    for node in graph.nodes.values():
        schema = schemas.get(node.type)
        if schema is None:
            yield describe_unknown_type(node, schemas)
            continue
        for name, value in node.fields.items():
            field = schema.field(name)
            if field is None:
                if not schema.is_open:
                    yield f"{named(node)} has no field {name}.{did_you_mean(name, schema.fields)}"
            elif Address(node.id, name) not in fed and (problem := check_value(field, value)):
                yield f"{named(node)}: {name} {problem}"
        for field in _list_empty(node, schema, fed):
            if not field.takes_value:
                yield f"{named(node)} needs an edge into {field.name}"
            elif not may_lack_values:
                yield f"{named(node)} needs a value for {field.name}"


def drop_unknown_fields(graph: Graph, schemas: NodeSchemas) -> tuple[Graph, list[str]]:
    """Drop values of fields that nodes do not have on this server, as its own editor does, with a note on each."""
    notes: list[str] = []
    for node in graph.nodes.values():
        schema = schemas.get(node.type)
        if schema is None or schema.is_open:
            continue
        unknown = [name for name in node.fields if schema.field(name) is None]
        for name in unknown:
            near = did_you_mean(name, schema.fields)
            notes.append(f"{named(node)} has no field {name} on this server; it is left out.{near}")
        if unknown:
            known = {name: value for name, value in node.fields.items() if name not in unknown}
            graph = graph.adding([replace(node, fields=known)])
    return graph, notes


def open_fields(graph: Graph, schemas: NodeSchemas) -> list[Address]:
    """Return the fields that need a value and have none: an experiment, or a server's only model, has to fill them."""
    fed = {edge.destination for edge in graph.edges}
    return [
        Address(node.id, field.name)
        for node in graph.nodes.values()
        if (schema := schemas.get(node.type))
        for field in _list_empty(node, schema, fed)
        if field.takes_value
    ]


def _list_empty(node: Node, schema: NodeSchema, fed: Collection[Address]) -> list[FieldSchema]:
    needed = [field for field in schema.fields.values() if field.required and field.name not in node.fields]
    return [field for field in needed if Address(node.id, field.name) not in fed]


def describe_unknown_type(node: Node, schemas: NodeSchemas) -> str:
    """Write the sentence for a node type that the server does not have."""
    near = did_you_mean(node.type, schemas)
    words = set(node.type.split("_")) - _COMMON_WORDS  # canny_image_processor and canny_edge_detection share one
    best = max(schemas, key=lambda other: len(words.intersection(other.split("_"))), default="")
    if not near and words.intersection(best.split("_")):
        near = f" Did you mean {best}?"
    if not label(node) and is_made_up(node.id):
        return f"{node.type} is a type of node that this server does not have: a custom, newer or removed one?{near}"
    who = label(node) if is_made_up(node.id) else f"{label(node)} ({node.id})" if label(node) else node.id
    return f"{who} is of type {node.type}, which this server does not have: a custom, newer or removed node?{near}"


def check_wiring(graph: Graph, collecting: Collection[str] = ()) -> Iterator[str]:
    """Yield the problems of a graph that show without a server's node types: edges from or to a missing node, two into
    one input, nodes that feed each other in a circle.
    """
    fed: dict[Address, Edge] = {}
    sources: dict[str, list[str]] = {node: [] for node in graph.nodes}
    for edge in dict.fromkeys(graph.edges):
        missing = [end.node for end in (edge.source, edge.destination) if end.node not in graph.nodes]
        if missing:
            yield f"Edge {edge}: there is no node {missing[0]!r}.{did_you_mean(missing[0], graph.nodes)}"
            continue
        sources[edge.destination.node].append(edge.source.node)
        other = fed.setdefault(edge.destination, edge)
        if other is not edge and graph.nodes[edge.destination.node].type not in collecting:
            yield f"Two edges lead into {edge.destination}: from {other.source} and from {edge.source}"
    try:
        order_computation(sources)
    except WorkflowError as circle:
        yield circle.message


def _check_edges(graph: Graph, schemas: NodeSchemas) -> Iterator[str]:
    for edge in dict.fromkeys(graph.edges):
        giver, taker = graph.nodes.get(edge.source.node), graph.nodes.get(edge.destination.node)
        source, target = (schemas.get(node.type) if node else None for node in (giver, taker))
        if giver is None or taker is None or source is None or target is None:
            continue
        output, field = source.outputs.get(edge.source.field), target.field(edge.destination.field)
        if output is None:
            near = did_you_mean(edge.source.field, source.outputs)
            yield f"Edge {edge}: {named(giver)} gives no {edge.source.field}.{near}"
        elif field is None:
            near = did_you_mean(edge.destination.field, target.fields)
            if not target.is_open:
                yield f"Edge {edge}: {named(taker)} has no field {edge.destination.field}.{near}"
        elif field.input == "direct":
            yield f"Edge {edge}: {edge.destination} takes a value, not an edge"
        elif not _fits(output, field):
            given = "a list" if output == "array" else output
            wanted = f"a list of {field.items}" if field.type == "array" else field.type
            yield f"Edge {edge}: {edge.source} gives {given}, {edge.destination} takes {wanted}"


def _fits(output: str, field: FieldSchema) -> bool:
    """Return False only where the types certainly do not go together."""
    if "any" in {output, field.type} or output == field.type:
        return True
    if output == "array":
        return bool(field.items)
    if field.type == "array":
        return False
    return (output, field.type) in _COERCED or (output not in _SCALARS and output == field.items)


def raise_for(problems: Iterable[str], source: str) -> None:
    """Raise a WorkflowError with all problems of `source`, where there are any."""
    found = [Problem(message=said) for said in problems]
    if len(found) == 1:
        raise WorkflowError(f"{source}: {found[0].message}", problems=found, source=source)
    if found:
        raise WorkflowError.of(found, source)


def clean_graph(graph: Graph, source: str, collecting: Collection[str] = ()) -> Graph:
    """Return the graph without values that an edge overrides. Raises WorkflowError for an empty or badly wired one."""
    if not graph.nodes:
        raise WorkflowError(f"{source} is not a workflow; it has no nodes.")
    raise_for((make_readable(graph, said) for said in check_wiring(graph, collecting)), source)
    nodes = {name: {**node.fields} for name, node in graph.nodes.items()}
    for edge in graph.edges:
        nodes[edge.destination.node].pop(edge.destination.field, None)
    return Graph.of((replace(graph.nodes[name], fields=fields) for name, fields in nodes.items()), graph.edges)
