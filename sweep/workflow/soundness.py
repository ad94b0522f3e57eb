"""Whether a graph holds together, by itself and on a server with certain node types, told in sentences."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from sweep.errors import Problem, WorkflowError, did_you_mean
from sweep.workflow.checks import check_value
from sweep.workflow.graph import Address, Edge, Graph, Node
from sweep.workflow.identity import computation_order
from sweep.workflow.naming import label, made_up, named
from sweep.workflow.schemas import FieldSchema, NodeSchema, NodeSchemas

_OPEN_TYPES = frozenset({"core_metadata", "call_saved_workflow"})  # these take fields their schema does not name
_SCALARS = frozenset({"integer", "number", "string", "boolean"})
_COERCED = frozenset({("integer", "number"), ("integer", "string"), ("number", "string")})
_COMMON_WORDS = frozenset({"image", "processor", "to", "from", "and", "loader", "model"})


def check_graph(graph: Graph, schemas: NodeSchemas) -> list[Problem]:
    """Every fault that makes the graph unrenderable on a server with these nodes; empty where there is none.

    Missing models and pictures count, as the nodes need them: check after the plan has filled them in, or have
    `open_fields` tell of them.
    """
    faults = [*check_wiring(graph), *_check_nodes(graph, schemas), *_check_edges(graph, schemas)]
    return [Problem(message=fault) for fault in faults]


def _check_nodes(graph: Graph, schemas: NodeSchemas) -> Iterator[str]:
    fed = {edge.destination for edge in graph.edges}
    for node in graph.nodes.values():
        schema = schemas.get(node.type)
        if schema is None:
            yield unknown_type(node, schemas)
            continue
        for name, value in node.fields.items():
            field = schema.field(name)
            if field is None:
                if node.type not in _OPEN_TYPES:
                    yield f"{named(node)} has no field {name}.{did_you_mean(name, schema.fields)}"
            elif Address(node.id, name) not in fed and (fault := check_value(field, value)):
                yield f"{named(node)}: {name} {fault}"
        for field in _empty(node, schema, fed):
            yield f"{named(node)} needs {'an edge into' if not field.takes_value else 'a value for'} {field.name}"


def open_fields(graph: Graph, schemas: NodeSchemas) -> list[Address]:
    """The fields that need a value and have none: what an experiment, or a server's only model, has to fill in."""
    fed = {edge.destination for edge in graph.edges}
    return [
        Address(node.id, field.name)
        for node in graph.nodes.values()
        if (schema := schemas.get(node.type))
        for field in _empty(node, schema, fed)
        if field.takes_value
    ]


def _empty(node: Node, schema: NodeSchema, fed: Collection[Address]) -> Iterator[FieldSchema]:
    for field in schema.fields.values():
        if field.required and field.name not in node.fields and Address(node.id, field.name) not in fed:
            yield field


def unknown_type(node: Node, schemas: NodeSchemas) -> str:
    """The sentence for a node type the server does not have."""
    near = did_you_mean(node.type, schemas) or _sharing_words(node.type, schemas)
    if not label(node) and made_up(node.id):
        return f"{node.type} is a type of node that this server does not have: a custom or removed one?{near}"
    who = label(node) if made_up(node.id) else f"{label(node)} ({node.id})" if label(node) else node.id
    return f"{who} is of type {node.type}, which this server does not have: a custom or removed node?{near}"


def _sharing_words(kind: str, schemas: NodeSchemas) -> str:
    """Types that do the same under another name share a telling word: canny_image_processor, canny_edge_detection."""
    words = set(kind.split("_")) - _COMMON_WORDS
    best = max(schemas, key=lambda other: len(words.intersection(other.split("_"))), default="")
    return f" Did you mean {best}?" if words.intersection(best.split("_")) else ""


def check_wiring(graph: Graph) -> Iterator[str]:
    """The faults of a graph that no server's node types are needed to see: edges from or to a missing node, two into
    one input, nodes that feed each other in a circle.
    """
    fed: dict[Address, Edge] = {}
    for edge in dict.fromkeys(graph.edges):
        missing = [end.node for end in (edge.source, edge.destination) if end.node not in graph.nodes]
        if missing:
            yield f"Edge {edge}: there is no node {missing[0]!r}.{did_you_mean(missing[0], graph.nodes)}"
            continue
        other = fed.setdefault(edge.destination, edge)
        if other is not edge and graph.nodes[edge.destination.node].type != "collect":
            yield f"Two edges lead into {edge.destination}: from {other.source} and from {edge.source}"
    yield from _check_circle(graph)


def _check_edges(graph: Graph, schemas: NodeSchemas) -> Iterator[str]:
    for edge in dict.fromkeys(graph.edges):
        ends = [graph.nodes.get(end.node) for end in (edge.source, edge.destination)]
        source, target = (schemas.get(node.type) if node else None for node in ends)
        if source is not None and target is not None:
            yield from _check_ends(edge, graph, source, target)


def _check_ends(edge: Edge, graph: Graph, source: NodeSchema, target: NodeSchema) -> Iterator[str]:
    output = source.outputs.get(edge.source.field)
    field = target.field(edge.destination.field)
    if output is None:
        near = did_you_mean(edge.source.field, source.outputs)
        yield f"Edge {edge}: {named(graph.nodes[edge.source.node])} gives no {edge.source.field}.{near}"
    elif field is None:
        if target.type not in _OPEN_TYPES:
            near = did_you_mean(edge.destination.field, target.fields)
            who = named(graph.nodes[edge.destination.node])
            yield f"Edge {edge}: {who} has no field {edge.destination.field}.{near}"
    elif field.input == "direct":
        yield f"Edge {edge}: {edge.destination} takes a value, not an edge"
    elif not _fits(output, field):
        wanted = f"a list of {field.items}" if field.type == "array" else field.type
        yield f"Edge {edge}: {edge.source} gives {_given(output)}, {edge.destination} takes {wanted}"


def _given(output: str) -> str:
    return "a list" if output == "array" else output


def _fits(output: str, field: FieldSchema) -> bool:
    """False only where the types certainly do not go together."""
    if "any" in {output, field.type} or output == field.type:
        return True
    if output == "array":
        return bool(field.items)
    if field.type == "array":
        return False
    return (output, field.type) in _COERCED or (output not in _SCALARS and output == field.items)


def _check_circle(graph: Graph) -> Iterator[str]:
    sources: dict[str, list[str]] = {node: [] for node in graph.nodes}
    for edge in graph.edges:
        if edge.source.node in sources and edge.destination.node in sources:
            sources[edge.destination.node].append(edge.source.node)
    try:
        computation_order(sources)
    except WorkflowError as circle:
        yield circle.message


def raise_for(problems: Iterable[Problem], source: str) -> None:
    """Raise a WorkflowError with all problems of `source`, where there are any."""
    found = list(problems)
    if len(found) == 1:
        raise WorkflowError(f"{source}: {found[0].message}", problems=found, source=source)
    if found:
        raise WorkflowError.of(found, source)
