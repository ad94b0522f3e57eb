"""InvokeAI editor exports, batch nodes and generators."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from random import Random
from typing import Any

from sweep.errors import Problem, WorkflowError
from sweep.workflow.graph import Address, BatchAxis, Edge, Graph, Names, Node, Value, Workflow, made_up
from sweep.workflow.invokeai.api_format import COLLECTING, node_fields, workflow_references
from sweep.workflow.validation import clean_graph, raise_for

BATCH_NODES = {  # type → the input that holds the values
    "image_batch": "images",
    "string_batch": "strings",
    "integer_batch": "integers",
    "float_batch": "floats",
}
GENERATORS = frozenset({"image_generator", "string_generator", "integer_generator", "float_generator"})
_MOST = 100_000  # values of one generator; more is a slip of the pen
_LEADING_INT = re.compile(r"\s*[+-]?\d+")
_LEADING_FLOAT = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DRAWN_BY_GENERATORS = ("random_distribution_uniform", "dynamic_prompts_random")
_CHOICE = re.compile(r"\{([^{}]*)\}")


def generated(node: str, settings: Mapping[str, Any]) -> list[Any]:
    """Return the values of a generator with these settings; those the editor wrote down itself count before ours.

    Random ones are drawn from the generator's seed, or from 0 where it has none: always the same here, but not
    those the editor would draw. Raises WorkflowError where only a server could tell, or for an unknown generator.
    """
    values = settings.get("values")
    if isinstance(values, list) and values:
        return values
    kind = str(settings.get("type", ""))
    make = next((make for ending, make in _MAKERS.items() if kind.endswith(ending)), None)
    if make is None:
        raise WorkflowError(f"{node}: sweep cannot work out the values of a {kind or 'generator without a type'}.")
    try:
        return make(settings, kind.startswith("integer"))
    except (TypeError, ValueError) as error:
        raise WorkflowError(f"{node}: the generator's settings are wrong: {error}.") from error


def drawn_from(settings: Mapping[str, Any]) -> int | None:
    """Return the seed from which `generated` draws the values; None where nothing is drawn."""
    given = settings.get("values")
    random = str(settings.get("type", "")).endswith(_DRAWN_BY_GENERATORS)
    return int(settings.get("seed") or 0) if random and not (isinstance(given, list) and given) else None


def _count(settings: Mapping[str, Any]) -> int:
    count = int(settings.get("count", 10))
    if not 0 <= count <= _MOST:
        raise ValueError(f"it counts {count}")
    return count


def _arithmetic(settings: Mapping[str, Any], whole: bool) -> list[Any]:
    start, step = settings.get("start", 0), settings.get("step", 1 if whole else 0.1)
    return [start] if step == 0 else [start + index * step for index in range(_count(settings))]


def _linear(settings: Mapping[str, Any], whole: bool) -> list[Any]:
    start, end, count = settings.get("start", 0), settings.get("end", 10 if whole else 1), _count(settings)
    if count == 1:
        return [start]
    offsets = [(end - start) * (index / (count - 1)) for index in range(count)]
    return [start + (_half_up(offset) if whole else offset) for offset in offsets]


def _half_up(number: float) -> int:
    return math.floor(number + 0.5)  # the editor's way, where Python's round goes to the even


def _uniform(settings: Mapping[str, Any], whole: bool) -> list[Any]:
    low, high = settings.get("min", 0), settings.get("max", 10 if whole else 1)
    draw = Random(settings.get("seed") or 0)
    return [draw.randint(low, high) if whole else draw.uniform(low, high) for _ in range(_count(settings))]


def _parsed_numbers(settings: Mapping[str, Any], whole: bool) -> list[Any]:
    """Do as the editor reads them: the number each part begins with, parts without one left out."""
    pattern = _LEADING_INT if whole else _LEADING_FLOAT
    found = [pattern.match(part) for part in _split(settings)]
    return [int(match[0]) if whole else float(match[0]) for match in found if match]


def _parsed_texts(settings: Mapping[str, Any], _whole: bool) -> list[Any]:
    return [part for part in _split(settings) if part]


def _split(settings: Mapping[str, Any]) -> Sequence[str]:
    text, separator = str(settings.get("input", "")), str(settings.get("splitOn", ","))
    if not separator:
        return [text]
    with suppress(ValueError):
        separator = str(json.loads(f'"{separator}"'))  # so that \n can be written
    return text.split(separator)


def _combined(settings: Mapping[str, Any], _whole: bool) -> list[Any]:
    return _combinations(str(settings.get("input", "")), int(settings.get("maxPrompts", 10)))


def _drawn(settings: Mapping[str, Any], _whole: bool) -> list[Any]:
    everything = _combinations(str(settings.get("input", "")), _MOST)
    draw = Random(settings.get("seed") or 0)
    return [draw.choice(everything) for _ in range(_count(settings))]


def _combinations(text: str, most: int) -> list[str]:
    """List every way to choose from the `{a|b}` in a text, the last choice changing fastest; at most so many."""
    if "__" in text or "$$" in text:
        raise ValueError("wildcards and counted choices are not known here")
    parts = _CHOICE.split(text)
    choices = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    found: list[str] = []
    for chosen in product(*choices):
        if len(found) >= most:
            break
        found.append("".join(chosen))
    return found


_MAKERS: Mapping[str, Callable[[Mapping[str, Any], bool], list[Any]]] = {
    "string_generator_parse_string": _parsed_texts,
    "integer_generator_parse_string": _parsed_numbers,
    "float_generator_parse_string": _parsed_numbers,
    "arithmetic_sequence": _arithmetic,
    "linear_distribution": _linear,
    "random_distribution_uniform": _uniform,
    "dynamic_prompts_combinatorial": _combined,
    "dynamic_prompts_random": _drawn,
}


_DRAWN = frozenset({"notes", "connector", "current_image"})  # nodes that are never sent
_SAVED_INPUT = "saved_workflow_input::"


def is_editor(document: Mapping[str, Any]) -> bool:
    """Tell whether a document with a list of nodes is an editor's export, and not the portable form."""
    nodes = [node for node in document.get("nodes") or () if isinstance(node, Mapping)]
    return any(str(node.get("type")) in {"invocation", *_DRAWN} or "inputs" in _data(node) for node in nodes)


