from __future__ import annotations

import pytest

from sweep.errors import PlanError
from sweep.plan.model_finder import ModelFinder
from sweep.workflow import Model, ModelRef


def model(name: str, base: str = "sd-1", kind: str = "main") -> Model:
    return Model(key=f"key-{name}-{base}", hash="blake3:0", name=name, base=base, type=kind)


SEVERAL = ModelFinder.of(
    [
        model("dream"),
        model("dream", "sdxl"),
        model("real"),
        model("glow", kind="lora"),
        model("glow-xl", "sdxl", "lora"),
        model("universal", "any", "vae"),
    ]
)


def sentence(written: object, *types: str, base: str | None = None) -> str:
    with pytest.raises(PlanError) as error:
        SEVERAL.find(written, types or ("main",), base)
    return error.value.message


def test_the_only_main_model_needs_no_name() -> None:
    assert ModelFinder.of([model("tiny"), model("glow", kind="lora")]).find_only_main() == ModelRef(
        "tiny", "sd-1", "main"
    )


def test_several_main_models_are_listed_with_their_base_where_names_are_equal() -> None:
    with pytest.raises(PlanError, match=r"3 main models; name one: dream@sd-1, dream@sdxl, real\."):
        SEVERAL.find_only_main()


def test_a_server_without_models_says_so() -> None:
    with pytest.raises(PlanError, match="no main model"):
        ModelFinder.of([]).find_only_main()


@pytest.mark.parametrize("written", ["real", "real@sd-1", "key-real-sd-1", " real "])
def test_a_model_is_named_by_name_base_or_key(written: str) -> None:
    assert SEVERAL.find(written) == ModelRef("real", "sd-1", "main")


def test_an_ambiguous_name_is_settled_by_the_base() -> None:
    assert SEVERAL.find("dream@sdxl").base == "sdxl"
    assert SEVERAL.find("dream", base="sdxl").base == "sdxl"
    assert sentence("dream") == "dream names 2 models; write one of dream@sd-1, dream@sdxl."


def test_an_unknown_name_gets_the_nearest_or_the_list() -> None:
    assert sentence("reel") == "the server has no model named reel. Did you mean real?"
    assert sentence("zzz").endswith("It has dream@sd-1, dream@sdxl, real.")
    assert sentence("zzz", "controlnet").endswith("no other ControlNet either.")


def test_a_wrong_type_or_base_is_named() -> None:
    assert sentence("glow") == "glow is a LoRA, not a model."
    assert sentence("glow-xl", "lora", base="sd-1") == "glow-xl is made for sdxl; the model is sd-1."
    assert SEVERAL.find("universal", ("vae",), "sdxl").name == "universal"


@pytest.mark.parametrize("written", ["", "  ", 7, None, ["dream"]])
def test_what_is_no_name_is_refused(written: object) -> None:
    assert "takes the name of a model" in sentence(written)
