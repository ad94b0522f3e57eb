"""InvokeAI's API format: graphs as they are posted to a server, the batch around them, and metadata for its images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sweep.errors import Problem, WorkflowError, did_you_mean
from sweep.workflow.dialect import Encoding, FieldSchema
from sweep.workflow.graph import (
    Address,
    BatchAxis,
    Edge,
    Graph,
    ImageRef,
    Json,
    ModelRef,
    Node,
    Ref,
    Value,
    Workflow,
    map_refs,
)
from sweep.workflow.invokeai.openapi import packaged_nodes
from sweep.workflow.invokeai.role_finder import StartEncoding
from sweep.workflow.portable_format import read_edge
from sweep.workflow.validation import clean_graph, raise_for

METADATA_INPUT: Final = "metadata"  # of every node that saves an image
METADATA_TYPE: Final = "core_metadata"  # takes any extra keys, and writes them into the PNG


def write_metadata(graph: Graph, outputs: Sequence[str], metadata: Mapping[str, Value]) -> Graph:
    """See `Dialect.write_metadata`.

    What the workflow connects there itself is cut off: it would tell the values its author rendered with. Metadata
    nodes that nothing reads then are dropped: they may name models that the server does not have.
    """
    if not outputs:
        return graph
    into = [edge for edge in graph.edges if edge.destination.field == METADATA_INPUT]
    graph = graph.without_edges([edge for edge in into if edge.destination.node in outputs])
    name = f"sweep_metadata_{str(metadata['sweep_key'])[:12]}"
    while name in graph.nodes:
        name += "_"
    read = {edge.source.node for edge in graph.edges}
    idle = {node.id for node in graph.nodes.values() if node.type == METADATA_TYPE and node.id not in read}
    edges = [Edge(Address(name, METADATA_INPUT), Address(output, METADATA_INPUT)) for output in outputs]
    return graph.without_nodes(idle).adding([Node(name, METADATA_TYPE, metadata)], edges)


_AS_ROLES = ("negative_prompt", "seed", "steps", "cfg_scale", "scheduler", "width", "height", "model", "clip_skip")
RECALLED: Final[Mapping[str, str]] = {  # role → what InvokeAI's own pages read from an image
    "prompt": "positive_prompt",
    **{role: role for role in _AS_ROLES},
    "image": "source_image",
}
_CONTROL: Final[Mapping[str, str]] = {  # part of a ControlNet → its name in the metadata
    "weight": "control_weight",
    "begin": "begin_step_percent",
    "end": "end_step_percent",
}
_CONTROL_MODES: Final = ("control_mode", "resize_mode")  # they stand on the ControlNet's own node


@dataclass(frozen=True, slots=True)
class Recall:
    """Reads from a graph what its images are to tell of themselves; the fields are found once for all its points."""

    plain: Mapping[str, Address]
    strength: tuple[Address, Encoding] | None
    loras: Sequence[tuple[Address, Address]]  # where its model and its weight stand
    controls: Sequence[Mapping[str, Address]]

    @classmethod
    def of(
        cls,
        graph: Graph,
        roles: Mapping[str, Sequence[tuple[Address, Encoding]]],
        loras: Sequence[tuple[Address, Address]],
        controls: Sequence[Mapping[str, Address]],
    ) -> Recall:
        first = {role: found[0] for role, found in roles.items() if found}
        plain = {name: first[role][0] for role, name in RECALLED.items() if role in first}
        if "cfg_scale" in plain and plain["cfg_scale"].field != "cfg_scale":
            del plain["cfg_scale"]  # guidance is not told as if it were cfg_scale
        loader = next((node.id for node in graph.nodes.values() if node.type == "vae_loader"), None)
        if loader is not None:
            plain["vae"] = Address(loader, "vae_model")
        return cls(plain, first.get("denoise_strength"), loras, controls)

    def __call__(self, graph: Graph) -> dict[str, Value]:
        """Read the metadata of an image of `graph`."""
        found = {name: _read(graph, address) for name, address in self.plain.items()}
        if self.strength is not None:
            found["strength"] = _decode(*self.strength, graph)
        found["loras"] = list(self._loras(graph)) or None
        found["controlnets"] = list(self._controls(graph)) or None
        return {name: value for name, value in found.items() if value is not None}

    def _loras(self, graph: Graph) -> Iterator[dict[str, Value]]:
        for model, weight in self.loras:
            named = _read(graph, model)
            if isinstance(named, ModelRef):
                # Before release 4 the key was `lora`; a server drops the one that it does not know.
                given = _read(graph, weight)
                yield {"model": named, "lora": named, "weight": 0.75 if given is None else given}

    def _controls(self, graph: Graph) -> Iterator[dict[str, Value]]:
        for parts in self.controls:
            model, image = _read(graph, parts["model"]), _read(graph, parts.get("source", parts["image"]))
            if isinstance(model, ModelRef) and isinstance(image, ImageRef):
                own = {name: Address(parts["model"].node, name) for name in _CONTROL_MODES}
                said = {name: parts[part] for part, name in _CONTROL.items()} | own
                told = {name: value for name, at in said.items() if (value := _read(graph, at)) is not None}
                yield {"control_model": model, "image": image, **told}


def _read(graph: Graph, address: Address) -> Value:
    node = graph.nodes.get(address.node)
    value = node.fields.get(address.field) if node else None
    return value if isinstance(value, str | int | float | ModelRef | ImageRef) else None


def _decode(address: Address, encode: Encoding, graph: Graph) -> Value:
    """Read a denoise strength back from the start that it was written as."""
    start = _read(graph, address)
    if isinstance(start, bool) or not isinstance(start, int | float) or not isinstance(encode, StartEncoding):
        return None
    left = 1 - start
    return round(left**5 if encode.name == "one_minus_fifth_root" else left, 6)


def tell_images(told: Mapping[str, Any]) -> dict[str, Json]:
    """Return the source and the ControlNets of an image's metadata as InvokeAI's pages recall them: as layers."""
    sources = [image for image in (told.get("source_image"),) if isinstance(image, dict)]
    controls = told.get("controlnets", ())
    found: dict[str, Any] = {"init_image": sources[0]["image_name"]} if sources else {}
    if not (sources or controls) or not {"width", "height"} <= told.keys():
        return found
    size = {"width": told["width"], "height": told["height"]}
    layers = [
        _make_layer("control_layer", number, control["image"], size)
        | {"withTransparencyEffect": True, "controlAdapter": _make_adapter(control)}
        for number, control in enumerate(controls, 1)
    ]
    found["canvas_v2_metadata"] = {
        "rasterLayers": [_make_layer("raster_layer", 1, image, size) for image in sources],
        "controlLayers": layers,
        "inpaintMasks": [],
        "regionalGuidance": [],
    }
    return found


def _make_layer(kind: str, number: int, image: Mapping[str, Any], size: Mapping[str, int]) -> dict[str, Any]:
    """Return a layer of InvokeAI's canvas that shows an image at the size of the rendered one."""
    name = f"sweep_{kind}_{number}"
    shown = {"id": f"{name}_image", "type": "image", "image": {"image_name": image["image_name"], **size}}
    place = {"position": {"x": 0, "y": 0}, "opacity": 1, "isEnabled": True, "isLocked": False}
    return {"id": name, "name": None, "type": kind, "objects": [shown], **place}


