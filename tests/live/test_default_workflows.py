"""Every workflow that InvokeAI 6.14.2 ships: converted, understood, accepted by the server, and one of them swept."""

from __future__ import annotations

from asyncio import to_thread
from itertools import product
from pathlib import Path

import pytest

from sweep.servers import Server
from sweep.workflow import (
    Address,
    Graph,
    ModelRef,
    NodeSchemas,
    Target,
    Value,
    Workflow,
    check_graph,
    find_roles,
    load_builtin_schemas,
    load_workflow,
    prune,
    read_openapi,
)
from tests.live.default_workflow_roles import LABELS, REFUSED, ROLES
from tests.live.rendering import ask, refusal, rendered
from tests.support.graphs import output_nodes
from tests.support.scenes import client

SCHEMAS = load_builtin_schemas()  # read before any loop runs
FOLDER = "app/services/workflow_records/default_workflows"


@pytest.fixture
def folder(invokeai_package: Path) -> Path:
    return invokeai_package / FOLDER


@pytest.fixture
def schemas(live_server: str) -> NodeSchemas:
    return read_openapi(ask(f"{live_server}/openapi.json"))


def filled(graph: Graph, schemas: NodeSchemas) -> Graph:
    """The graph with a model, image or video wherever a node misses one."""
    missing: dict[Address, Value] = {}
    for node in graph.nodes.values():
        for field in schemas[node.type].fields.values() if node.type in schemas else ():
            address = Address(node.id, field.name)
            if not field.required or field.name in node.fields or graph.list_edges_into(address):
                continue
            if field.type == "ModelIdentifierField":
                missing[address] = ModelRef(
                    "m", *(field.model_bases or ("any",))[:1], *(field.model_types or ("main",))[:1]
                )
            elif field.type in {"ImageField", "VideoField"}:
                name = field.type.removesuffix("Field").lower()
                missing[address] = {f"{name}_name": f"{name}.bin"}
    return graph.set(missing)


def test_the_packaged_nodes_are_those_of_the_server(schemas: NodeSchemas) -> None:
    assert schemas == SCHEMAS


def test_the_table_knows_every_workflow(folder: Path) -> None:
    assert {path.name for path in folder.glob("*.json")} == set(ROLES)


@pytest.mark.parametrize("name", ROLES)
def test_the_server_takes_what_was_converted(name: str, folder: Path, live_server: str, schemas: NodeSchemas) -> None:
    workflow = load_workflow(folder / name)
    assert workflow.kind == "editor"
    graph = filled(workflow.graph, schemas)
    told = refusal(live_server, graph)
    ours = " ".join(problem.message for problem in check_graph(graph, schemas))
    assert bool(told) == (name in REFUSED)
    if name in REFUSED:
        assert REFUSED[name] in told
    if name in REFUSED and REFUSED[name] != "file_path":  # whether a file exists there only the server knows
        assert REFUSED[name] in ours
    else:
        assert ours == ""


def shown(workflow: Workflow) -> list[str]:
    roles = find_roles(workflow.graph, SCHEMAS)

    def short(target: Target) -> str:
        return f"{target.address.node[:4]}.{target.address.field}{'!' if target.cut else ''}"

    lines = [f"{role}: {' + '.join(map(short, targets))}" for role, targets in roles.targets.items()]
    for role, groups in roles.ambiguous.items():
        lines.append(f"{role}: {' | '.join(' + '.join(map(short, group)) for group in groups)}")
    outputs = output_nodes(workflow.graph, SCHEMAS)
    return lines + ([f"outputs: {' + '.join(node[:4] for node in outputs)}"] if outputs else [])


@pytest.mark.parametrize("name", ROLES)
def test_the_roles_are_what_the_labels_say(name: str, folder: Path) -> None:
    workflow = load_workflow(folder / name)
    assert shown(workflow) == [line.strip() for line in ROLES[name].strip().splitlines()]
    roles = find_roles(workflow.graph, SCHEMAS)
    for role, label in labelled(workflow, {**roles.targets, **{r: sum(g, ()) for r, g in roles.ambiguous.items()}}):
        assert any(word in label for word in LABELS.get(role, ())), f"{role} sets what its author calls {label}"


def labelled(workflow: Workflow, roles: dict[str, tuple[Target, ...]]) -> list[tuple[str, str]]:
    found = []
    for role, targets in roles.items():
        for target in targets:
            label = workflow.labels.get(target.address) or workflow.graph.nodes[target.address.node].label
            found.extend([(role, label.lower())] if label else [])
    return found


def varied(graph: Graph, model: ModelRef, **values: Value) -> Graph:
    """The graph with these roles set as a plan would set them."""
    roles = find_roles(graph, SCHEMAS)
    for role, value in {"model": model, "width": 64, "height": 64, **values}.items():
        for target in roles[role]:
            graph = graph.without_edges(target.cut).set({target.address: target.encode(value)})
    return graph


async def tiny(server: Server, base: str) -> ModelRef:
    found = next(model for model in await server.models() if model.type == "main" and model.base == base)
    return ModelRef(found.name, found.base)


async def test_one_of_them_is_swept_and_seeds_take_effect(folder: Path, live_server: str) -> None:
    drawn = (await to_thread(load_workflow, folder / "Text to Image - SD1.5.json")).graph
    outputs = output_nodes(drawn, SCHEMAS)
    images: dict[tuple[str, int, int], bytes] = {}
    async with client(live_server) as server:
        model = await tiny(server, "sd-1")
        for prompt, seed, steps in product(["a cat", "a red house"], [1, 2], [1, 2]):
            graph = prune(varied(drawn, model, prompt=prompt, seed=seed, steps=steps), outputs)
            images[prompt, seed, steps] = await rendered(server, graph, outputs)
        again = await rendered(server, prune(varied(drawn, model, prompt="a cat", seed=1, steps=1), outputs), outputs)
    assert len(set(images.values())) == len(images)
    assert again == images["a cat", 1, 1]


async def test_what_is_cut_off_and_pruned_does_not_run(folder: Path, live_server: str) -> None:
    """Prompts read from a file that does not exist: with the prompt set by its role, nothing reads it any more."""
    drawn = (await to_thread(load_workflow, folder / "Prompt from File.json")).graph
    outputs = output_nodes(drawn, SCHEMAS)
    async with client(live_server) as server:
        graph = varied(drawn, await tiny(server, "sd-1"), prompt="a cat", seed=1, steps=1)
        assert await rendered(server, prune(graph, outputs), outputs)
