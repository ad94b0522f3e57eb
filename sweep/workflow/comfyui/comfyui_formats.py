"""The formats of ComfyUI's workflows: the API format, exports of its editor, and portable ones in ComfyUI's nodes.

An export holds what the editor draws, not what a server renders: the values of a node's widgets stand in a list by
their order, subgraphs are folded up, and some nodes (reroutes, notes, primitives) exist in the editor alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any, Final, TypeAlias

from sweep.errors import WorkflowError
from sweep.workflow.comfyui.comfyui_roles import SamplerEncoding, ScheduleEncoding
from sweep.workflow.comfyui.object_info import find_model_type
from sweep.workflow.graph import Address, Edge, Graph, Json, ModelRef, Node, Ref, Value, Workflow, map_refs
from sweep.workflow.node_schemas import NodeSchema
from sweep.workflow.portable_format import PortableReader, Rule
from sweep.workflow.validation import clean_graph, raise_for

PREFIX: Final = "filename_prefix"  # where an image is saved: the client decides it, so it is no part of a graph


def is_prompt(document: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is a graph in the API form."""
    return bool(document) and all(isinstance(node, Mapping) and "class_type" in node for node in document.values())


def read_prompt(document: Mapping[str, Any], source: str, schemas: Mapping[str, NodeSchema]) -> Workflow:
    """Read a graph in the API form, where node types tell models and images from other texts. Raises WorkflowError."""
    problems: list[str] = []
    nodes: list[Node] = []
    edges: list[Edge] = []
    files: dict[Address, str] = {}
    for name, entry in document.items():
        kind, inputs = entry.get("class_type"), entry.get("inputs")
        if not isinstance(kind, str) or not kind:
            problems.append(f"Node {name} has no class_type")
            continue
        if kind.startswith(_SPREADING):  # its links stand in the prompt as real ones, and it does nothing
            continue
        schema, values = schemas.get(kind), dict[str, Any]()
        for key, value in inputs.items() if isinstance(inputs, Mapping) else ():
            known = schema.fields.get(key) if schema else None
            output = _find_output(value, document, is_link=known is not None and not known.takes_value)
            if output is None:
                values[str(key)] = value
            else:
                edges.append(Edge(output, Address(str(name), str(key))))
        meta = entry.get("_meta")
        title = str(meta.get("title") or "") if isinstance(meta, Mapping) else ""
        fields, images = read_node_values(str(name), values, schema)
        files |= images
        nodes.append(Node(str(name), kind, fields, "" if title == kind else title))
    raise_for(problems, source)
    return Workflow(graph=clean_graph(Graph.of(nodes, dict.fromkeys(edges)), source), kind="api", files=files)


def read_node_values(
    node: str, values: Mapping[str, Any], schema: NodeSchema | None
) -> tuple[dict[str, Value], dict[Address, str]]:
    """Return a node's fields, with models as references, and the image files that it names.

    The name of a field tells a model where the node type is not known.
    """
    fields: dict[str, Value] = {}
    files: dict[Address, str] = {}
    for name, value in values.items():
        known = schema.fields.get(name) if schema else None
        model = next(iter(known.model_types), None) if known else find_model_type("", name)
        if name == PREFIX or value is None:
            continue
        if known is not None and known.type == "ImageField" and isinstance(value, str):
            files[Address(node, name)] = value
        else:
            fields[name] = ModelRef(value, "", model) if model and isinstance(value, str) else value
    return fields, files


def _find_output(value: Any, document: Mapping[str, Any], *, is_link: bool) -> Address | None:
    """Return the output that a link comes from; None for a literal value, also for a list of two.

    A field that only links feed has one (`is_link`), even from a node that is not there; [512, 512] is none, but may be
    the value of an extension's own widget.
    """
    match value:
        case [str() | int() as node, int() as slot] if not isinstance(slot, bool) and (
            (is_link and isinstance(node, str)) or str(node) in document
        ):
            return Address(str(node), str(slot))
    return None


