from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from sweep.errors import WorkflowError
from sweep.workflow.graph import Address, ModelRef, Workflow
from sweep.workflow.workflow_file import load_workflow, workflow_from
from tests.support.workflow_exports import MODEL, edge, export, invocation, text_to_image

GRAPH: dict[str, Any] = {
    "id": "g",
    "nodes": {
        "m": {"id": "m", "type": "main_model_loader", "model": MODEL},
        "z": {"id": "z", "type": "noise", "seed": 7, "width": 64, "height": 64, "use_cache": True},
        "d": {"type": "denoise_latents", "steps": 3, "unet": None, "noise": {"latents_name": "stale"}},
    },
    "edges": [
        {"source": {"node_id": "m", "field": "unet"}, "destination": {"node_id": "d", "field": "unet"}},
        {"source": {"node_id": "z", "field": "noise"}, "destination": {"node_id": "d", "field": "noise"}},
        {"source": {"node_id": "z", "field": "noise"}, "destination": {"node_id": "d", "field": "noise"}},
    ],
}


def refusal(path: Path) -> str:
    with pytest.raises(WorkflowError) as raised:
        load_workflow(path)
    assert "\n" not in raised.value.message
    assert path.name in raised.value.message
    return str(raised.value)


def png(path: Path, **texts: str) -> Path:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text) if not text.isascii() else info.add_text(key, text)
    Image.new("RGB", (8, 8), "teal").save(path, pnginfo=info)
    return path


def check_graph_read(workflow: Workflow) -> None:
    assert workflow.kind == "api"
    assert workflow.graph.nodes["m"].fields == {"model": ModelRef("tiny-sd", "sd-1")}
    assert workflow.graph.nodes["z"].fields == {"seed": 7, "width": 64, "height": 64, "use_cache": True}
    assert workflow.graph.nodes["d"].fields == {"steps": 3}
    assert [str(e) for e in workflow.graph.edges] == ["m.unet → d.unet", "z.noise → d.noise"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda graph: graph,
        lambda graph: {"graph": graph},
        lambda graph: {"prepend": False, "batch": {"graph": graph, "runs": 1}},
        lambda graph: {"item_id": 3, "session": {"id": "s", "graph": graph, "results": {}}},
        lambda graph: {"workflow": None, "graph": json.dumps(graph)},
    ],
)
def test_api_graphs_however_they_are_wrapped(tmp_path: Path, wrap: Any) -> None:
    path = tmp_path / "my graph.json"
    path.write_text(json.dumps(wrap(GRAPH)), "utf-8-sig")
    workflow = load_workflow(path)
    check_graph_read(workflow)
    assert workflow.name == "my graph"
    assert workflow.for_base("sdxl") is workflow


def test_models_keep_their_names_and_images_of_a_server_stay_as_they_are() -> None:
    document = {
        "nodes": {
            "a": {
                "type": "custom_thing",
                "loras": [{"lora": {**MODEL, "type": "lora"}, "weight": 0.5}],
                "old": {"model_name": "sd15", "base_model": "sd-1", "model_type": "vae"},
                "part": {**MODEL, "submodel_type": "unet"},
                "image": {"image_name": "x.png"},
                "none": None,
            }
        }
    }
    assert workflow_from(document).graph.nodes["a"].fields == {
        "loras": [{"lora": ModelRef("tiny-sd", "sd-1", "lora"), "weight": 0.5}],
        "old": ModelRef("sd15", "sd-1", "vae"),
        "part": {**MODEL, "submodel_type": "unet"},
        "image": {"image_name": "x.png"},
    }


def test_the_data_of_a_batch_are_axes() -> None:
    data = [
        [
            {"node_path": "z", "field_name": "seed", "items": [1, 2]},
            {"node_path": "d", "field_name": "steps", "items": [3, 4]},
        ],
        [{"node_path": "z", "field_name": "width", "items": [64, 72, 80]}],
    ]
    axes = workflow_from({"batch": {"graph": GRAPH, "data": data}}).batch_axes
    assert [(axis.name, axis.values) for axis in axes] == [
        ("z.seed", (1, 2)),
        ("d.steps", (3, 4)),
        ("z.width", (64, 72, 80)),
    ]
    assert axes[0].group == axes[1].group != ""
    assert axes[2].group == ""
    with pytest.raises(WorkflowError, match="no node 'zz'"):
        workflow_from({"batch": {"graph": GRAPH, "data": [[{"node_path": "zz", "field_name": "seed", "items": [1]}]]}})


def test_an_image_gives_the_graph_it_was_made_with(tmp_path: Path) -> None:
    check_graph_read(load_workflow(png(tmp_path / "a.png", invokeai_graph=json.dumps(GRAPH))))


def test_an_image_gives_the_editors_workflow_where_it_has_nothing_else(tmp_path: Path) -> None:
    workflow = load_workflow(png(tmp_path / "a.png", invokeai_workflow=json.dumps(text_to_image())))
    assert workflow.kind == "editor"
    assert workflow.name == "My workflow"


