"""The metadata in InvokeAI's images (prompt, seed, models, LoRAs, layers): read from a graph, written by its nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from sweep.workflow.dialect import Encoding
from sweep.workflow.graph import Address, Edge, Graph, ImageRef, Json, ModelRef, Node, Value
from sweep.workflow.invokeai.invokeai_roles import StartEncoding

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
_CONTROL_FIELDS: Final = ("control_weight", "begin_step_percent", "end_step_percent", "control_mode", "resize_mode")


def make_recall(
    graph: Graph, roles: Mapping[str, Sequence[tuple[Address, Encoding]]], controls: Sequence[Mapping[str, Address]]
) -> Callable[[Graph], dict[str, Value]]:
    """See `Dialect.make_recall`; the fields are found once for all points."""
    first = {role: found[0] for role, found in roles.items() if found}
    plain = {name: first[role][0] for role, name in RECALLED.items() if role in first}
    if "cfg_scale" in plain and plain["cfg_scale"].field != "cfg_scale":
        del plain["cfg_scale"]  # guidance is not told as if it were cfg_scale
    for loader in (node.id for node in graph.nodes.values() if node.type == "vae_loader"):
        plain.setdefault("vae", Address(loader, "vae_model"))
    loras = [address for address, _ in roles.get("lora", ())]

    def recall(graph: Graph) -> dict[str, Value]:
        found = {name: _read(graph, address) for name, address in plain.items()}
        if "denoise_strength" in first:
            found["strength"] = _decode(*first["denoise_strength"], graph)
        found["loras"] = list(_read_loras(graph, loras)) or None
        found["controlnets"] = list(_read_controls(graph, controls)) or None
        return {name: value for name, value in found.items() if value is not None}

    return recall


def _read_loras(graph: Graph, loras: Sequence[Address]) -> Iterator[dict[str, Value]]:
    for address in loras:
        model, weight = _read(graph, address), _read(graph, Address(address.node, "weight"))
        if isinstance(model, ModelRef):
            # Before release 4 the key was `lora`; a server drops the one that it does not know.
            yield {"model": model, "lora": model, "weight": 0.75 if weight is None else weight}


def _read_controls(graph: Graph, controls: Sequence[Mapping[str, Address]]) -> Iterator[dict[str, Value]]:
    for parts in controls:
        model, image = _read(graph, parts["model"]), _read(graph, parts.get("source", parts["image"]))
        if isinstance(model, ModelRef) and isinstance(image, ImageRef):
            told = {name: _read(graph, Address(parts["model"].node, name)) for name in _CONTROL_FIELDS}
            given = {name: value for name, value in told.items() if value is not None}
            yield {"control_model": model, "image": image, **given}


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
    source, controls = told.get("source_image"), told.get("controlnets", ())
    sources = [source] if isinstance(source, dict) else []
    found: dict[str, Any] = {"init_image": sources[0]["image_name"]} if sources else {}
    if not (sources or controls) or not {"width", "height"} <= told.keys():
        return found
    size = {"width": told["width"], "height": told["height"]}
    found["canvas_v2_metadata"] = {
        "rasterLayers": [_make_layer("raster_layer", 1, image, size) for image in sources],
        "controlLayers": [
            _make_layer("control_layer", number, control["image"], size) | _make_adapter(control)
            for number, control in enumerate(controls, 1)
        ],
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
    adapter = {
        "type": "controlnet",
        "model": control["control_model"],
        "weight": control.get("control_weight", 1),
        "beginEndStepPct": [control.get("begin_step_percent", 0), control.get("end_step_percent", 1)],
        "controlMode": control.get("control_mode", "balanced"),
    }
    return {"withTransparencyEffect": True, "controlAdapter": adapter}
