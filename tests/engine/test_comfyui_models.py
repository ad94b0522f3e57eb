"""Two ComfyUIs of which one lacks a model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from sweep.engine import events
from sweep.experiment import Experiment
from tests.support.engine_bench import Bench
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
