"""Optional metrics: ꟻLIP, and text alignment with a tiny model made here."""

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
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from sweep.errors import UsageError
from sweep.study.measuring.measurements import measure_now
from sweep.study.metrics.base import ImagePair
from sweep.study.metrics.learned_metrics import TextAlignment, load_tokenizer
from sweep.study.metrics.metric_lookup import list_standard, resolve_metrics
from sweep.testing import check_metric
from tests.support.study_images import decoded, photo, view

BUNDLED = Path(skimage.__file__).parent / "data"
EGYPTIAN_CAT, ESPRESSO = 285, 967  # of ImageNet's 1,000 classes


@pytest.mark.slow
def test_flip_keeps_the_contract_and_grows_along_a_blur_ladder() -> None:
    (metric,) = resolve_metrics(["flip"])
    sharp = photo(3, 192, 192)

    values = [metric.measure(view(sharp.filter(ImageFilter.GaussianBlur(r)), sharp)) for r in (0, 1, 2, 4, 8)]

    assert check_metric(metric) == []
    assert values[0] == 0.0
    assert values == sorted(values)
    assert values[1] < values[-1]


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
    table = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0.1, 0.1, 0.1], *[[0, 0, 0]] * 11], dtype=np.float32)
    look_up = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"], axis=0),
        helper.make_node("ReduceSum", ["each", "axis"], ["text_embeds"], keepdims=0),
    ]
    constants = [constant("table", table), constant("axis", np.array([1], dtype=np.int64))]
    onnx.save(projection("text", [tokens], look_up, "text_embeds", constants), folder / "onnx" / "text_model.onnx")
    words = [
        "<|startoftext|>",
        "<|endoftext|>",
        "red</w>",
        "blue</w>",
        "a</w>",
        *"rebl",
        "re",
        "bl",
        "d</w>",
        "e</w>",
        "ue</w>",
        "u",
    ]
    merges = [("r", "e"), ("re", "d</w>"), ("b", "l"), ("u", "e</w>"), ("bl", "ue</w>")]
    vocabulary = {word: number for number, word in enumerate(words)}
    made = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\p{L}]+"), behavior="removed", invert=True)
    made.save(str(folder / "tokenizer.json"))
    config = {"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "crop_size": {"height": 8, "width": 8}}
    (folder / "preprocessor_config.json").write_text(json.dumps(config), "utf-8")
    return folder


def test_text_alignment_tells_red_from_blue(clip_folder: Path) -> None:
    (metric,) = resolve_metrics([f"clip:{clip_folder}"])
    red = decoded(Image.new("RGB", (40, 24), (250, 10, 10)))

    fits, fits_not = (metric.measure(ImagePair(image=red, prompt=p)) for p in ("Red", "BLUE"))

    assert fits == pytest.approx(250 / math.hypot(250, 10, 10), abs=1e-3)
    assert fits_not < 0.1
    assert math.isnan(metric.measure(ImagePair(image=red, prompt="")))
    assert check_metric(metric) == []


@pytest.mark.slow
def test_text_alignment_is_a_column_in_worker_processes_too(results: Path, clip_folder: Path) -> None:
    table = measure_now(results, metrics=[f"clip:{clip_folder}"], workers=1)

    assert table["text_alignment"].between(-1, 1).all()


def save_model(folder: Path, inputs: list[str], nodes: list[Any]) -> Path:
    folder.mkdir()
    images = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in inputs]
    onnx.save(projection("model", images, nodes, "found", []), folder / "model.onnx")
    return folder


def test_learned_likeness_compares_an_image_with_its_source(results: Path, tmp_path: Path) -> None:
    """LPIPS as the mean square difference, DINO as the mean colour: what the adapters add is seen with any model."""
    square = helper.make_node("Mul", ["step", "step"], ["square"])
    mean = helper.make_node("ReduceMean", ["square"], ["found"], axes=[1, 2, 3], keepdims=1)
    distance = [helper.make_node("Sub", ["in0", "in1"], ["step"]), square, mean]
    lpips = save_model(tmp_path / "lpips", ["in0", "in1"], distance)
    colour = [helper.make_node("ReduceMean", ["pixel_values"], ["found"], axes=[2, 3], keepdims=0)]
    dino = save_model(tmp_path / "dino", ["pixel_values"], colour)
    black, white = (decoded(Image.new("RGB", (40, 24), (v, v, v))) for v in (0, 255))
    apart = ImagePair(image=black, reference=white)

    metrics = resolve_metrics([f"lpips:{lpips}", f"dino:{dino}"])

    assert [metric.name for metric in metrics] == ["lpips", "dino_likeness"]
    assert [metric.measure(apart) for metric in metrics] == [pytest.approx(4.0), pytest.approx(-1.0, abs=0.1)]
    assert [check_metric(metric) for metric in metrics] == [[], []]
    assert measure_now(results, metrics=metrics, workers=0)["lpips"].ge(0).all()
    with pytest.raises(UsageError, match=r"lacks model\.onnx"):
        resolve_metrics([f"dino:{tmp_path}"])


def test_distances_between_sets_are_refused_with_the_reason() -> None:
    for name in ("FID", "kid"):
        with pytest.raises(UsageError, match="sets of thousands of images"):
            resolve_metrics([name])


def test_every_summary_says_what_its_metric_does_not_see() -> None:
    for metric in (*list_standard(), *resolve_metrics(["flip"])):
        assert "does not see" in metric.summary, metric.name


def test_without_a_model_there_is_no_column(measured_results: Path) -> None:
    assert "text_alignment" not in measure_now(measured_results, workers=0)


@pytest.mark.parametrize(
    ("gone", "named"), [("tokenizer.json", "tokenizer.json"), ("onnx/text_model.onnx", "text_model.onnx")]
)
def test_an_incomplete_model_says_what_it_lacks(clip_folder: Path, gone: str, named: str) -> None:
    (clip_folder / gone).unlink()

    with pytest.raises(UsageError, match=rf"lacks {named}"):
        TextAlignment.load(clip_folder)


def test_another_model_is_another_version(clip_folder: Path) -> None:
    before = TextAlignment.load(clip_folder)
    path = clip_folder / "onnx" / "text_model.onnx"
    path.write_bytes(path.read_bytes() + b"\n")

    assert TextAlignment.load(clip_folder).version != before.version
    versions = []
    for weights in (b"1", b"2"):  # large models have them in a file of their own
        path.with_name("text_model.onnx.data").write_bytes(weights)
        versions.append(TextAlignment.load(clip_folder).version)
    assert versions[0] != versions[1]
    assert pickle.loads(pickle.dumps(before)) == before


def test_tokenizer_keeps_both_ends_and_at_most_77_tokens(clip_folder: Path) -> None:
    encode = load_tokenizer(clip_folder / "tokenizer.json")

    assert encode("  a RED,\n blue ") == [0, 4, 2, 3, 1]
    assert encode("") == [0, 1]
    assert len(encode("red " * 200)) == 77
    assert encode("日本語 🎨") == [0, 1]


def test_tokenizer_refuses_a_file_that_is_not_clips(clip_folder: Path) -> None:
    other = Tokenizer(models.BPE({"a": 0}, [])).to_str()
    for content in ("[1]", "{}", "no json", other):
        (clip_folder / "tokenizer.json").write_text(content, "utf-8")

        with pytest.raises(UsageError, match=r"tokenizer\.json"):
            load_tokenizer(clip_folder / "tokenizer.json")
