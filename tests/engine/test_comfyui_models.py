"""ComfyUIs with other models than the experiment names, and without what options of a run ask for."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sweep.engine import events, run
from sweep.errors import PlanError
from sweep.experiment import Experiment
from sweep.sandbox.running_sandbox import Sandbox
from sweep.servers import ConnectOptions, connect
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI
from sweep.workflow.invokeai.invokeai_formats import write_graph
from tests.support.engine_bench import AT_ONCE, Bench
from tests.support.fake_comfyui import fake_comfyui

GRAPH = {
    "model": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.ckpt"}},
    "a": {"class_type": "PaintedByModel", "inputs": {"model": ["model", 0], "color": 0}},
    "out": {"class_type": "SaveImage", "inputs": {"images": ["a", 0]}},
}


async def test_a_comfyui_that_lacks_a_model_is_told_without_a_base(tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "graph.json").write_text, json.dumps(GRAPH), encoding="utf-8")
    about = {"name": "small", "workflow": "graph.json", "axes": {"model.ckpt_name": ["a.ckpt", "b.ckpt"]}}
    experiment = await asyncio.to_thread(Experiment.from_dict, about, tmp_path)
    bench = Bench(tmp_path)
    async with fake_comfyui() as both, fake_comfyui() as one:
        both.renders, one.renders = True, True
        both.checkpoints, one.checkpoints = ["a.ckpt", "b.ckpt"], ["a.ckpt"]
        summary = await bench.run(experiment, both.url, one.url)

    assert summary.completed == 2
    notes = [event.message for event in bench.of(events.Notice)]
    assert f"{one.url.removeprefix('http://')} has no main model b.ckpt, so it renders 1 of 2 points." in notes


async def test_options_that_a_comfyui_has_no_use_for_are_noted(tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "graph.json").write_text, json.dumps(GRAPH), encoding="utf-8")
    about = {"name": "small", "workflow": "graph.json", "board": "cups", "axes": {"a.color": [1, 2]}}
    experiment = await asyncio.to_thread(Experiment.from_dict, about, tmp_path)
    bench = Bench(tmp_path)
    options = replace(AT_ONCE, intermediate=True, board="cups")
    async with fake_comfyui() as fake:
        fake.renders, fake.checkpoints = True, ["a.ckpt"]
        server = connect(fake.url, ConnectOptions(queue_id="mine"))
        await run(experiment, [server], options=options, results=tmp_path, listener=bench.told.append)
    notes = [event.message for event in bench.of(events.Notice)]
    assert f"{fake.url} is a ComfyUI, which has only one queue. --queue has no effect there." in notes
    gallery = f"{fake.url} is a ComfyUI, which has no boards, no gallery and no library."
    assert f"{gallery} board: and --intermediate have no effect there." in notes


async def test_a_workflow_of_one_family_is_rendered_on_its_servers_whichever_is_given_first(
    bench: Bench, sandbox: Sandbox
) -> None:
    document = await asyncio.to_thread(lambda: write_graph(INVOKEAI.template("txt2img", "sd-1"), str))
    await asyncio.to_thread((bench.root / "own.json").write_text, json.dumps(document), encoding="utf-8")
    inputs = {"prompt": "a cup", "steps": 2, "width": 64, "height": 64}
    axes = {"axes": {"seed": [1]}, "workflow": "own.json"}
    async with fake_comfyui() as other:
        summary = await bench.run(await bench.experiment(inputs=inputs, **axes), other.url, sandbox.url)
        assert (summary.completed, summary.failed) == (1, 0)
        wrong = await bench.experiment(name="wrong", inputs={**inputs, "scheduler": "none"}, **axes)
        with pytest.raises(PlanError, match=r"inputs\.scheduler"):  # not that the other server is of another family
            await bench.run(wrong, other.url, sandbox.url)