def _make_adapter(control: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "controlnet",
        "model": control["control_model"],
        "weight": control.get("control_weight", 1),
        "beginEndStepPct": [control.get("begin_step_percent", 0), control.get("end_step_percent", 1)],
        "controlMode": control.get("control_mode", "balanced"),
    }


_PLAIN: Final = (str, int, float, bool)  # types of values that hold no reference
COLLECTING: Final = frozenset({"collect"})  # node types of which one input takes several edges


def write_graph(graph: Graph, resolve: Callable[[Ref], Json], graph_id: str = "sweep") -> dict[str, Json]:
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
    return {"id": graph_id, "nodes": dict(nodes), "edges": edges}


def from_api(document: Mapping[str, Any], around: Mapping[str, Any], source: str) -> Workflow:
    """Read a posted graph, with the data of the batch around it as axes. Raises WorkflowError."""
    problems: list[Problem] = []
    nodes: list[Node] = []
    for key, node in document["nodes"].items():
        if not isinstance(node, Mapping) or not isinstance(node.get("type"), str):
            problems.append(Problem(message=f"Node {key} has no type"))
            continue
        if node.get("id", key) != key:
            problems.append(Problem(message=f"Node {key} calls itself {node['id']!r}"))
        nodes.append(Node(key, node["type"], node_fields(node["type"], node)))
    listed = document.get("edges")
    edges = [edge for entry in listed if (edge := read_edge(entry, problems))] if isinstance(listed, list) else []
    raise_for(problems, source)
    graph = clean_graph(Graph.of(nodes, dict.fromkeys(edges)), source, COLLECTING)
    return Workflow(graph=graph, kind="api", batch_axes=_batch_data(around, graph, source))


def _batch_data(batch: Mapping[str, Any], graph: Graph, source: str) -> tuple[BatchAxis, ...]:
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


def node_fields(kind: str, values: Mapping[str, Any]) -> dict[str, Value]:
    """Return the values set on a node of that type, without empty ones: null, an unchosen model, the default board.

    A node type that sweep does not know keeps all but nulls.
    """
    schema = packaged_nodes().get(kind)
    return {
        name: workflow_references(value)
        for name, value in values.items()
        if name not in _ATTRIBUTES and not _says_nothing(name, value, schema.field(name) if schema else None)
    }


def _says_nothing(name: str, value: Any, field: FieldSchema | None) -> bool:
    if name == "board" and value in ("auto", "none", "", None, {}):
        return True
    if value is None:
        return not (field and field.nullable and field.default is not None)
    if field is None:
        return False
    return not field.takes_value or (value in ("", {}) and field.type not in _TEXTS and field.type != "object")


def workflow_references(value: Any) -> Value:
    """Return the value with models by name, type and base in place of a server's keys, at any depth."""
    if isinstance(value, list):
        return [workflow_references(item) for item in value]
    if not isinstance(value, Mapping):
        return value  # type: ignore[no-any-return]  # a JSON scalar
    named = all(isinstance(value.get(part), str) for part in ("name", "base", "type"))
    if named and "key" in value and not value.get("submodel_type"):
        return ModelRef(value["name"], value["base"], value["type"])
    if {"model_name", "base_model"} <= value.keys():  # InvokeAI 3; without a type it is the field's
        return ModelRef(*(str(value.get(part) or "") for part in ("model_name", "base_model", "model_type")))
    return {str(name): workflow_references(item) for name, item in value.items()}
