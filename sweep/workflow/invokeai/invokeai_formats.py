"""The formats of InvokeAI's workflows: posted graphs, exports of its editor, and portable ones in InvokeAI's nodes.

A posted graph may bring a batch around it, and an export batch nodes and generators: both become axes.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice, product
from random import Random
from typing import Any, Final

from sweep.errors import WorkflowError, did_you_mean
from sweep.workflow.graph import (
    Address,
    BatchAxis,
    Edge,
    Graph,
    Json,
    ModelRef,
    Names,
    Node,
    Ref,
    Value,
    Workflow,
    is_made_up,
    map_refs,
    prune,
)
from sweep.workflow.invokeai.image_metadata import METADATA_TYPE, tell_images
from sweep.workflow.invokeai.invokeai_roles import ONE_MINUS
from sweep.workflow.invokeai.openapi import load_packaged_nodes
from sweep.workflow.node_schemas import FieldSchema, read_table
from sweep.workflow.portable_format import PORTABLE, PortableReader, Rule, read_edge
from sweep.workflow.validation import clean_graph, raise_for
from sweep.workflow.workflow_file import parse_object

_PLAIN: Final = (str, int, float, bool)  # types of values that hold no reference
COLLECTING: Final = frozenset({"collect"})  # node types of which one input takes several edges


_FUSED_ID: Final = re.compile(r"_[0-9a-f]{16}(_\d+)?$")  # added to the id of a node where variations are one item


def read_workflow(document: Mapping[str, Any], source: str) -> Workflow | None:
    """Read a document in any of the formats; None where it is in none of them. Raises WorkflowError."""
    inner, around = _unwrap(document, source)
    nodes = inner.get("nodes")
    if isinstance(nodes, list) and is_editor(inner):
        return from_editor(inner, source)
    if isinstance(nodes, list) and "links" not in inner:
        return replace(from_portable(inner, source), document=inner)
    if isinstance(nodes, Mapping):
        workflow = _with_names(from_api(inner, around, source), around, source)
        return replace(workflow, graph=_select_branch(workflow.graph, document.get("metadata")))
    return None


def _unwrap(document: Mapping[str, Any], source: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the object that holds the nodes, and the one around it (or itself)."""
    around: Mapping[str, Any] = document
    for key in ("batch", "session", "graph", "workflow"):
        if "nodes" in document:
            break
        within = document.get(key)
        if isinstance(within, str):
            within = parse_object(within, f"the {key} in {source}")
        if isinstance(within, Mapping):
            around, document = document, within
    return document, around


def _with_names(workflow: Workflow, around: Mapping[str, Any], source: str) -> Workflow:
    """Return a rendered graph with the names its author gave in the editor, where the image carries those, too."""
    drawn = around.get("workflow")
    if not isinstance(drawn, Mapping) or not is_editor(drawn):
        return workflow
    editor = from_editor(drawn, source)
    labels = {name: node.label for name, node in editor.graph.nodes.items()}
    nodes = {name: replace(node, label=labels.get(name, "")) for name, node in workflow.graph.nodes.items()}
    kept = tuple(address for address in editor.exposed if address.node in nodes)
    return replace(
        workflow, graph=replace(workflow.graph, nodes=nodes), name=editor.name, exposed=kept, labels=editor.labels
    )


def _select_branch(graph: Graph, metadata: object) -> Graph:
    """Return the part of a fused item's graph that made one image, with the ids that its nodes have unfused.

    The image's metadata holds its own key; a node of the graph writes that key. Any other graph stays as it is.
    """
    key = metadata.get("sweep_key") if isinstance(metadata, Mapping) else None
    keys = {node.id: node.fields.get("sweep_key") for node in graph.nodes.values() if node.type == METADATA_TYPE}
    if key is None or len({*keys.values()} - {None}) < 2:
        return graph
    outputs = (edge.destination.node for edge in graph.edges if keys.get(edge.source.node, "") == key)
    branch = prune(graph, tuple(outputs))
    return _rename(branch) if branch.nodes else graph


