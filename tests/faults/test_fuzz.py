"""The parsers a stranger can feed: whatever comes, there is a workflow or a sentence, never a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import WorkflowError
from sweep.servers import untrusted_json
from sweep.workflow import find_roles, load_builtin_schemas, load_workflow, read_openapi, workflow_from
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI
from tests.support.workflow_exports import MODEL, edge, export, invocation

template = INVOKEAI.template

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PORTABLE = Path(__file__).parents[1] / "fixtures" / "portable" / "image_to_image.json"
DOCUMENTS: list[Any] = [
    {"nodes": {name: {"id": name, **node.fields, "type": node.type} for name, node in graph.nodes.items()}, "edges": []}
    for graph in [template("img2img", "sd-1")]
] + [
    export(
        [
            invocation("m", "main_model_loader", model=MODEL),
            invocation("n", "noise", seed=1, width=64),
            invocation("l", "l2i"),
        ],
        [edge("m.vae → l.vae"), edge("n.noise → l.latents")],
    ),
    json.loads(PORTABLE.read_text(encoding="utf-8")),
]  # fmt: skip
OPENAPI: Any = {
    "components": {
        "schemas": {
            "AddInvocation": {
                "class": "invocation",
                "properties": {
                    "type": {"const": "add", "default": "add"},
                    "a": {"type": "integer", "default": 0, "input": "any", "minimum": 0},
                    "b": {"anyOf": [{"type": "number"}, {"type": "null"}], "ui_type": "Float"},
                },
                "required": ["a"],
                "output": {"$ref": "#/components/schemas/IntegerOutput"},
            },
            "IntegerOutput": {"class": "output", "properties": {"value": {"type": "integer"}}},
        }
    }
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything inside a JSON value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@st.composite
def spoiled(draw: st.DrawFn, documents: list[Any]) -> Any:
    """One of the documents with one to three things in it replaced by anything."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 3))):
        way = draw(st.sampled_from(list(places(document)) or [("nothing",)]))
        inner = document
        for key in way[:-1]:
            inner = inner[key]
        inner[way[-1]] = draw(JSON)
    return document


@given(spoiled(DOCUMENTS))
def test_a_spoiled_workflow_is_one_or_a_sentence(document: Any) -> None:
    try:
        workflow = workflow_from(document)
    except WorkflowError as error:
        told = str(error)
    else:
        find_roles(workflow.for_base("sd-1").graph, load_builtin_schemas())
        told = "a workflow"
    assert told


@given(content=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_file_is_a_workflow_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "anything.json"
    file.write_bytes(content)
    with pytest.raises(WorkflowError):  # nothing as small as this is one
        load_workflow(file)


@given(spoiled([OPENAPI]))
def test_a_spoiled_description_of_nodes_is_one_or_a_sentence(document: Any) -> None:
    try:
        found = len(read_openapi(document))
    except WorkflowError as error:
        found = len(str(error))
    assert found >= 0


@given(st.binary(max_size=200) | st.integers(1, 5_000).map(lambda deep: b"[" * deep + b"]" * deep))
def test_any_answer_is_json_or_a_value_error(data: bytes) -> None:
    try:
        found = untrusted_json.mapping(untrusted_json.parse(data))
    except ValueError:
        found = {}
    assert isinstance(found, dict)