def write_prompt(graph: Graph, resolve: Callable[[Ref], Json]) -> dict[str, dict[str, Any]]:
    """Return the graph in the API form; `resolve` gives this server's name of a reference."""
    prompt: dict[str, dict[str, Any]] = {}
    for node in graph.nodes.values():
        inputs = {name: map_refs(value, resolve) for name, value in node.fields.items()}
        prompt[node.id] = {"class_type": node.type, "inputs": inputs}
        if node.label:
            prompt[node.id]["_meta"] = {"title": node.label}
    for edge in graph.edges:
        link = [edge.source.node, int(edge.source.field)]
        prompt[edge.destination.node]["inputs"][edge.destination.field] = link
    return prompt


def fill_defaults(prompt: Mapping[str, dict[str, Any]], schemas: Mapping[str, NodeSchema]) -> None:
    """Put the default of every field into a prompt that does not set it: the server applies no defaults."""
    for node in prompt.values():
        schema = schemas.get(node["class_type"])
        for known in schema.fields.values() if schema else ():
            if known.default is not None and known.takes_value:
                node["inputs"].setdefault(known.name, known.default)


_MUTED, _BYPASSED = 2, 4  # a node's mode
_INPUTS, _OUTPUTS = "-10", "-20"  # ids of a subgraph's own ends
_PASSING: Final = frozenset({"Reroute", "Reroute (rgthree)", "SetNode"})  # drawn nodes that hand on what they are given
_SPREADING: Final = ("Anything Everywhere", "Prompts Everywhere")  # how types begin: an extension links what these take
_DRAWN: Final = _PASSING | {"Note", "MarkdownNote", "PrimitiveNode", "GetNode"}
_GROUP: Final = ("workflow>", "workflow/")  # how the type of a node begins that stands for several
_SWITCHES: Final = ("Fast ", "Mute / Bypass ", "Random Unmuter ", "Node Collector ")  # of rgthree: drawn, though linked
_AFTER_SEED: Final = frozenset({"fixed", "increment", "decrement", "randomize"})  # what the editor does with a seed
_SEEDS: Final = frozenset({"seed", "noise_seed"})
_DEEPEST: Final = 40  # subgraphs in each other; the deepest real one has three
_LONGEST: Final = 1000  # links that are followed for one input


@dataclass(frozen=True, slots=True)
class _Literal:
    """A value that comes along a link, from a node that exists in the editor alone."""

    value: Any


_Source: TypeAlias = Address | _Literal | None


def is_drawing(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("nodes"), list) and isinstance(document.get("links"), list)


def read_drawing(document: Mapping[str, Any], source: str, schemas: Mapping[str, NodeSchema]) -> Workflow:
    """Translate an editor export with the node types of a server. Raises WorkflowError."""
    drawing = _Drawing(document, schemas)
    for scope, entry in drawing.rendered:
        drawing.translate(scope, entry)
    graph = clean_graph(Graph.of(drawing.nodes, dict.fromkeys(drawing.edges)), source)
    return Workflow(graph=graph, kind="editor", files=drawing.files)