def _rename(branch: Graph) -> Graph:
    short = {name: _FUSED_ID.sub("", name) for name in branch.nodes}
    count = Counter(short.values())
    ids = {name: own if count[own] == 1 else name for name, own in short.items()}
    edges = (
        Edge(Address(ids[source.node], source.field), Address(ids[target.node], target.field))
        for source, target in ((edge.source, edge.destination) for edge in branch.edges)
    )
    return Graph.of((replace(node, id=ids[name]) for name, node in branch.nodes.items()), edges)


def write_graph(graph: Graph, resolve: Callable[[Ref], Json]) -> dict[str, Json]:
    """Return the graph as a server's JSON; `resolve` gives this server's identifier of a reference."""
    nodes: dict[str, dict[str, Json]] = {
        node.id: {
            "id": node.id,
            "type": node.type,
            **{k: v if isinstance(v, _PLAIN) else map_refs(v, resolve) for k, v in node.fields.items()},
        }
        for node in graph.nodes.values()
    }
    for node in nodes.values():
        if "sweep_key" in node:
            node.update(tell_images(node))
    edges: list[Json] = [
        {
            "source": {"node_id": edge.source.node, "field": edge.source.field},
            "destination": {"node_id": edge.destination.node, "field": edge.destination.field},
        }
        for edge in graph.edges
    ]
    return {"id": "sweep", "nodes": dict(nodes), "edges": edges}


def from_api(document: Mapping[str, Any], around: Mapping[str, Any], source: str) -> Workflow:
    """Read a posted graph, with the data of the batch around it as axes. Raises WorkflowError."""
    problems: list[str] = []
    nodes: list[Node] = []
    for key, node in document["nodes"].items():
        if not isinstance(node, Mapping) or not isinstance(node.get("type"), str):
            problems.append(f"Node {key} has no type")
            continue
        if node.get("id", key) != key:
            problems.append(f"Node {key} calls itself {node['id']!r}")
        nodes.append(Node(key, node["type"], read_node_fields(node["type"], node)))
    listed = document.get("edges")
    edges = [edge for entry in listed if (edge := read_edge(entry, problems))] if isinstance(listed, list) else []
    raise_for(problems, source)
    graph = clean_graph(Graph.of(nodes, dict.fromkeys(edges)), source, COLLECTING)
    return Workflow(graph=graph, kind="api", batch_axes=_read_batch_data(around, graph, source))


def _read_batch_data(batch: Mapping[str, Any], graph: Graph, source: str) -> tuple[BatchAxis, ...]:
    """Return the axes of an enqueue_batch body: the outer list multiplies, an inner list steps together."""
    axes: list[BatchAxis] = []
    for number, group in enumerate(batch.get("data") or ()):
        for datum in group:
            address = Address(str(datum.get("node_path")), str(datum.get("field_name")))
            if address.node not in graph.nodes:
                near = did_you_mean(address.node, graph.nodes)
                raise WorkflowError(f"{source}: its data sets {address}, but there is no node {address.node!r}.{near}")
            zipped = str(number) if len(group) > 1 else ""
            values = tuple(datum.get("items") or ())
            axes.append(BatchAxis(name=str(address), addresses=(address,), values=values, group=zipped))
    return tuple(axes)


_ATTRIBUTES = frozenset({"id", "type", "workflow"})
_TEXTS = frozenset({"string", "any"})


def read_node_fields(kind: str, values: Mapping[str, Any]) -> dict[str, Value]:
    """Return the values set on a node of that type, without empty ones: null, an unchosen model, the default board.

    A node type that sweep does not know keeps all but nulls.
    """
    schema = load_packaged_nodes().get(kind)
    return {
        name: make_workflow_references(value)
        for name, value in values.items()
        if name not in _ATTRIBUTES and not _is_unset(name, value, schema.field(name) if schema else None)
    }


