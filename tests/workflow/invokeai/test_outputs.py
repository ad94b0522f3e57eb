from __future__ import annotations

import pytest

from sweep.workflow.graph import Graph, Node, prune
from sweep.workflow.invokeai.invokeai_dialect import load_builtin_schemas
from tests.support.graphs import output_nodes

HIDDEN = {"is_intermediate": True}


@pytest.mark.parametrize(
    ("graph", "outputs"),
    [
        (Graph.of([Node("i", "integer")]), ()),
        (Graph.of([Node("p", "image")]), ()),
        (Graph.of([Node("a", "l2i"), Node("b", "l2i")]), ("a", "b")),
        (Graph.of([Node("a", "l2i"), Node("s", "save_image")], ["a.image → s.image"]), ("s",)),
        (
            Graph.of(
                [Node("a", "l2i"), Node("e", "i2l"), Node("b", "l2i")], ["a.image → e.image", "e.latents → b.latents"]
            ),
            ("b",),
        ),
        (Graph.of([Node("a", "l2i", HIDDEN), Node("b", "l2i")]), ("b",)),
        (Graph.of([Node("a", "l2i", HIDDEN), Node("b", "l2i", HIDDEN)]), ("a", "b")),
        (
            Graph.of(
                [Node("a", "l2i"), Node("c", "core_metadata"), Node("b", "l2i")],
                ["a.width → c.width", "c.metadata → b.metadata"],
            ),
            ("a", "b"),
        ),
        (Graph.of([Node("f", "video_frame_extract"), Node("v", "video_concat")], ["f.image → v.videos"]), ()),
        (Graph.of([Node("g", "openai_image_generation")]), ("g",)),
        (Graph.of([Node("f", "face_off")]), ("f",)),
        (Graph.of([Node("x", "of_a_custom_pack")]), ()),
    ],
)
def test_final_images(graph: Graph, outputs: tuple[str, ...]) -> None:
    assert output_nodes(graph, load_builtin_schemas()) == outputs


def test_pruning_keeps_all_that_leads_to_the_outputs_metadata_too() -> None:
    graph = Graph.of(
        [Node("a", "blank_image"), Node("m", "core_metadata"), Node("r", "rand_int"), Node("l", "string")],
        ["m.metadata → a.metadata", "a.width → l.value"],
    )
    kept = prune(graph, ("a",))
    assert list(kept.nodes) == ["a", "m"]
    assert [str(edge) for edge in kept.edges] == ["m.metadata → a.metadata"]
