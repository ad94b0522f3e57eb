"""An item with several outputs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from sweep.experiment import Experiment
from sweep.record import RecordedResults
from tests.support.engine_bench import Bench
from tests.support.fake_comfyui import fake_comfyui

GRAPH = {
    "a": {"class_type": "EmptyImage", "inputs": {"width": 8, "color": 0}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["a", 0]}},
    "23": {"class_type": "SaveImage", "inputs": {"images": ["a", 0]}},
}


async def test_images_of_several_outputs_stand_in_the_order_of_the_graph(tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "two.json").write_text, json.dumps(GRAPH), encoding="utf-8")
    about = {"name": "small", "workflow": "two.json", "axes": {"a.color": [1]}}
    experiment = await asyncio.to_thread(Experiment.from_dict, about, tmp_path)
    async with fake_comfyui() as fake:
        fake.renders = True
        await Bench(tmp_path).run(experiment, fake.url)

    table = await asyncio.to_thread(lambda: RecordedResults.open(tmp_path / "results" / "small").table())

    assert table["image_path"].tolist() == ["images/0000_color1.png", "images/0000_color1_2.png"]