def from_editor(document: Mapping[str, Any], source: str) -> Workflow:
    """Return the graph of an export, with its batches as axes. Raises WorkflowError, see `formats.load_workflow`."""
    drawing = _Drawing(document, source)
    nodes = [drawing.node(name) for name in drawing.sent]
    edges = [edge for edge in drawing.edges if not drawing.batching(edge)]
    graph = clean_graph(Graph.of(nodes, dict.fromkeys(edges)), source, COLLECTING)
    axes, notes = drawing.batches(Names(graph))
    return Workflow(
        graph=graph,
        kind="editor",
        name=str(document.get("name") or ""),
        batch_axes=axes,
        exposed=tuple(dict.fromkeys(address for address in _exposed(document) if address.node in graph.nodes)),
        labels=dict(drawing.labels()),
        notes=notes,
    )


def _data(node: Mapping[str, Any]) -> Mapping[str, Any]:
    data = node.get("data")
    return data if isinstance(data, Mapping) else {}


class _Drawing:
    """An export's nodes and edges, indexed."""

    def __init__(self, document: Mapping[str, Any], source: str) -> None:
        self.source = source
        listed = [node for node in document["nodes"] if isinstance(node, Mapping) and "id" in node]
        self.nodes = {str(node["id"]): node for node in listed}
        if len(self.nodes) < len(listed):
            ids = [str(node["id"]) for node in listed]
            twice = next(name for at, name in enumerate(ids) if name in ids[:at])
            raise WorkflowError(f"{source}: two nodes have the id {twice}.")
        invocations = {
            name: node for name, node in self.nodes.items() if node.get("type", "invocation") == "invocation"
        }
        untyped = [name for name in invocations if not isinstance(_data(invocations[name]).get("type"), str)]
        raise_for([Problem(message=f"Node {name} has no type") for name in untyped], source)
        self.types = {name: str(_data(node)["type"]) for name, node in invocations.items()}
        self.sent = {n: kind for n, kind in self.types.items() if kind not in BATCH_NODES and kind not in GENERATORS}
        self.edges = tuple(self._edges(document))

    def _edges(self, document: Mapping[str, Any]) -> Iterator[Edge]:
        drawn = [e for e in document.get("edges") or () if isinstance(e, Mapping) and e.get("type") != "collapsed"]
        for entry in drawn:
            ends = [entry.get("source"), entry.get("sourceHandle"), entry.get("target"), entry.get("targetHandle")]
            if not all(isinstance(end, str) and end for end in ends):
                raise WorkflowError(f"{self.source}: an edge has no source and target with handles: {entry.get('id')}")
        wires = {(str(e["target"]), str(e["targetHandle"])): e for e in drawn}
        for entry in drawn:
            target = Address(str(entry["target"]), str(entry["targetHandle"]))
            if self._drawn_only(target.node):
                continue
            found = self._real_source(entry, wires)
            if found is not None:
                yield Edge(found, target)

    def batching(self, edge: Edge) -> bool:
        """Tell whether an edge comes from or leads to a batch node or generator, none of which is sent."""
        kinds = {self.types.get(edge.source.node), self.types.get(edge.destination.node)}
        return not kinds.isdisjoint(BATCH_NODES.keys() | GENERATORS)

    def _drawn_only(self, node: str) -> bool:
        return node in self.nodes and node not in self.types

    def _real_source(
        self, entry: Mapping[str, Any], wires: Mapping[tuple[str, str], Mapping[str, Any]]
    ) -> Address | None:
        """Return the output an edge comes from, through any number of connectors; None where they lead nowhere."""
        seen: set[str] = set()
        while self._drawn_only(node := str(entry["source"])):
            before = wires.get((node, "in"))
            if before is None or node in seen:
                return None
            seen.add(node)
            entry = before
        return Address(node, str(entry["sourceHandle"]))

    def node(self, name: str) -> Node:
        """Make one invocation as the editor would send it."""
        data = _data(self.nodes[name])
        kind = self.types[name]
        values = dict(self._inputs(name))
        packed = {
            key.removeprefix(_SAVED_INPUT): values.pop(key) for key in list(values) if key.startswith(_SAVED_INPUT)
        }
        if packed:
            values["workflow_inputs"] = packed
        for attribute, key in (("use_cache", "useCache"), ("is_intermediate", "isIntermediate")):
            if isinstance(data.get(key), bool):
                values[attribute] = data[key]
        return Node(name, kind, node_fields(kind, values), str(data.get("label") or ""))

    def _inputs(self, name: str) -> Iterator[tuple[str, Any]]:
        inputs = _data(self.nodes[name]).get("inputs")
        for field, entry in inputs.items() if isinstance(inputs, Mapping) else ():
            if isinstance(entry, Mapping) and "value" in entry:
                yield str(field), entry["value"]

    def labels(self) -> Iterator[tuple[Address, str]]:
        """Yield the labels that the author gave to single fields."""
        for name in self.sent:
            inputs = _data(self.nodes[name]).get("inputs")
            for field, entry in inputs.items() if isinstance(inputs, Mapping) else ():
                if isinstance(entry, Mapping) and entry.get("label"):
                    yield Address(name, str(field)), str(entry["label"])

    def batches(self, names: Names) -> tuple[tuple[BatchAxis, ...], tuple[str, ...]]:
        """Return the batch nodes that feed something, as axes, and a note for each that cannot be one."""
        axes: list[BatchAxis] = []
        notes: list[str] = []
        for name, kind in self.types.items():
            if kind not in BATCH_NODES:
                continue
            fed = tuple(e.destination for e in self.edges if e.source.node == name and e.destination.node in self.sent)
            if not fed:
                continue
            own = f"{names.called(fed[0].node)}.{fed[0].field}" if made_up(name) else name
            shown = str(_data(self.nodes[name]).get("label") or own)
            where = " and ".join(map(str, fed))
            values = self._values(name, kind)
            if values is None:
                notes.append(f"{shown} takes the images of a board, which only the editor can list: set {where}.")
                continue
            if not values:
                raise WorkflowError(f"{self.source}: {shown} ({kind}) holds no values.")
            note = f"{shown} ({kind}) is an axis of {len(values)} values for {where}{self._drawn(name, kind)}."
            axes.append(BatchAxis(name=shown, addresses=fed, values=values, group=self._group(name), note=note))
        return tuple(axes), tuple(notes)

    def _group(self, name: str) -> str:
        chosen = str(dict(self._inputs(name)).get("batch_group_id") or "None")
        return "" if chosen == "None" else chosen

    def _values(self, name: str, kind: str) -> tuple[Value, ...] | None:
        """Return the values of a batch node, its own or its generator's; None for images of a board."""
        generator = self._generator(name, kind)
        if generator is None:
            held = dict(self._inputs(name)).get(BATCH_NODES[kind])
            return tuple(workflow_references(value) for value in held) if isinstance(held, list) else ()
        if self.types[generator] == "image_generator":
            return None
        shown = str(_data(self.nodes[generator]).get("label") or generator)
        return tuple(generated(shown, self._settings(generator)))

    def _generator(self, name: str, kind: str) -> str | None:
        """Return the generator that fills a batch node, where one does."""
        feeding = [e.source.node for e in self.edges if e.destination == Address(name, BATCH_NODES[kind])]
        return next((node for node in feeding if self.types.get(node) in GENERATORS), None)

    def _settings(self, generator: str) -> Mapping[str, Any]:
        settings = dict(self._inputs(generator)).get("generator")
        return settings if isinstance(settings, Mapping) else {}

    def _drawn(self, name: str, kind: str) -> str:
        """Return the end of a note on values that are drawn at random."""
        generator = self._generator(name, kind)
        seed = drawn_from(self._settings(generator)) if generator is not None else None
        return (
            f", drawn here from seed {seed}: the same each time, not those the editor draws" if seed is not None else ""
        )


def _exposed(document: Mapping[str, Any]) -> Iterator[Address]:
    """Yield the fields on the workflow's form, then those of the older list."""
    form = document.get("form")
    elements = form.get("elements") if isinstance(form, Mapping) else None
    entries = (
        [e.get("data") for e in elements.values() if isinstance(e, Mapping)] if isinstance(elements, Mapping) else []
    )
    shown = [entry.get("fieldIdentifier") for entry in entries if isinstance(entry, Mapping)]
    for entry in [*shown, *(document.get("exposedFields") or ())]:
        if isinstance(entry, Mapping) and entry.get("nodeId") and entry.get("fieldName"):
            yield Address(str(entry["nodeId"]), str(entry["fieldName"]))
