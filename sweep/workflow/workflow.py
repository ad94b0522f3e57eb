"""Workflow: a graph and what its file says besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sweep.errors import Problem, WorkflowError
from sweep.text import truncate
from sweep.workflow.graph import Address, Edge, Graph, ModelRef, Value
from sweep.workflow.labels import readable
from sweep.workflow.schemas import FieldSchema, builtin_schemas
from sweep.workflow.validation import check_wiring, raise_for


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAxis:
    """A list of values the workflow itself wants to be run over, at every one of `addresses`."""

    name: str  # the batch node's label or id
    addresses: tuple[Address, ...]
    values: tuple[Value, ...]
    group: str = ""  # axes of one group step together; an axis without a group multiplies
    note: str = ""  # what a person should know of it where it is run over


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow as a graph, and what its file says besides.

    `files` are image files that the workflow names by path, for fields that then hold nothing yet. `notes` are
    sentences about what was completed, translated or left out.
    """

    graph: Graph
    kind: Literal["api", "editor", "portable"]
    name: str = ""
    batch_axes: tuple[BatchAxis, ...] = ()
    exposed: tuple[Address, ...] = ()  # fields its author put on the form, in that order
    labels: Mapping[Address, str] = field(default_factory=dict)  # what its author called fields
    files: Mapping[Address, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    lacking: str = ""  # the main model it names, where that is known to be missing on the server
    translate: Callable[[str], Workflow] | None = field(
        default=None, compare=False, repr=False
    )  # of the portable form: to the nodes of a base

    def for_base(self, base: str) -> Workflow:
        """The workflow with the nodes for models of `base`; itself where the file names real node types already, or
        where the base is not known ("").

        Raises WorkflowError where the portable form has no translation for that base.
        """
        return self.translate(base) if self.translate is not None and base else self


def api_edge(entry: Any, problems: list[Problem]) -> Edge | None:
    """An edge written as source and destination with node_id and field; None and a problem for anything else."""
    ends = [entry.get(end) if isinstance(entry, Mapping) else None for end in ("source", "destination")]
    parts = [end.get(part) if isinstance(end, Mapping) else None for end in ends for part in ("node_id", "field")]
    if not all(isinstance(part, str) and part for part in parts):
        problems.append(Problem(message=f"An edge has no source and destination with node_id and field: {_cut(entry)}"))
        return None
    source, output, destination, name = map(str, parts)
    return Edge(Address(source, output), Address(destination, name))


def sound(graph: Graph, source: str) -> Graph:
    """The graph without values that an edge overrides. Raises WorkflowError where it is empty or its edges are wrong:
    from or to a missing node, two into one input, a circle.
    """
    if not graph.nodes:
        raise WorkflowError(f"{source} holds no workflow: it has no nodes.")
    raise_for([Problem(message=readable(graph, fault)) for fault in check_wiring(graph)], source)
    fed: dict[str, set[str]] = {}
    for edge in graph.edges:
        fed.setdefault(edge.destination.node, set()).add(edge.destination.field)
    nodes = {
        name: replace(node, fields={k: v for k, v in node.fields.items() if k not in fed[name]})
        if name in fed and not fed[name].isdisjoint(node.fields)
        else node
        for name, node in graph.nodes.items()
    }
    return replace(graph, nodes=nodes)


def _cut(entry: Any) -> str:
    return truncate(str(entry), 80)


_ATTRIBUTES = frozenset({"id", "type", "workflow"})
_TEXTS = frozenset({"string", "any"})


def node_fields(kind: str, values: Mapping[str, Any]) -> dict[str, Value]:
    """What is set on a node of that type, without what says nothing: null, an unchosen model, the default board.

    A node type that sweep does not know keeps all but nulls.
    """
    schema = builtin_schemas().get(kind)
    fields: dict[str, Value] = {}
    for name, value in values.items():
        if name not in _ATTRIBUTES and not _says_nothing(name, value, schema.field(name) if schema else None):
            fields[name] = workflow_references(value)
    return fields


def _says_nothing(name: str, value: Any, field: FieldSchema | None) -> bool:
    if name == "board" and (value in ("auto", "none", "", None) or value == {}):
        return True
    if value is None:
        return not (field and field.nullable and field.default is not None)
    if field is None:
        return False
    return not field.takes_value or (value in ("", {}) and field.type not in _TEXTS and field.type != "object")


def workflow_references(value: Any) -> Value:
    """The value with models by name, type and base in place of a server's keys, at any depth."""
    if isinstance(value, list):
        return [workflow_references(item) for item in value]
    if not isinstance(value, Mapping):
        return value  # type: ignore[no-any-return]  # a JSON scalar
    if _is_model(value):
        return ModelRef(value["name"], value["base"], value["type"])
    if {"model_name", "base_model"} <= value.keys():  # InvokeAI 3
        return ModelRef(str(value["model_name"]), str(value["base_model"]), str(value.get("model_type") or "main"))
    return {str(name): workflow_references(item) for name, item in value.items()}


def _is_model(value: Mapping[str, Any]) -> bool:
    named = all(isinstance(value.get(part), str) for part in ("name", "base", "type"))
    return named and "key" in value and not value.get("submodel_type")
