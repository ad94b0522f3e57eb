"""The recipes of the built-in workflows (templates), from each family's `templates.json`; graphs are built here.

The file has one recipe for each kind of base models: an image from a prompt. Its other parts begin the recipe with an
image (resized first, so that it and the noise match), or add one LoRA or one ControlNet. Models and images are left out
of the nodes that take them, because the plan fills them in. Node ids are words, so that addresses read like
`denoise.steps`, `prompt.prompt` or `noise.seed`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sweep.errors import WorkflowError, did_you_mean
from sweep.role_table import TEMPLATE_NAMES
from sweep.workflow.graph import Address, Graph, Node
from sweep.workflow.node_schemas import read_table


def build_template(package: str, name: str, base: str, loras: int = 0, controls: int = 0) -> Graph:
    """Return a template of the family whose data files lie in `package`; see `Dialect.template`."""
    templates = read_table(package, "templates.json")
    hint = f"Built-in workflows: {', '.join(TEMPLATE_NAMES)}{templates['offered']}."
    if name not in TEMPLATE_NAMES:
        raise WorkflowError(f"There is no built-in workflow {name!r}.{did_you_mean(name, TEMPLATE_NAMES)}", hint=hint)
    bases = templates["bases"]
    chosen = bases.get(base) or bases.get("any")
    if chosen is None:
        raise WorkflowError(f"There is no built-in workflow for {base} models.{did_you_mean(base, bases)}", hint=hint)
    recipe = {**templates["common"], **templates["recipes"][chosen["recipe"]]}
    controls = max(controls, int(name == "controlnet"))
    if controls and not recipe["control"]:
        raise WorkflowError(f"There is no built-in workflow with a ControlNet for {base} models.", hint=hint)
    graph = _add_part(Graph({}), recipe, chosen["size"])
    if name == "img2img":
        graph = _add_part(graph, recipe["image"], chosen["size"])
    for control in _number_ids("control", controls):
        graph = _add_part(graph, recipe["control"], name=control)
    if controls > 1 and "collector" in recipe:
        graph = _add_part(graph, recipe["collector"])
    return _add_loras(graph, recipe["lora"], max(loras, int(name == "lora")))


def _number_ids(word: str, count: int) -> Iterator[str]:
    """Yield so many ids: word, word2, word3 and so on."""
    return (word if number == 1 else f"{word}{number}" for number in range(1, count + 1))


def _add_part(graph: Graph, part: Mapping[str, Any], size: int = 0, name: str = "") -> Graph:
    """Return the graph with the nodes and edges of a part, and with the fields that it sets.

    `before` names fields with the input and the output of a new node: the edges into the field go through that node.
    """
    filled = json.loads(json.dumps(part).replace('"{size}"', str(size)).replace("{name}", name))
    before = filled.get("before", {})
    taken = [edge for edge in graph.edges if str(edge.destination) in before]
    nodes = [Node(node, facts["type"], facts.get("fields", {})) for node, facts in filled["nodes"].items()]
    edges = [
        *filled.get("edges", ()),
        *(f"{edge.source} → {before[str(edge.destination)][0]}" for edge in taken),
        *(f"{output} → {field}" for field, (_, output) in before.items()),
    ]
    graph = graph.without_edges(taken).without_nodes(filled.get("without", ())).adding(nodes, edges)
    return graph.set({Address.parse(text): value for text, value in filled.get("set", {}).items()})


def _add_loras(graph: Graph, lora: Mapping[str, Any], count: int) -> Graph:
    """Return the graph with so many LoRAs in a row after its node `model`; `through` is what they change."""
    last = "model"
    for name in _number_ids("lora", count):
        changed = {Address(last, output): Address(name, output) for output in lora["through"]}
        edges = [f"{last}.{output} → {name}.{field}" for output, field in lora["through"].items()]
        graph = graph.rewire(changed).adding([Node(name, lora["type"], lora["fields"])], edges)
        last = name
    return graph
