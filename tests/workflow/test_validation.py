from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import WorkflowError
from sweep.workflow.graph import Address, BoardRef, Edge, Graph, ImageRef, ModelRef, Node
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI, load_builtin_schemas
from sweep.workflow.node_schemas import FieldSchema
from sweep.workflow.validation import check_graph, check_value, describe_range, raise_for

template = INVOKEAI.template

SCHEMAS = load_builtin_schemas()
MAIN = ModelRef("tiny-sd", "sd-1")


def fault(address: str, value: Any) -> str | None:
    node, name = address.split(".")
    return check_value(SCHEMAS[node].fields[name], value)


@pytest.mark.parametrize(
    ("address", "value"),
    [
        ("denoise_latents.denoising_start", 0),
        ("denoise_latents.denoising_start", 1.0),
        ("denoise_latents.steps", 3.0),
        ("denoise_latents.cfg_scale", [7.5, 4]),
        ("denoise_latents.scheduler", "euler"),
        ("noise.seed", 4294967295),
        ("noise.width", 64),
        ("noise.use_cpu", False),
        ("flux_denoise.dype_scale", None),
        ("flux_text_encoder.t5_max_seq_len", 256),
        ("main_model_loader.model", MAIN),
        ("main_model_loader.model", ModelRef("unresolved", "")),
        ("main_model_loader.model", {"key": "a1"}),
        ("i2l.image", ImageRef("00")),
        ("i2l.image", {"image_name": "a.png"}),
        ("l2i.board", BoardRef("mine")),
        ("l2i.board", {"board_id": "1"}),
        ("image_batch.images", [ImageRef("00")]),
        ("call_saved_workflow.workflow_inputs", {}),
        ("blank_image.color", {"r": 1, "g": 2, "b": 3, "a": 255}),
    ],
)
def test_values_that_fit(address: str, value: Any) -> None:
    assert fault(address, value) is None


@pytest.mark.parametrize(
    ("address", "value", "sentence"),
    [
        ("denoise_latents.denoising_start", 1.5, "takes 0 to 1, not 1.5"),
        ("denoise_latents.denoising_start", "0.5", "takes numbers, not '0.5'"),
        ("denoise_latents.denoising_start", True, "takes numbers, not True"),
        ("denoise_latents.denoising_start", float("nan"), "takes numbers, not nan"),
        ("denoise_latents.cfg_scale", float("inf"), "takes numbers, not inf"),
        ("denoise_latents.steps", 0, "takes more than 0, not 0"),
        ("denoise_latents.steps", 2.5, "takes whole numbers, not 2.5"),
        ("denoise_latents.cfg_scale", [7.5, "a"], "takes numbers, not 'a'"),
        ("denoise_latents.scheduler", "eulr", "does not take 'eulr'. Did you mean euler?"),
        ("denoise_latents.scheduler", 3, "takes text, not 3"),
        ("denoise_latents.unet", {}, "takes no value, only an edge"),
        ("denoise_latents.steps", None, "needs a value"),
        ("noise.seed", -1, "takes 0 to 4294967295, not -1"),
        ("noise.width", 63, "takes multiples of 8, not 63 (nearest: 64)"),
        ("noise.use_cpu", 1, "takes true or false, not 1"),
        ("flux_text_encoder.t5_max_seq_len", 300, "does not take '300'. It takes 256, 512."),
        ("main_model_loader.model", "tiny-sd", "takes a model, not 'tiny-sd'"),
        ("main_model_loader.model", ModelRef("x", "sd-1", "lora"), "takes a main model; x is a lora"),
        ("main_model_loader.model", ModelRef("x", "sdxl"), "takes a model for sd-1 or sd-2; x is for sdxl"),
        ("i2l.image", "a.png", "takes an image, not 'a.png'"),
        ("l2i.board", 3, "takes a board, not 3"),
        ("image_batch.images", "a.png", "takes a list, not 'a.png'"),
        ("image_batch.images", ["a.png"], "takes an image, not 'a.png'"),
        ("blank_image.color", "red", "takes ColorField, not 'red'"),
    ],
)
def test_values_that_do_not_fit(address: str, value: Any, sentence: str) -> None:
    told = fault(address, value)
    assert told is not None
    assert told.startswith(sentence)


def test_ranges_in_words() -> None:
    assert describe_range(SCHEMAS["noise"].fields["seed"]) == "0 to 4294967295"
    assert describe_range(SCHEMAS["noise"].fields["width"]) == "more than 0, multiples of 8"
    assert describe_range(SCHEMAS["compel"].fields["prompt"]) == ""


@given(st.integers(-1000, 1000), st.integers(1, 64))
def test_multiples_are_exactly_the_multiples(value: int, step: int) -> None:
    schema = FieldSchema(name="x", type="integer", multiple_of=step)
    assert (check_value(schema, value) is None) == (value % step == 0)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-10, 10), st.floats(-10, 10))
