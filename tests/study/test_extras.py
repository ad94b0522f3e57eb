"""Optional metrics: deep features, ꟻLIP, and text alignment with a tiny random model made here."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skimage
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageFilter

from sweep.errors import UsageError
from sweep.study.measuring.measure import measure_now
from sweep.study.metrics.clip import TextAlignment, Tokenizer, byte_letters
from sweep.study.metrics.features import WeightsError, classes, read_weights
from sweep.study.metrics.planes import ImagePair
from sweep.study.metrics.registry import resolve
from sweep.testing import check_metric
from tests.study.images import decoded, photo, view

BUNDLED = Path(skimage.__file__).parent / "data"
EGYPTIAN_CAT, ESPRESSO = 285, 967  # of ImageNet's 1,000 classes


@pytest.mark.parametrize(("name", "expected"), [("chelsea.png", EGYPTIAN_CAT), ("coffee.png", ESPRESSO)])
def test_the_network_is_put_together_as_it_was_trained(name: str, expected: int) -> None:
    with Image.open(BUNDLED / name) as image:
        found = classes(decoded(image))

    assert found.argmax() == expected
    assert found[expected] > 0.5


@pytest.mark.parametrize("name", ["features", "flip"])
def test_extras_keep_the_contract(name: str) -> None:
    (metric,) = resolve([name])

    assert check_metric(metric) == []


@pytest.mark.parametrize("name", ["features", "flip"])
def test_extras_grow_along_a_blur_ladder(name: str) -> None:
    (metric,) = resolve([name])
    sharp = photo(3, 192, 192)

    values = [metric.measure(view(sharp.filter(ImageFilter.GaussianBlur(r)), sharp)) for r in (0, 1, 2, 4, 8)]

    assert values[0] == 0.0
    assert values == sorted(values)
    assert values[1] < values[-1]


def test_two_cats_are_nearer_than_a_cat_and_a_cup() -> None:
    (metric,) = resolve(["features"])
    with Image.open(BUNDLED / "chelsea.png") as opened, Image.open(BUNDLED / "coffee.png") as other:
        cat, cup = opened.convert("RGB").resize((256, 256)), other.convert("RGB").resize((256, 256))

    mirrored = metric.measure(view(cat.transpose(Image.Transpose.FLIP_LEFT_RIGHT), cat))

    assert mirrored < metric.measure(view(cup, cat))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("owned",))


@pytest.mark.parametrize("content", [b"", b"not weights", pickle.dumps(Evil()), pickle.dumps(7), b"PK\x03\x04"])
def test_weights_that_are_none_are_refused(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)

    with pytest.raises(WeightsError, match=r"weights\.pth"):
        read_weights(path)
    assert "owned" not in capsys.readouterr().out


def projection(name: str, inputs: list[Any], nodes: list[Any], output: str, constants: list[Any]) -> Any:
    found = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, name, inputs, [found], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def constant(name: str, value: Any) -> Any:
    return numpy_helper.from_array(np.asarray(value), name)


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    """A model that knows one thing: "red" looks along the red channel, "blue" along the blue one."""
    folder = tmp_path / "tiny clip"
    (folder / "onnx").mkdir(parents=True)
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, 8, 8])
    means = [
        helper.make_node("ReduceMean", ["pixel_values"], ["image_embeds"], axes=[2, 3], keepdims=0),
    ]
    onnx.save(projection("vision", [pixels], means, "image_embeds", []), folder / "onnx" / "vision_model.onnx")
    tokens = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])
    table = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0.1, 0.1, 0.1]], dtype=np.float32)
    look_up = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"], axis=0),
        helper.make_node("ReduceSum", ["each", "axis"], ["text_embeds"], keepdims=0),
    ]
    constants = [constant("table", table), constant("axis", np.array([1], dtype=np.int64))]
    onnx.save(projection("text", [tokens], look_up, "text_embeds", constants), folder / "onnx" / "text_model.onnx")
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "red</w>": 2, "blue</w>": 3, "a</w>": 4}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\nb l\nu e</w>\nbl ue</w>\n", "utf-8")
    config = {"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "crop_size": {"height": 8, "width": 8}}
    (folder / "preprocessor_config.json").write_text(json.dumps(config), "utf-8")
    return folder


def test_text_alignment_tells_red_from_blue(clip_folder: Path) -> None:
    (metric,) = resolve([f"clip:{clip_folder}"])
    red = decoded(Image.new("RGB", (40, 24), (250, 10, 10)))

    fits, fits_not = (metric.measure(ImagePair(image=red, prompt=p)) for p in ("Red", "BLUE"))

    assert fits == pytest.approx(250 / math.hypot(250, 10, 10), abs=1e-3)
    assert fits_not < 0.1
    assert math.isnan(metric.measure(ImagePair(image=red, prompt="")))
    assert check_metric(metric) == []


def test_text_alignment_is_a_column_in_worker_processes_too(results: Path, clip_folder: Path) -> None:
    table = measure_now(results, metrics=[f"clip:{clip_folder}"], workers=1)

    assert table["text_alignment"].between(-1, 1).all()


def test_without_a_model_there_is_no_column(results: Path) -> None:
    assert "text_alignment" not in measure_now(results, workers=0)


@pytest.mark.parametrize("gone", ["vocab.json", "merges.txt", "onnx/text_model.onnx"])
def test_an_incomplete_model_says_what_it_lacks(clip_folder: Path, gone: str) -> None:
    (clip_folder / gone).unlink()

    with pytest.raises(UsageError, match=rf"lacks {Path(gone).name}"):
        TextAlignment.load(clip_folder)


def test_another_model_is_another_version(clip_folder: Path) -> None:
    before = TextAlignment.load(clip_folder)
    path = clip_folder / "onnx" / "text_model.onnx"
    path.write_bytes(path.read_bytes() + b"\n")

    assert TextAlignment.load(clip_folder).version != before.version
    assert pickle.loads(pickle.dumps(before)) == before


def test_tokens_are_merged_in_the_order_of_the_ranks(clip_folder: Path) -> None:
    tokenizer = Tokenizer.load(clip_folder / "vocab.json", clip_folder / "merges.txt")

    assert tokenizer.encode("  a RED,\n blue ") == [0, 4, 2, 3, 1]
    assert tokenizer._merged("redd") == ["re", "d", "d</w>"]
    assert tokenizer.encode("") == [0, 1]
    assert len(tokenizer.encode("red " * 200)) == 77
    assert tokenizer.encode("日本語 🎨") == [0, 1]


def test_every_byte_has_a_letter_of_its_own() -> None:
    assert len(set(byte_letters())) == 256
    assert byte_letters()[ord("a")] == "a"
    assert byte_letters()[ord(" ")] == "Ġ"


@pytest.mark.parametrize("content", ["[1]", "{}", "no json", '{"a": "b"}'])
def test_a_vocabulary_that_is_none_is_told(clip_folder: Path, content: str) -> None:
    (clip_folder / "vocab.json").write_text(content, "utf-8")

    with pytest.raises(UsageError, match=r"vocab\.json"):
        Tokenizer.load(clip_folder / "vocab.json", clip_folder / "merges.txt")
