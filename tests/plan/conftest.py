from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from PIL import Image

from sweep.errors import PlanError
from sweep.experiment import Experiment
from sweep.plan.plan import Plan
from sweep.plan.planner import make_plan
from sweep.workflow import Graph, Model, ModelRef, load_builtin_schemas, write_graph

Plans: TypeAlias = Callable[..., Plan]


def model(name: str, base: str = "sd-1", kind: str = "main") -> Model:
    return Model(key=f"key-{name}", hash="blake3:0", name=name, base=base, type=kind)


MODELS = (
    model("small"),
    model("other"),
    model("large", "sdxl"),
    model("glow", kind="lora"),
    model("ink", kind="lora"),
    model("glow-xl", "sdxl", "lora"),
    model("canny", kind="controlnet"),
    model("canny-xl", "sdxl", "controlnet"),
    model("sharp", kind="vae"),
)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wide.png (104 × 66) and tall.png (64 × 128)."""
    folder = tmp_path_factory.mktemp("images of ours")
    Image.new("RGB", (104, 66), (200, 120, 40)).save(folder / "wide.png")
    Image.new("RGB", (64, 128), (20, 120, 240)).save(folder / "tall.png")
    return folder


@pytest.fixture
def experiment(images: Path) -> Callable[..., Experiment]:
    def make(workflow: str = "txt2img", **sections: Any) -> Experiment:
        data: dict[str, Any] = {"name": "trial", "workflow": workflow, **sections}
        if workflow in ("txt2img", "img2img", "lora", "controlnet"):
            data["inputs"] = {"model": "small", **data.get("inputs", {})}
        if "axes" in data and "model" in data["axes"]:
            data["inputs"].pop("model", None)
        return Experiment.from_dict(data, folder=images)

    return make


@pytest.fixture
def plans(experiment: Callable[..., Experiment]) -> Plans:
    def make(workflow: str = "txt2img", **sections: Any) -> Plan:
        return make_plan(experiment(workflow, **sections), load_builtin_schemas(), MODELS)

    return make


@pytest.fixture
def refusal(plans: Plans) -> Callable[..., list[str]]:
    """The sentences of the PlanError an experiment ends in."""

    def make(workflow: str = "txt2img", **sections: Any) -> list[str]:
        with pytest.raises(PlanError) as error:
            plans(workflow, **sections)
        return [problem.message for problem in error.value.problems] or [str(error.value)]

    return make


def fields(plan: Plan, index: int, node: str) -> Mapping[str, Any]:
    return plan.instance(plan.grid[index]).graph.nodes[node].fields


def as_api(graph: Graph) -> dict[str, Any]:
    """As a server would have it: with keys of some installation."""

    def key(ref: object) -> Any:
        if isinstance(ref, ModelRef):
            return {"key": f"key-{ref.name}", "hash": "blake3:0", "name": ref.name, "base": ref.base, "type": ref.type}
        return {"image_name": str(ref)}

    return write_graph(graph, key)
