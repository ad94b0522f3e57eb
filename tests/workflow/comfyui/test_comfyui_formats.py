"""Editor exports: widgets by order, subgraphs, reroutes, primitives, muted and bypassed nodes."""

from __future__ import annotations

from typing import Any

import pytest

from sweep.errors import WorkflowError
from sweep.workflow import Address, Graph, ModelRef, load_core_schemas, read_object_info, workflow_from
from sweep.workflow.comfyui.comfyui_formats import read_drawing, read_prompt


def node(number: int, kind: str, widgets: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"id": number, "type": kind, "mode": 0, "widgets_values": widgets or [], "inputs": [], "outputs": [], **more}


def given(name: str, link: int | None, kind: str = "*") -> dict[str, Any]:
    return {"name": name, "type": kind, "link": link}


def read(nodes: list[dict[str, Any]], links: list[list[Any]], **more: Any) -> Graph:
    return read_drawing({"nodes": nodes, "links": links, **more}, "it", load_core_schemas()).graph


def edges_of(graph: Graph) -> list[str]:
    return [str(edge) for edge in graph.edges]


SAMPLING = [5, "randomize", 20, 8, "euler", "normal", 0.5]


def test_widgets_are_read_by_their_order_and_editor_buttons_skipped() -> None:
    graph = read([node(3, "KSampler", SAMPLING), node(4, "CheckpointLoaderSimple", ["a.ckpt"])], [])
    fields = graph.nodes["3"].fields
    assert (fields["seed"], fields["steps"], fields["cfg"], fields["denoise"]) == (5, 20, 8, 0.5)
    assert graph.nodes["4"].fields == {"ckpt_name": ModelRef("a.ckpt", "", "main")}
    image = read_drawing({"nodes": [node(1, "LoadImage", ["x.png", "image"])], "links": []}, "it", load_core_schemas())
    assert image.files == {Address("1", "image"): "x.png"}


def test_what_exists_in_the_editor_alone_is_followed() -> None:
    nodes = [
        node(1, "VAEDecode"),
        node(2, "Reroute", inputs=[given("", 1)]),
        node(3, "SaveImage", ["x"], inputs=[given("images", 2)]),
        node(4, "PrimitiveNode", [7, "fixed"]),
        node(5, "KSampler", SAMPLING, inputs=[given("seed", 3)]),
        node(6, "Note", ["text"]),
    ]
    graph = read(nodes, [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 3, 0, "IMAGE"], [3, 4, 0, 5, 0, "INT"]])
    assert edges_of(graph) == ["1.0 → 3.images"]
    assert graph.nodes["5"].fields["seed"] == 7
    assert set(graph.nodes) == {"1", "3", "5"}


def test_older_exports_say_yes_no_or_nothing_to_a_new_seed() -> None:
    for button in (True, None):  # null: of extensions that replace the button, as KSampler (Efficient) does
        old = [5, button, 20, 8, "euler", "normal", 0.5]
        assert read([node(3, "KSampler", old)], []) == read([node(3, "KSampler", SAMPLING)], [])


def test_a_muted_reroute_passes_on_as_the_editor_does() -> None:
    nodes = [node(1, "VAEDecode"), node(2, "Reroute", mode=2, inputs=[given("", 1)])]
    graph = read(
        [*nodes, node(3, "SaveImage", inputs=[given("images", 2)])], [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 3, 0, "*"]]
    )
    assert edges_of(graph) == ["1.0 → 3.images"]


def test_panels_of_extensions_are_no_nodes_of_the_graph() -> None:
    nodes = [
        node(1, "VAEDecode"),
        node(2, "Reroute (rgthree)", inputs=[given("", 1)]),
        node(3, "SaveImage", ["x"], inputs=[given("images", 2)]),
        node(4, "Fast Muter (rgthree)", inputs=[given("VAEDecode", 3)]),
        node(5, "Label (rgthree)"),
        node(6, "Some Panel"),
        node(7, "Custom Preview", inputs=[given("image", 4)]),
    ]
    links = [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 3, 0, "IMAGE"], [3, 1, 0, 4, 0, "*"], [4, 1, 0, 7, 0, "IMAGE"]]
    graph = read(nodes, links)
    assert edges_of(graph) == ["1.0 → 3.images", "1.0 → 7.image"]
    assert set(graph.nodes) == {"1", "3", "7"}