def test_a_number_fits_between_its_bounds_and_only_there(value: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    schema = FieldSchema(name="x", type="number", minimum=low, maximum=high)
    assert (check_value(schema, value) is None) == (low <= value <= high)


def filled(graph: Graph) -> Graph:
    graph = graph.set({Address("model", "model"): MAIN})
    return graph.set({Address("source", "image"): ImageRef("00")}) if "source" in graph.nodes else graph


def test_a_whole_template_has_no_fault() -> None:
    assert check_graph(filled(template("img2img", "sd-1")), SCHEMAS) == []


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (
            Graph.of([Node("a", "noize", {}, "My noise")]),
            "My noise (a) is of type noize, which this server does not have",
        ),
        (Graph.of([Node("a", "noize")]), "Did you mean noise?"),
        (Graph.of([Node("a", "canny_image_processor")]), "Did you mean canny_edge_detection?"),
        (Graph.of([Node("a", "noise", {"sed": 1})]), "a (noise) has no field sed. Did you mean seed?"),
        (Graph.of([Node("a", "noise", {"width": 63})]), "a (noise): width takes multiples of 8"),
        (Graph.of([Node("a", "noise")], ["a.noise → b.noise"]), "there is no node 'b'"),
        (Graph.of([Node("a", "noise")], ["c.noise → a.seed"]), "there is no node 'c'"),
        (
            Graph.of([Node("a", "noise"), Node("b", "integer")], ["b.valeu → a.seed"]),
            "gives no valeu. Did you mean value?",
        ),
        (
            Graph.of([Node("a", "noise"), Node("b", "integer")], ["b.value → a.sed"]),
            "has no field sed. Did you mean seed?",
        ),
        (
            Graph.of([Node("a", "noise"), Node("b", "string")], ["b.value → a.seed"]),
            "b.value gives string, a.seed takes integer",
        ),
        (
            Graph.of([Node("a", "noise"), Node("b", "float")], ["b.value → a.seed"]),
            "b.value gives number, a.seed takes integer",
        ),
        (
            Graph.of([Node("a", "integer"), Node("b", "integer_collection")], ["a.value → b.collection"]),
            "takes a list of integer",
        ),
        (
            Graph.of([Node("a", "string_batch"), Node("b", "string")], ["b.value → a.batch_group_id"]),
            "takes a value, not an edge",
        ),
        (
            Graph.of(
                [Node("a", "noise"), Node("b", "integer"), Node("c", "integer")],
                ["b.value → a.seed", "c.value → a.seed"],
            ),
            "Two edges lead into a.seed: from b.value and from c.value",
        ),
        (Graph.of([Node("a", "add"), Node("b", "add")], ["a.value → b.a", "b.value → a.a"]), "in a circle: a → b → a"),
        (Graph.of([Node("a", "add")], ["a.value → a.a"]), "in a circle: a → a"),
        (Graph.of([Node("a", "main_model_loader")]), "a (main_model_loader) needs a value for model"),
        (Graph.of([Node("a", "l2i")]), "a (l2i) needs an edge into latents"),
    ],
)
def test_graphs_that_do_not_hold_together(graph: Graph, sentence: str) -> None:
    assert any(sentence in problem.message for problem in check_graph(graph, SCHEMAS))


@pytest.mark.parametrize(
    "edges",
    [
        ["i.value → f.a"],  # a whole number is a number
        ["i.value → s.value"],  # and a text
        ["i.value → c.item", "f.value → c.item"],  # a collection takes several, of any kind
        ["i.value → f.a", "i.value → f.a"],  # the same edge twice is one edge
        ["c.collection → it.collection", "it.item → f.a"],
    ],
)
def test_edges_that_servers_take(edges: list[str]) -> None:
    kinds = {"i": "integer", "f": "float_math", "s": "string", "c": "collect", "it": "iterate"}
    graph = Graph.of([Node(name, kind) for name, kind in kinds.items()], edges)
    assert check_graph(graph, SCHEMAS) == []


def test_metadata_takes_extra_fields_and_a_fed_field_needs_no_value() -> None:
    graph = Graph.of(
        [Node("m", "core_metadata", {"sweep": 1}), Node("a", "noise", {"seed": "stale"}), Node("i", "integer")],
        [Edge(Address("i", "value"), Address("a", "seed")), Edge(Address("i", "value"), Address("m", "more"))],
    )
    assert check_graph(graph, SCHEMAS) == []


def test_problems_become_one_error() -> None:
    graph = Graph.of([Node("a", "noize"), Node("b", "noize")])
    problems = [problem.message for problem in check_graph(graph, SCHEMAS)]
    with pytest.raises(WorkflowError, match=r"mine\.json: 2 problems") as raised:
        raise_for(problems, "mine.json")
    assert len(raised.value.problems) == 2
    with pytest.raises(WorkflowError, match=r"^mine\.json: a is of type"):
        raise_for(problems[:1], "mine.json")
    raise_for([], "mine.json")
