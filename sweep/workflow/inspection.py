"""Describes a workflow for `sweep inspect`: nodes, fields, values, ranges, the roles found, and its problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sweep.workflow.dialect import NodeSchemas
from sweep.workflow.graph import Address, Json, ModelRef, Node, Value, Workflow, map_refs
from sweep.workflow.node_schemas import FieldSchema
from sweep.workflow.role_targets import Roles, Target, find_roles
from sweep.workflow.validation import check_graph, describe_range, open_fields

_LISTED = 6  # choices that are shown before the rest is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionRow:
    """A field of a node. `value` is the workflow's, or the server's default; None where it has neither."""

    address: Address
    node_label: str
    node_type: str
    field_label: str
    value: Value
    is_set: bool  # whether the workflow sets it, and not the default
    kind: str  # number, string, ImageField, …; empty for a type the schemas do not know
    range: str  # 0 to 1, "euler, euler_a, … (31)"
    choices: tuple[str, ...]
    fed_by: tuple[Address, ...]
    exposed: bool  # whether the workflow's author put it on the form
    roles: tuple[str, ...]  # those that set it

    @property
    def shown(self) -> str:
        """Return the value in a few words, as a table shows it."""
        if self.fed_by:
            return " + ".join(f"← {source}" for source in self.fed_by)
        if isinstance(self.value, ModelRef):
            return f"{self.value.name} ({self.value.base})" if self.value.base else self.value.name
        if isinstance(self.value, Mapping) and "image_name" in self.value:
            return str(self.value["image_name"])
        if isinstance(self.value, bool):
            return str(self.value).lower()
        return "" if self.value is None else str(self.value)

    def to_json(self) -> dict[str, Json]:
        return {
            "name": self.address.field,
            "address": str(self.address),
            "label": self.field_label,
            "value": map_refs(self.value, lambda reference: reference.canonical()),
            "set": self.is_set,
            "type": self.kind,
            "range": self.range,
            "choices": list(self.choices),
            "fed_by": list(map(str, self.fed_by)),
            "exposed": self.exposed,
            "roles": list(self.roles),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A described workflow: `rows` in the graph's order; with any of `problems` it cannot be rendered."""

    name: str
    kind: str
    rows: tuple[InspectionRow, ...]
    roles: Roles
    outputs: tuple[str, ...]
    needs: tuple[Address, ...]  # fields that an experiment, or a server's only model, has to fill in
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    batches: tuple[tuple[str, int], ...]  # the workflow's own axes: name and number of values

    def to_json(self) -> dict[str, Json]:
        """Return the JSON of `sweep inspect --json`: `nodes`, `roles` (role → addresses), `outputs` and the rest."""
        rows = groupby(self.rows, lambda row: {"id": row.address.node, "type": row.node_type, "label": row.node_label})
        nodes: list[Json] = [{**node, "fields": [row.to_json() for row in fields]} for node, fields in rows]
        targets = self.roles.targets
        cut = {role: [str(edge) for target in found for edge in target.cut] for role, found in targets.items()}
        return {
            "name": self.name,
            "kind": self.kind,
            "nodes": nodes,
            "roles": {role: _list_addresses(found) for role, found in targets.items()},
            "ambiguous": {role: [_list_addresses(g) for g in groups] for role, groups in self.roles.ambiguous.items()},
            "cut": {role: list[Json](edges) for role, edges in cut.items() if edges},
            "outputs": list(self.outputs),
            "batches": dict(self.batches),
            "needs": list(map(str, self.needs)),
            "problems": list(self.problems),
            "notes": list(self.notes),
        }


def describe(workflow: Workflow, schemas: NodeSchemas) -> Description:
    """Return the workflow as these node types see it. Never raises for what is wrong inside: that is in `problems`."""
    graph = workflow.graph
    roles = find_roles(graph, schemas)
    setting = _find_setting_roles(roles)
    problems = [problem.message for problem in check_graph(graph, schemas, may_lack_values=True)]
    outputs = schemas.dialect.find_outputs(graph, schemas)
    if not outputs:
        problems.append(f"It {schemas.dialect.explain_no_output(graph, schemas)}")
    rows = [row for node in graph.nodes.values() for row in _iterate_rows(workflow, node, schemas, setting)]
    return Description(
        name=workflow.name,
        kind=workflow.kind,
        rows=tuple(rows),
        roles=roles,
        outputs=outputs,
        needs=tuple(open_fields(graph, schemas)),
        problems=tuple(problems),
        notes=(*workflow.notes, *(axis.note for axis in workflow.batch_axes if axis.note)),
        batches=tuple((axis.name, len(axis.values)) for axis in workflow.batch_axes),
    )


def _find_setting_roles(roles: Roles) -> Mapping[Address, tuple[str, ...]]:
    """Find which roles set a field, one of several with its number."""
    setting: dict[Address, dict[str, None]] = {}
    for name, targets in (each for role in (*roles.targets, *roles.ambiguous) for each in roles.numbered(role)):
        for target in targets:
            setting.setdefault(target.address, {})[name] = None
    return {address: tuple(names) for address, names in setting.items()}


def _iterate_rows(
    workflow: Workflow, node: Node, schemas: NodeSchemas, setting: Mapping[Address, tuple[str, ...]]
) -> Iterator[InspectionRow]:
    """Yield the fields that are set, fed or could be set; of an unknown node type, those that the workflow names."""
    schema = schemas.get(node.type)
    edges = [edge for edge in workflow.graph.edges if edge.destination.node == node.id]
    fed = [edge.destination.field for edge in edges]
    ignored = schemas.dialect.list_ignored_fields(node.type)
    known = [name for name, field in schema.fields.items() if field.takes_value] if schema else []
    for name in dict.fromkeys([*node.fields, *fed, *known]):
        is_used = name in fed or name in node.fields
        if name in schemas.dialect.common_fields or (name in ignored and not is_used):
            continue
        field = schema.field(name) if schema else None
        address = Address(node.id, name)
        yield InspectionRow(
            address=address,
            node_label=node.label,
            node_type=node.type,
            field_label=workflow.labels.get(address, ""),
            value=node.fields.get(name, field.default if field else None),
            is_set=name in node.fields,
            kind=_name_type(field) if field else "",
            range=_write_range(field) if field else "",
            choices=field.choices if field else (),
            fed_by=tuple(edge.source for edge in edges if edge.destination.field == name),
            exposed=address in workflow.exposed,
            roles=setting.get(address, ()),
        )


def _name_type(field: FieldSchema) -> str:
    if field.type == "array":
        return f"list of {field.items}"
    return f"{'/'.join(field.model_types)} model" if field.model_types else field.type


def _write_range(field: FieldSchema) -> str:
    more = f", … ({len(field.choices)})" if len(field.choices) > _LISTED else ""
    return ", ".join(field.choices[:_LISTED]) + more if field.choices else describe_range(field)


def _list_addresses(targets: Sequence[Target]) -> list[Json]:
    return [str(target.address) for target in targets]