def test_a_bypassed_node_lets_through_and_a_muted_one_does_not() -> None:
    def save(mode: int) -> Graph:
        inverted = node(2, "ImageInvert", mode=mode, inputs=[given("image", 1, "IMAGE")], outputs=[{"type": "IMAGE"}])
        nodes = [node(1, "EmptyImage", [8, 8, 1, 0]), inverted, node(3, "SaveImage", inputs=[given("images", 2)])]
        return read(nodes, [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]])

    assert edges_of(save(0)) == ["1.0 → 2.image", "2.0 → 3.images"]
    assert edges_of(save(4)) == ["1.0 → 3.images"]
    assert edges_of(save(2)) == []


def test_subgraphs_are_unfolded_with_what_they_show_on_themselves() -> None:
    inner = {
        "id": "sub",
        "inputs": [{"name": "source"}, {"name": "prefix"}],
        "outputs": [{"name": "out"}],
        "nodes": [
            node(1, "ImageInvert", inputs=[given("image", 10)]),
            node(2, "ImageScale", ["lanczos", 64, 64, "disabled"], inputs=[given("image", 11)]),
        ],
        "links": [
            {"id": 10, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0},
            {"id": 11, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0},
            {"id": 12, "origin_id": 2, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
    }
    nodes = [
        node(5, "EmptyImage", [8, 8, 1, 0]),
        node(6, "sub", [128], inputs=[given("source", 1)], properties={"proxyWidgets": [["2", "width"]]}),
        node(7, "SaveImage", inputs=[given("images", 2)]),
    ]
    links = [[1, 5, 0, 6, 0, "IMAGE"], [2, 6, 0, 7, 0, "IMAGE"]]
    graph = read(nodes, links, definitions={"subgraphs": [inner]})
    assert edges_of(graph) == ["5.0 → 6:1.image", "6:1.0 → 6:2.image", "6:2.0 → 7.images"]
    assert (graph.nodes["6:2"].fields["width"], graph.nodes["6:2"].fields["height"]) == (128, 64)


def widget(name: str, link: int) -> dict[str, Any]:
    return {**given(name, link), "widget": {"name": name}}


def test_a_subgraph_shows_one_value_for_all_that_its_input_feeds() -> None:
    """Since 2026 the values stand in the order of the inputs that are widgets; before, the first inner one counts."""
    inner = {
        "id": "sub",
        "inputs": [
            {"name": "source", "linkIds": [10]},
            {"name": "side", "linkIds": [12, 11, 13]},
            {"name": "seed", "linkIds": [14]},
            {"name": "method", "linkIds": [15]},
        ],
        "nodes": [
            node(1, "ImageScale", ["lanczos", 64, 48, "disabled"])
            | {"inputs": [given("image", 10), widget("width", 11), widget("upscale_method", 15)]},
            node(2, "PreviewAny", inputs=[given("source", 12)]),
            node(3, "EmptyImage", [8, 8, 1, 0], inputs=[widget("height", 13)]),
            node(4, "KSampler", SAMPLING, inputs=[widget("seed", 14)]),
        ],
        "links": [
            {"id": number, "origin_id": -10, "origin_slot": slot, "target_id": target, "target_slot": place}
            for number, slot, target, place in (
                (10, 0, 1, 0),
                (11, 1, 1, 1),
                (12, 1, 2, 0),
                (13, 1, 3, 0),
                (14, 2, 4, 0),
                (15, 3, 1, 2),
            )
        ],
    }

    def sides(shown: list[Any], **more: Any) -> tuple[Any, ...]:
        nodes = [node(5, "EmptyImage", [8, 8, 1, 0]), node(6, "sub", shown, inputs=[given("source", 1)], **more)]
        graph = read(nodes, [[1, 5, 0, 6, 0, "IMAGE"]], definitions={"subgraphs": [inner]})
        scaled, preview, empty, sampler = (graph.nodes[f"6:{number}"].fields for number in (1, 2, 3, 4))
        sizes = (scaled["width"], scaled["height"], preview["source"], empty["height"])
        return (*sizes, sampler["seed"], scaled["upscale_method"])

    assert sides([]) == (64, 48, 64, 64, 5, "lanczos")
    assert sides([128, 7, "area"]) == (128, 48, 128, 128, 7, "area")
    assert sides([128, 7, "randomize", "area"]) == (128, 48, 128, 128, 7, "area")
    shown = {"proxyWidgets": [["1", "width"]]}
    assert sides([32], properties=shown) == (32, 48, 32, 32, 5, "lanczos")


@pytest.mark.parametrize("kind", ["workflow>Decode", "workflow/Decode"])
def test_a_group_of_nodes_says_what_to_do(kind: str) -> None:
    with pytest.raises(WorkflowError, match="Node 8 is a group, which only the editor can open") as refused:
        read([node(8, kind), node(9, "SaveImage")], [])
    assert "Export (API)" in str(refused.value.hint)
    assert read([node(8, kind, mode=2), node(9, "SaveImage")], []).nodes.keys() == {"9"}


def everywhere(links: list[dict[str, Any]] | None) -> dict[str, Any]:
    """An export of which Use Everywhere links model, text encoder and conditioning; link 99 is an old one of its."""
    sampler = [given("model", 99), given("positive", None), given("negative", None), given("latent_image", 1)]
    nodes = [
        node(4, "CheckpointLoaderSimple", ["a.ckpt"]),
        node(10, "Anything Everywhere", inputs=[given("anything", 2), given("anything2", None)]),
        node(11, "Prompts Everywhere", inputs=[given("+ve", None)]),
        node(6, "CLIPTextEncode", ["a cup"], inputs=[given("clip", None)]),
        node(5, "EmptyLatentImage", [64, 64, 1]),
        node(3, "KSampler", SAMPLING, inputs=sampler),
    ]
    extra = {} if links is None else {"ue_links": links}
    return {"nodes": nodes, "links": [[1, 5, 0, 3, 3, "LATENT"], [2, 4, 0, 10, 0, "MODEL"]], "extra": extra}


def test_links_of_use_everywhere_are_read_where_the_export_holds_them() -> None:
    ends = [(3, 0, "4", 0), (6, 0, "4", 1), (3, 1, "6", 0), (3, 2, "6", 0)]
    keys = ("downstream", "downstream_slot", "upstream", "upstream_slot")
    drawing = everywhere([dict(zip(keys, each, strict=True)) for each in ends])
    graph = read_drawing(drawing, "it", load_core_schemas()).graph
    assert set(graph.nodes) == {"3", "4", "5", "6"}
    links = ["4.1 → 6.clip", "4.0 → 3.model", "6.0 → 3.positive", "6.0 → 3.negative", "5.0 → 3.latent_image"]
    assert edges_of(graph) == links
    assert drawing == everywhere(drawing["extra"]["ue_links"])  # what was read is left as it was
    spread = {"class_type": "Anything Everywhere", "inputs": {"anything": ["1", 0]}}  # in images: their links are real
    prompt = {"1": {"class_type": "EmptyImage", "inputs": {"color": 0}}, "2": spread}
    assert set(workflow_from(prompt).graph.nodes) == {"1"}


def test_links_of_use_everywhere_that_the_export_lacks_say_what_to_do() -> None:
    with pytest.raises(
        WorkflowError, match="links of the extension Use Everywhere, and the file does not hold"
    ) as told:
        read_drawing(everywhere(None), "it", load_core_schemas())
    assert "real links" in str(told.value.hint)
    muted = everywhere(None)
    muted["nodes"] = [{**each, "mode": 2} if "Everywhere" in each["type"] else each for each in muted["nodes"]]
    assert "10" not in read_drawing(muted, "it", load_core_schemas()).graph.nodes


def test_an_unknown_node_stays_for_the_check_to_name() -> None:
    workflow = workflow_from({"nodes": [node(1, "Custom", [1])], "links": []})
    assert workflow.graph.nodes["1"].type == "Custom"


def test_a_link_from_a_node_that_is_missing_is_named() -> None:
    prompt = {"1": {"class_type": "SaveImage", "inputs": {"images": ["7", 0]}}}
    with pytest.raises(WorkflowError, match="there is no node '7'"):
        workflow_from(prompt)


def test_values_of_extensions_are_taken_for_no_button_and_no_link() -> None:
    described = {
        "Custom": {
            "input": {"required": {"seed": ["INT", {}], "tiled": ["BOOLEAN", {}], "size": ["RESOLUTION", {}]}},
            "output": [],
        }
    }
    schemas = read_object_info(described)
    drawing = {"nodes": [node(3, "Custom", [5, True])], "links": []}
    assert read_drawing(drawing, "it", schemas).graph.nodes["3"].fields == {"seed": 5, "tiled": True}
    prompt = {"3": {"class_type": "Custom", "inputs": {"seed": 5, "size": [512, 512]}}}
    assert read_prompt(prompt, "it", schemas).graph.nodes["3"].fields["size"] == [512, 512]