def test_an_image_with_both_gives_the_rendered_values_and_the_authors_names(tmp_path: Path) -> None:
    drawn = export([invocation("z", "noise", "Grain", seed=1), invocation("gone", "string", value="é")], [])
    drawn["exposedFields"] = [{"nodeId": "z", "fieldName": "seed"}, {"nodeId": "gone", "fieldName": "value"}]
    workflow = load_workflow(
        png(
            tmp_path / "a.png",
            invokeai_graph=json.dumps(GRAPH),
            invokeai_workflow=json.dumps(drawn, ensure_ascii=False),
        )
    )
    assert workflow.graph.nodes["z"].fields["seed"] == 7
    assert workflow.graph.nodes["z"].label == "Grain"
    assert workflow.exposed == (Address("z", "seed"),)
    assert workflow.name == "My workflow"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"{nodes: 1}", "is not JSON: Expecting property name enclosed in double quotes in line 1, column 2"),
        (b'{"nodes": ', "is not JSON: Expecting value in line 1, column 11"),
        (b'{"a": NaN}', "is not JSON: NaN is not a number"),
        (b"\xff\xfe\x00", "is not a text file"),
        (b"[1]", "is not a workflow; it is a list"),
        (b'"x"', "is not a workflow; it is a text"),
        (b"null", "is not a workflow; it is null"),
        (b"3", "is not a workflow; it is a number"),
        (b"{}", "is not a workflow; it has no nodes"),
        (b'{"nodes": {}}', "is not a workflow; it has no nodes"),
        (b'{"nodes": []}', "is not a workflow; it has no nodes"),
        (b'{"nodes": 3}', "is not a workflow; it has no nodes"),
        (b"[" * 100_000 + b"]" * 100_000, "is nested too deep to be a workflow"),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, "is nested too deep to be a workflow"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "is nested too deep to be a workflow"),
        (b'{"nodes": {"a": {"id": "a"}}}', "Node a has no type"),
        (b'{"nodes": {"a": 3}}', "Node a has no type"),
        (b'{"nodes": {"a": {"id": "b", "type": "noise"}}}', "Node a calls itself 'b'"),
        (b'{"nodes": {"a": {"type": "noise"}}, "edges": [{"source": "a"}]}', "An edge has no source and destination"),
        (b'{"graph": "{"}', "is not JSON"),
        (b"\xff\xd8\xff\xe0 jpeg", "is an image; only PNG files contain a workflow"),
        (b"\x89PNG\r\n\x1a\n and nothing", "is a damaged PNG"),
    ],
)
def test_what_is_no_workflow_gets_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "bad file.json"
    path.write_bytes(content)
    assert sentence in refusal(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(tmp_path / "not there.json")
    assert "cannot be read" in refusal(tmp_path)


def test_an_image_may_hold_constants_that_are_no_json(tmp_path: Path) -> None:
    prompt = {"1": {"class_type": "EmptyImage", "inputs": {"width": 64}, "is_changed": [float("nan")]}}
    workflow = load_workflow(png(tmp_path / "a.png", prompt=json.dumps(prompt)))
    assert workflow.graph.nodes["1"].fields == {"width": 64}


def test_an_image_of_too_many_pixels_gets_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = png(tmp_path / "a.png", invokeai_graph=json.dumps(GRAPH))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)  # a warning for these 64
    check_graph_read(load_workflow(path))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    assert "has too many pixels to be read" in refusal(path)


def test_an_image_without_a_workflow(tmp_path: Path) -> None:
    assert "contains no workflow" in refusal(png(tmp_path / "a.png", invokeai_metadata="{}"))
    assert "the graph in a.png is not JSON" in refusal(png(tmp_path / "a.png", invokeai_graph="{"))


@pytest.mark.parametrize(
    ("edges", "sentence"),
    [
        ([("m.unet", "x.unet")], "Edge m.unet → x.unet: there is no node 'x'"),
        ([("x.unet", "d.unet")], "there is no node 'x'"),
        ([("m.unet", "d.unet"), ("z.noise", "d.unet")], "Two edges lead into d.unet: from m.unet and from z.noise"),
        ([("z.noise", "d.noise"), ("d.latents", "z.seed")], "feed each other in a circle: z → d → z"),
    ],
)
def test_edges_that_cannot_be(edges: list[tuple[str, str]], sentence: str) -> None:
    def end(text: str) -> dict[str, str]:
        node, field = text.split(".")
        return {"node_id": node, "field": field}

    document = {**GRAPH, "edges": [{"source": end(a), "destination": end(b)} for a, b in edges]}
    with pytest.raises(WorkflowError) as raised:
        workflow_from(document, "mine.json")
    assert sentence in str(raised.value)
    drawn = export(
        [invocation(name, node["type"]) for name, node in GRAPH["nodes"].items()],
        [edge(f"{a} → {b}") for a, b in edges],
    )
    with pytest.raises(WorkflowError) as raised:
        workflow_from(drawn, "mine.json")
    assert sentence in str(raised.value)


def test_several_faults_are_told_at_once() -> None:
    with pytest.raises(WorkflowError, match=r"mine\.json: 2 problems"):
        workflow_from({"nodes": {"a": {}, "b": {}}}, "mine.json")
