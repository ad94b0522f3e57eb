"""A real ComfyUI that dies at one seed, by a custom node: that point fails after its attempts, the others complete."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from sweep.cli import main as app
from sweep.record import RecordedResults
from tests.support.live_comfyui import LiveComfyUI

DEADLY = 3
NODE = f"""
import os, time

class DieAtSeed:
    CATEGORY = FUNCTION = "run"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {{"required": {{"image": ("IMAGE",), "seed": ("INT", {{"default": 0, "min": 0, "max": 99}})}}}}

    def run(self, image, seed):
        if seed == {DEADLY}:
            time.sleep(1)  # a submission whose answer is lost is no attempt: the answer is out by now
            os._exit(9)
        return (image,)

NODE_CLASS_MAPPINGS = {{"DieAtSeed": DieAtSeed}}
"""
GRAPH = {
    "plain": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 255}},
    "die": {"class_type": "DieAtSeed", "inputs": {"image": ["plain", 0], "seed": 0}},
    "out": {"class_type": "SaveImage", "inputs": {"images": ["die", 0]}},
}


def keep_up(server: LiveComfyUI, over: threading.Event, deaths: list[int]) -> None:
    """As a service manager does: start the server again whenever it is gone."""
    while not over.wait(0.1):
        if server.process is not None and (code := server.process.poll()) is not None:
            deaths.append(code)
            server.start()


@pytest.mark.full  # five starts of the server
def test_a_point_of_which_the_server_dies_fails_alone(other_comfyui: LiveComfyUI, tmp_path: Path) -> None:
    (other_comfyui.root / "custom_nodes" / "deadly.py").write_text(NODE, encoding="utf-8")
    other_comfyui.stop()
    other_comfyui.start()
    (tmp_path / "graph.json").write_text(json.dumps(GRAPH), encoding="utf-8")
    axes = {"die.seed": {"start": 0, "stop": 5, "step": 1}}
    definition = {"name": "deadly", "workflow": "graph.json", "axes": axes}
    (tmp_path / "deadly.yaml").write_text(json.dumps(definition), encoding="utf-8")
    over, deaths = threading.Event(), list[int]()
    keeper = threading.Thread(target=keep_up, args=(other_comfyui, over, deaths))
    keeper.start()
    try:
        where = ["--server", other_comfyui.url, "--results", str(tmp_path), "--no-report"]
        code = app.run_cli(["run", str(tmp_path / "deadly.yaml"), *where])
    finally:
        over.set()
        keeper.join()
    rows = list(RecordedResults.open(tmp_path / "deadly").rows())
    assert code == 1
    assert Counter(row["status"] for row in rows) == {"completed": 5, "failed": 1}
    assert [(row["die.seed"], row["attempts"]) for row in rows if row["status"] == "failed"] == [(DEADLY, 4)]
    assert deaths == [9] * 4