def _is_unset(name: str, value: Any, field: FieldSchema | None) -> bool:
    if name == "board" and value in ("auto", "none", "", None, {}):
        return True
    if value is None:
        return not (field and field.nullable and field.default is not None)
    if field is None:
        return False
    return not field.takes_value or (value in ("", {}) and field.type not in _TEXTS and field.type != "object")


def make_workflow_references(value: Any) -> Value:
    """Return the value with models by name, type and base in place of a server's keys, at any depth."""
    if isinstance(value, list):
        return [make_workflow_references(item) for item in value]
    if not isinstance(value, Mapping):
        return value  # type: ignore[no-any-return]  # a JSON scalar
    named = all(isinstance(value.get(part), str) for part in ("name", "base", "type"))
    if named and "key" in value and not value.get("submodel_type"):
        return ModelRef(value["name"], value["base"], value["type"])
    if {"model_name", "base_model"} <= value.keys():  # InvokeAI 3; without a type it is the field's
        return ModelRef(*(str(value.get(part) or "") for part in ("model_name", "base_model", "model_type")))
    return {str(name): make_workflow_references(item) for name, item in value.items()}


GENERATORS = frozenset({"image_generator", "string_generator", "integer_generator", "float_generator"})
BATCH_NODES = {  # type → the input that holds the values
    "image_batch": "images",
    "string_batch": "strings",
    "integer_batch": "integers",
    "float_batch": "floats",
}
_DRAWN = frozenset({"invocation", "notes", "connector", "current_image"})  # what a node is in the editor
_SAVED_INPUT = "saved_workflow_input::"


def is_editor(document: Mapping[str, Any]) -> bool:
    """Tell whether a document with a list of nodes is an editor's export, and not the portable form."""
    nodes = [node for node in document.get("nodes") or () if isinstance(node, Mapping)]
    return any(str(node.get("type")) in _DRAWN or "inputs" in _read_data(node) for node in nodes)


def from_editor(document: Mapping[str, Any], source: str) -> Workflow:
    """Return the graph of an export, with its batches as axes. Raises WorkflowError."""
    drawing = _Drawing(document, source)
    nodes = [drawing.node(name) for name in drawing.sent]
    hidden = drawing.types.keys() - drawing.sent.keys()  # batch nodes and generators
    edges = [edge for edge in drawing.edges if hidden.isdisjoint({edge.source.node, edge.destination.node})]
    graph = clean_graph(Graph.of(nodes, dict.fromkeys(edges)), source, COLLECTING)
    axes, notes = drawing.batches(Names(graph))
    return Workflow(
        graph=graph,
        kind="editor",
        name=str(document.get("name") or ""),
        batch_axes=axes,
        exposed=tuple(dict.fromkeys(address for address in _iterate_exposed(document) if address.node in graph.nodes)),
        labels=drawing.labels(),
        notes=notes,
    )