class _Scope:
    """The nodes and links of the export itself, or of one instance of a subgraph within it."""

    def __init__(
        self,
        definition: Mapping[str, Any],
        prefix: str = "",
        parent: _Scope | None = None,
        instance: Mapping[str, Any] | None = None,
    ) -> None:
        self.inputs, self.prefix, self.parent = definition.get("inputs") or [], prefix, parent
        self.instance = instance or {}
        entries = definition.get("nodes") or ()
        self.nodes = {str(node["id"]): node for node in entries if isinstance(node, Mapping)}
        self.links: dict[str, tuple[str, int, str, int]] = {}  # link id → source node, slot, target node, slot
        for link in definition.get("links") or ():  # lists in a document, objects in a subgraph
            if isinstance(link, Mapping):
                link = [link[key] for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
            if isinstance(link, list) and len(link) >= 5:
                self.links[str(link[0])] = (str(link[1]), int(link[2]), str(link[3]), int(link[4]))
        self.spread = (definition.get("extra") or {}).get("ue_links")
        for link in self.spread or ():  # by the extension Use Everywhere; a link that is drawn goes before it
            target, place = str(link["downstream"]), int(link["downstream_slot"])
            name, inputs = f"{target}.{place}", [*(self.nodes.get(target, {}).get("inputs") or ())]
            if any(str(each.get("link")) not in self.links for each in inputs[place : place + 1]):
                inputs[place] = {**inputs[place], "link": name}
                self.nodes[target] = {**self.nodes[target], "inputs": inputs}
            self.links[name] = (str(link["upstream"]), int(link["upstream_slot"]), target, place)

    def find_widget(self, slot: int) -> tuple[str, str]:
        """Find the widget that an input of a subgraph shows, the first one that it feeds: its node and its name."""
        for link in self.inputs[slot].get("linkIds") or ():
            *_, node, place = self.links.get(str(link), ("", 0, "", 0))
            match (self.nodes.get(node, {}).get("inputs") or [])[place : place + 1]:
                case [{"widget": _, "name": name}]:
                    return node, str(name)
        return "", ""

    @cached_property
    def shown_widgets(self) -> dict[tuple[str, str], Any]:
        """Return the values of the widgets that an instance of a subgraph shows, by inner node (-1: an input) and name.

        Some exports name them (`proxyWidgets`); in others their values stand in the order of the inputs.
        """
        values = self.instance.get("widgets_values")
        values = values if isinstance(values, list) else []
        proxies = (self.instance.get("properties") or {}).get("proxyWidgets")
        if not proxies and values:
            proxies = [("-1", each.get("name")) for slot, each in enumerate(self.inputs) if self.find_widget(slot)[0]]
            if len(values) > len(proxies):  # with what the editor does with seeds
                values = [value for value in values if str(value) not in _AFTER_SEED]
        shown = zip(proxies or (), values, strict=False)
        return {(str(widget[0]), str(widget[1])): value for widget, value in shown if value is not None}


class _Drawing:
    def __init__(self, document: Mapping[str, Any], schemas: Mapping[str, NodeSchema]) -> None:
        self.schemas = schemas
        self.subgraphs: dict[str, Mapping[str, Any]] = {}
        match document:
            case {"definitions": {"subgraphs": list(subgraphs)}}:
                self.subgraphs = {str(each["id"]): each for each in subgraphs if isinstance(each, Mapping)}
        self.scopes: dict[str, _Scope] = {}  # by their prefix
        self.rendered: list[tuple[_Scope, Mapping[str, Any]]] = []  # what a server runs, subgraphs in their place
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.files: dict[Address, str] = {}
        self._open(_Scope(document), 0)

    def _open(self, scope: _Scope, depth: int) -> None:
        if depth > _DEEPEST:
            raise WorkflowError("The workflow's subgraphs hold each other.")
        self.scopes[scope.prefix] = scope
        for name, entry in scope.nodes.items():
            kind = str(entry.get("type"))
            if entry.get("mode") in (_MUTED, _BYPASSED):
                continue
            if kind.startswith((*_SPREADING, "Seed Everywhere")) and scope.spread is None:
                hint = "Convert them to real links in the editor, or give an image that this workflow made."
                why = "The workflow has links of the extension Use Everywhere, and the file does not hold them."
                raise WorkflowError(why, hint=hint)
            if self._is_drawn(scope, entry):
                continue
            if kind.startswith(_GROUP):
                hint = 'Ungroup it in the editor, or save the workflow there with "Export (API)".'
                raise WorkflowError(f"Node {scope.prefix}{name} is a group, which only the editor can open.", hint=hint)
            if definition := self.subgraphs.get(kind):
                self._open(_Scope(definition, f"{scope.prefix}{name}:", scope, entry), depth + 1)
            else:
                self.rendered.append((scope, entry))

    def _is_drawn(self, scope: _Scope, entry: Mapping[str, Any]) -> bool:
        """Tell whether only the editor has a node: by its type, or as no server knows it and nothing links to it."""
        kind, name = str(entry.get("type")), str(entry["id"])
        is_switch = kind.endswith(" (rgthree)") and kind.startswith(_SWITCHES)
        if kind in _DRAWN or kind.startswith(_SPREADING) or is_switch:
            return True
        if kind in self.schemas or kind in self.subgraphs or not scope.links:
            return False
        return not any(name in (source, target) for source, _, target, _ in scope.links.values())

    def translate(self, scope: _Scope, entry: Mapping[str, Any]) -> None:
        """Add one node as the server takes it, the edges into it and the image files that it names."""
        name, kind = f"{scope.prefix}{entry['id']}", str(entry.get("type"))
        values = self._iterate_widgets(scope, entry)
        for given in entry.get("inputs") or ():
            field_name = str(given.get("name"))
            found = self._find_linked(scope, given.get("link"), 0)
            if isinstance(found, _Literal):
                values[field_name] = found.value
            elif found is not None:
                self.edges.append(Edge(found, Address(name, field_name)))
                values.pop(field_name, None)
        fields, files = read_node_values(name, values, self.schemas.get(kind))
        self.files |= files
        title = str(entry.get("title") or "")
        self.nodes.append(Node(name, kind, fields, "" if title == kind else title))

    def _iterate_widgets(self, scope: _Scope, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a node's widgets, which stand in the order of its inputs, or on the subgraph's node."""
        values, schema = entry.get("widgets_values"), self.schemas.get(str(entry.get("type")))
        fields = [each for each in schema.fields.values() if each.takes_value] if schema else []
        found: dict[str, Any] = {}
        if isinstance(values, Mapping):
            found = {each.name: values[each.name] for each in fields if each.name in values}
        left = list(values) if isinstance(values, list) else []
        for each, after in zip_longest(fields, fields[1:]):
            if each.shown_with and found.get(each.name.rpartition(".")[0]) not in each.shown_with:
                continue
            if not left:
                break
            found[each.name] = left.pop(0)
            button = left[0] if left else ""
            is_control = each.type == "integer" and isinstance(button, str) and button in _AFTER_SEED
            was_control = each.name in _SEEDS and (button is None or isinstance(button, bool))  # in 2023: yes or no
            was_control = was_control and not (after and after.type == "boolean")
            if is_control or was_control or (each.type == "ImageField" and button == "image"):
                left.pop(0)
        if schema and schema.is_open:  # rgthree's loader of several LoRAs names none of them
            loras = [value for value in left if isinstance(value, Mapping) and "lora" in value]
            found |= {f"lora_{number}": value for number, value in enumerate(loras, 1)}
        return found | {name: value for (node, name), value in scope.shown_widgets.items() if node == str(entry["id"])}

    def _find_linked(self, scope: _Scope, link: Any, depth: int) -> _Source:
        found = scope.links.get(str(link))
        return self._find_real_output(scope, found[0], found[1], depth + 1) if found else None

    def _find_real_output(self, scope: _Scope, node: str, slot: int, depth: int) -> _Source:
        """Return the real source of an output, through nodes that exist in the editor alone."""
        if depth > _LONGEST:
            raise WorkflowError("The workflow's links lead in a circle.")
        if node == _INPUTS:
            return self._find_outside(scope, slot, depth)
        entry = scope.nodes.get(node)
        if entry is None:
            return None
        kind, inputs = str(entry.get("type")), entry.get("inputs") or []
        if kind in _PASSING:
            return self._find_linked(scope, inputs[0].get("link") if inputs else None, depth)
        if kind == "PrimitiveNode":
            held = _first_widget(entry)
            return None if held is None else _Literal(held)
        if kind == "GetNode":
            setters = (each for each in scope.nodes.values() if each.get("type") == "SetNode")
            found = next((each for each in setters if _first_widget(each) == _first_widget(entry)), None)
            return self._find_real_output(scope, str(found["id"]), 0, depth + 1) if found else None
        if entry.get("mode") == _MUTED:  # as it is, nodes that are only drawn pass on what they are given
            return None
        if entry.get("mode") == _BYPASSED:
            return self._find_passed(scope, entry, slot, depth)
        if kind in self.subgraphs:
            inner = self.scopes.get(f"{scope.prefix}{node}:")
            if inner is None:  # a drawing that calls a subgraph by the name of a type that is only drawn
                return None
            given = (link for link in inner.links.values() if link[2:] == (_OUTPUTS, slot))
            return next(
                (self._find_real_output(inner, origin, from_slot, depth + 1) for origin, from_slot, *_ in given), None
            )
        return Address(f"{scope.prefix}{node}", str(slot))

    def _find_outside(self, scope: _Scope, slot: int, depth: int) -> _Source:
        """Return the source of a subgraph's input: from outside, or the value of the widget that it shows."""
        if scope.parent is None or slot >= len(scope.inputs):
            return None
        name = scope.inputs[slot].get("name")
        links = (each.get("link") for each in scope.instance.get("inputs") or [] if each.get("name") == name)
        if linked := self._find_linked(scope.parent, next(links, None), depth):
            return linked
        node, widget = scope.find_widget(slot)
        own = self._iterate_widgets(scope, scope.nodes[node]) if node else {}
        value = scope.shown_widgets.get(("-1", str(name)), own.get(widget))
        return None if value is None else _Literal(value)

    def _find_passed(self, scope: _Scope, entry: Mapping[str, Any], slot: int, depth: int) -> _Source:
        """Return the source that a bypassed node passes on: an input of the output's type, if possible at its place."""
        outputs, inputs = entry.get("outputs") or (), entry.get("inputs") or ()
        kind = outputs[slot].get("type") if slot < len(outputs) else None
        order = [*inputs[slot : slot + 1], *inputs]
        links = (each["link"] for each in order if each.get("type") == kind and each.get("link") is not None)
        return self._find_linked(scope, next(links, None), depth)


def _first_widget(entry: Mapping[str, Any]) -> Any:
    values = entry.get("widgets_values")
    return values[0] if isinstance(values, list) and values else None


class ComfyUIPortableReader(PortableReader):
    """Translates a portable document to the node types of a server."""

    package = str(__package__)

    def make_nodes(self, name: str, rule: Rule, values: dict[str, Any]) -> Iterator[Node]:
        if rule["becomes"] == "KSampler":
            start = values.pop("denoising_start", None)
            if isinstance(start, int | float):
                values.setdefault("denoise", round(1 - start, 9))
            if "sampler_name" not in values and isinstance(word := values.get("scheduler"), str):
                values |= {"sampler_name": SamplerEncoding()(word), "scheduler": ScheduleEncoding()(word)}
        renamed = self.rename_fields(name, rule, values)
        if rule["becomes"] == "LoraLoader" and "strength_model" in renamed:
            renamed.setdefault("strength_clip", renamed["strength_model"])
        fields, files = read_node_values(name, renamed, self.schemas.get(rule["becomes"]))
        self.files |= files
        yield Node(name, rule["becomes"], fields)

    def wire(self, graph: Graph) -> Graph:
        """Move the seed of the node that gives noise to the one node that samples, which draws it here."""
        graph = self.move_seeds(graph, "EmptyLatentImage", "KSampler")
        if any("seed" in node.fields for node in graph.nodes.values() if node.type == "EmptyLatentImage"):
            raise WorkflowError("The workflow's seed belongs to none of its samplers, or to several.")
        return graph