def _read_data(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    data = entry.get("data")
    return data if isinstance(data, Mapping) else {}


class _Drawing:
    """An editor export with its nodes and edges indexed."""

    def __init__(self, document: Mapping[str, Any], source: str) -> None:
        self.source = source
        listed = [node for node in document["nodes"] if isinstance(node, Mapping) and "id" in node]
        for name, count in Counter(str(node["id"]) for node in listed).items():
            if count > 1:
                raise WorkflowError(f"{source}: two nodes have the id {name}.")
        self.data = {str(node["id"]): _read_data(node) for node in listed}
        invocations = [str(node["id"]) for node in listed if node.get("type", "invocation") == "invocation"]
        untyped = [name for name in invocations if not isinstance(self.data[name].get("type"), str)]
        raise_for([f"Node {name} has no type" for name in untyped], source)
        self.types = {name: str(self.data[name]["type"]) for name in invocations}
        self.sent = {n: kind for n, kind in self.types.items() if kind not in BATCH_NODES and kind not in GENERATORS}
        self.edges = tuple(self._edges(document))

    def _edges(self, document: Mapping[str, Any]) -> Iterator[Edge]:
        drawn = [e for e in document.get("edges") or () if isinstance(e, Mapping) and e.get("type") != "collapsed"]
        for entry in drawn:
            ends = [entry.get("source"), entry.get("sourceHandle"), entry.get("target"), entry.get("targetHandle")]
            if not all(isinstance(end, str) and end for end in ends):
                raise WorkflowError(f"{self.source}: an edge has no source and target with handles: {entry.get('id')}")
        wires = {Address(e["target"], e["targetHandle"]): Address(e["source"], e["sourceHandle"]) for e in drawn}
        for entry in drawn:
            target = Address(entry["target"], entry["targetHandle"])
            source = self._find_real_source(Address(entry["source"], entry["sourceHandle"]), wires)
            if source is not None and not self._is_drawn_only(target.node):
                yield Edge(source, target)

    def _is_drawn_only(self, node: str) -> bool:
        return node in self.data and node not in self.types

    def _find_real_source(self, source: Address, wires: Mapping[Address, Address]) -> Address | None:
        """Return the output an edge comes from, through any number of connectors; None where they lead nowhere."""
        seen: set[str] = set()
        while self._is_drawn_only(source.node):
            before = wires.get(Address(source.node, "in"))
            if before is None or source.node in seen:
                return None
            seen.add(source.node)
            source = before
        return source

    def _inputs(self, name: str) -> dict[str, Mapping[str, Any]]:
        inputs = self.data[name].get("inputs")
        entries = inputs.items() if isinstance(inputs, Mapping) else ()
        return {str(field): entry for field, entry in entries if isinstance(entry, Mapping)}

    def _values(self, name: str) -> dict[str, Any]:
        return {field: entry["value"] for field, entry in self._inputs(name).items() if "value" in entry}

    def labels(self) -> dict[Address, str]:
        inputs = ((Address(name, field), entry) for name in self.sent for field, entry in self._inputs(name).items())
        return {address: str(entry["label"]) for address, entry in inputs if entry.get("label")}

    def node(self, name: str) -> Node:
        """Make one invocation as the editor would send it."""
        data, kind, values = self.data[name], self.types[name], self._values(name)
        packed = [field for field in values if field.startswith(_SAVED_INPUT)]
        if packed:
            values["workflow_inputs"] = {field.removeprefix(_SAVED_INPUT): values.pop(field) for field in packed}
        for attribute, key in (("use_cache", "useCache"), ("is_intermediate", "isIntermediate")):
            if isinstance(data.get(key), bool):
                values[attribute] = data[key]
        return Node(name, kind, read_node_fields(kind, values), str(data.get("label") or ""))

    def batches(self, names: Names) -> tuple[tuple[BatchAxis, ...], tuple[str, ...]]:
        """Return the batch nodes that feed something, as axes, and a note for each that cannot be one."""
        axes: list[BatchAxis] = []
        notes: list[str] = []
        for name in (name for name, kind in self.types.items() if kind in BATCH_NODES):
            fed = tuple(e.destination for e in self.edges if e.source.node == name and e.destination.node in self.sent)
            if not fed:
                continue
            kind = self.types[name]
            own = f"{names.name_node(fed[0].node)}.{fed[0].field}" if is_made_up(name) else name
            shown = str(self.data[name].get("label") or own)
            where = " and ".join(map(str, fed))
            generator = self._find_generator(name)
            if generator and self.types[generator] == "image_generator":
                notes.append(f"{shown} takes the images of a board, which only the editor can list: set {where}.")
                continue
            values, drawn = self._batch_values(name, generator)
            if not values:
                raise WorkflowError(f"{self.source}: {shown} ({kind}) holds no values.")
            chosen = str(self._values(name).get("batch_group_id") or "None")
            group = "" if chosen == "None" else chosen
            note = f"{shown} ({kind}) is an axis of {len(values)} values for {where}{drawn}."
            axes.append(BatchAxis(name=shown, addresses=fed, values=tuple(values), group=group, note=note))
        return tuple(axes), tuple(notes)

    def _find_generator(self, batch: str) -> str | None:
        held = Address(batch, BATCH_NODES[self.types[batch]])
        feeding = (edge.source.node for edge in self.edges if edge.destination == held)
        return next((node for node in feeding if self.types.get(node) in GENERATORS), None)

    def _batch_values(self, batch: str, generator: str | None) -> tuple[list[Value], str]:
        """Return the values of a batch node, its own or its generator's, and the end of a note on those drawn here."""
        if generator is None:
            held = self._values(batch).get(BATCH_NODES[self.types[batch]])
            return [make_workflow_references(item) for item in held] if isinstance(held, list) else [], ""
        given = self._values(generator).get("generator")
        label = str(self.data[generator].get("label") or generator)
        values, seed = generate(label, given if isinstance(given, Mapping) else {})
        drawn = f", drawn here from seed {seed}: the same each time, not those the editor draws"
        return values, "" if seed is None else drawn


def _iterate_exposed(document: Mapping[str, Any]) -> Iterator[Address]:
    """Yield the fields on the workflow's form, then those of the older list."""
    shown: list[Any] = []
    match document:
        case {"form": {"elements": {**elements}}}:
            shown = [_read_data(each).get("fieldIdentifier") for each in elements.values() if isinstance(each, Mapping)]
    for entry in (*shown, *(document.get("exposedFields") or ())):
        if isinstance(entry, Mapping) and entry.get("nodeId") and entry.get("fieldName"):
            yield Address(str(entry["nodeId"]), str(entry["fieldName"]))


_MOST = 100_000  # values of one generator; more is a slip of the pen
_LEADING_INT = re.compile(r"\s*[+-]?\d+")
_LEADING_FLOAT = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_RANDOM = ("random_distribution_uniform", "dynamic_prompts_random")
_CHOICE = re.compile(r"\{([^{}]*)\}")


def generate(node: str, settings: Mapping[str, Any]) -> tuple[list[Any], int | None]:
    """Return the values of a generator with these settings, and the seed from which they are drawn, if they are.

    Those the editor wrote down itself count before ours. Random ones are always the same here (without a seed they are
    drawn from 0), but not those the editor would draw. Raises WorkflowError where only a server could tell, or for an
    unknown generator.
    """
    values = settings.get("values")
    if isinstance(values, list) and values:
        return values, None
    kind = str(settings.get("type", ""))
    make = next((make for ending, make in _MAKERS.items() if kind.endswith(ending)), None)
    if make is None:
        raise WorkflowError(f"{node}: sweep cannot work out the values of a {kind or 'generator without a type'}.")
    try:
        seed = int(settings.get("seed") or 0)
        return make(settings, kind.startswith("integer"), Random(seed)), seed if kind.endswith(_RANDOM) else None
    except (TypeError, ValueError) as error:
        raise WorkflowError(f"{node}: the generator's settings are wrong: {error}.") from error


def _count(settings: Mapping[str, Any]) -> range:
    count = int(settings.get("count", 10))
    if not 0 <= count <= _MOST:
        raise ValueError(f"it counts {count}")
    return range(count)


def _list_arithmetic(settings: Mapping[str, Any], whole: bool, _: Random) -> list[Any]:
    start, step = settings.get("start", 0), settings.get("step", 1 if whole else 0.1)
    return [start] if step == 0 else [start + index * step for index in _count(settings)]


def _list_linear(settings: Mapping[str, Any], whole: bool, _: Random) -> list[Any]:
    start, end, count = settings.get("start", 0), settings.get("end", 10 if whole else 1), _count(settings)
    if len(count) == 1:
        return [start]
    offsets = [(end - start) * (index / (len(count) - 1)) for index in count]
    # halves go up, as in the editor, where Python's round goes to the even
    return [start + (math.floor(offset + 0.5) if whole else offset) for offset in offsets]


def _draw_uniform(settings: Mapping[str, Any], whole: bool, draw: Random) -> list[Any]:
    low, high = settings.get("min", 0), settings.get("max", 10 if whole else 1)
    return [draw.randint(low, high) if whole else draw.uniform(low, high) for _ in _count(settings)]


def _split(settings: Mapping[str, Any]) -> Sequence[str]:
    text, separator = str(settings.get("input", "")), str(settings.get("splitOn", ","))
    with suppress(ValueError):
        separator = str(json.loads(f'"{separator}"'))  # so that \n can be written
    return text.split(separator) if separator else [text]


def _parse_numbers(settings: Mapping[str, Any], whole: bool, _: Random) -> list[Any]:
    """Read numbers as the editor does: each part's leading number; parts without one are left out."""
    pattern, number = (_LEADING_INT, int) if whole else (_LEADING_FLOAT, float)
    return [number(match[0]) for match in map(pattern.match, _split(settings)) if match]


def _combine(settings: Mapping[str, Any], most: int) -> list[str]:
    """List every way to choose from the `{a|b}` in a text, the last choice changing fastest; at most so many."""
    text = str(settings.get("input", ""))
    if "__" in text or "$$" in text:
        raise ValueError("wildcards and counted choices are not known here")
    choices = [part.split("|") if index % 2 else [part] for index, part in enumerate(_CHOICE.split(text))]
    return ["".join(chosen) for chosen in islice(product(*choices), max(most, 0))]


def _draw_prompts(settings: Mapping[str, Any], _: bool, draw: Random) -> list[Any]:
    everything = _combine(settings, _MOST)
    return [draw.choice(everything) for _ in _count(settings)]


_MAKERS: Mapping[str, Callable[[Mapping[str, Any], bool, Random], list[Any]]] = {
    "string_generator_parse_string": lambda settings, *_: [part for part in _split(settings) if part],
    "integer_generator_parse_string": _parse_numbers,
    "float_generator_parse_string": _parse_numbers,
    "arithmetic_sequence": _list_arithmetic,
    "linear_distribution": _list_linear,
    "random_distribution_uniform": _draw_uniform,
    "dynamic_prompts_combinatorial": lambda settings, *_: list(_combine(settings, int(settings.get("maxPrompts", 10)))),
    "dynamic_prompts_random": _draw_prompts,
}


_PACKAGE: Final = str(__package__)
_KARRAS = "_k"
_FOLDER_OR_ENDING = re.compile(r".*[/\\]|\.(safetensors|ckpt|pt|pth|bin)$")  # a server's name of a model has neither


def find_scheduler(sampler: object, schedule: object) -> tuple[str, str]:
    """Return InvokeAI's scheduler for a sampler and its noise schedule, and a note where the schedule has no
    counterpart.

    Each may be left out. Raises WorkflowError for a sampler nobody knows.
    """
    known = load_packaged_nodes()["denoise_latents"].fields["scheduler"].choices
    if not sampler and str(schedule) in known:
        return str(schedule), ""
    samplers = read_table(_PACKAGE, PORTABLE)["samplers"]  # portable name → InvokeAI's scheduler
    name = samplers.get(str(sampler or "euler"), str(sampler or "euler"))
    if name not in known:
        near = did_you_mean(name, [*known, *samplers])
        raise WorkflowError(f"there is no sampler {sampler}.{near}")
    if schedule in (None, "", "normal"):
        return name, ""
    if schedule == "karras" and name + _KARRAS in known:
        return name + _KARRAS, ""
    return name, f"the schedule {schedule} has no counterpart for {name} in InvokeAI; its own is used"


def from_portable(document: Mapping[str, Any], source: str) -> Workflow:
    """Return the workflow of a portable document, for SD 1 nodes until `Workflow.for_base` says otherwise.

    Models are named without a base, which the plan finds out from a server. Raises WorkflowError.
    """
    bases = read_table(_PACKAGE, PORTABLE)["bases"]  # base → its node types, for the places of the rules

    def translate(base: str) -> Workflow:
        if base not in bases:
            known = ", ".join(bases)
            raise WorkflowError(f"{source}: the portable form has no nodes for {base} models, only for {known}.")
        found = _PortableReader(document, source, bases[base]).workflow()
        saves = (edge for edge in found.graph.edges if found.graph.nodes[edge.destination.node].type == "save_image")
        hidden = {Address(edge.source.node, "is_intermediate"): True for edge in saves}  # no need to keep them twice
        return replace(found, graph=found.graph.set(hidden), translate=translate, bases=tuple(bases))

    return translate("sd-1")


class _PortableReader(PortableReader):
    """Translates one document to nodes for models of one base."""

    package = _PACKAGE
    collecting = COLLECTING

    def __init__(self, document: Mapping[str, Any], source: str, base: Mapping[str, str]) -> None:
        super().__init__(document, source, load_packaged_nodes(), own=load_packaged_nodes())
        self.base = base

    def make_nodes(self, name: str, rule: Rule, values: dict[str, Any]) -> Iterator[Node]:
        if self.kinds[name] == "ksampler":  # it draws its own noise
            yield Node(f"{name}_noise", "noise", {"seed": values.pop("seed", 0), "use_cpu": True})
            self._translate_sampler(name, values)
        becomes = str(rule["becomes"]).format_map(self.base)
        schema = self.schemas[becomes]
        fields: dict[str, Value] = {}
        for real, value in self.rename_fields(name, rule, values).items():
            known = schema.field(real) if value and isinstance(value, str) else None
            if known and known.type == "ImageField":
                self.files[Address(name, real)] = value
            elif known and known.model_types:
                fields[real] = ModelRef(_FOLDER_OR_ENDING.sub("", value), "", known.model_types[0])
            else:
                fields[real] = value
        if becomes == "sdxl_compel_prompt" and "prompt" in fields:
            fields.setdefault("style", fields["prompt"])
        yield Node(name, becomes, read_node_fields(becomes, fields))

    def _translate_sampler(self, name: str, values: dict[str, Any]) -> None:
        if "denoise" in values:
            values["denoising_start"] = ONE_MINUS(values.pop("denoise"))
        chosen = (values.pop("sampler_name", None), values.pop("scheduler", None))
        if any(chosen):
            values["scheduler"], note = find_scheduler(*chosen)
            self.notes.extend([f"{name}: {note}"] if note else [])
        values.pop("control_after_generate", None)

    def wire(self, graph: Graph) -> Graph:
        """Give each sampler its noise, of the size of the latents it starts from, where there are any."""
        for name in [name for name, kind in self.kinds.items() if kind == "ksampler"]:
            graph = self._wire_noise(graph, name, f"{name}_noise")
        return self.move_seeds(graph, "denoise_latents", "noise")

    def _wire_noise(self, graph: Graph, name: str, noise: str) -> Graph:
        latents = graph.list_edges_into(Address(name, "latents"))
        graph = graph.adding(edges=[f"{noise}.noise → {name}.noise"])
        if not latents:
            return graph
        source = latents[0].source.node
        start = graph.nodes.get(source)
        if start is None or start.type != "noise":
            return graph.adding(edges=[f"{source}.{side} → {noise}.{side}" for side in ("width", "height")])
        # an empty latent image: only its size was meant
        size = {Address(noise, side): start.fields[side] for side in ("width", "height") if side in start.fields}
        graph = graph.without_edges(latents).set(size)
        is_used = any(edge.source.node == source for edge in graph.edges)
        return graph if is_used else graph.without_nodes({source})
