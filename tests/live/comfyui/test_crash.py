"""Exactly once, by the files on the server's disk: clients and servers are killed without a goodbye."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from tests.support.live_comfyui import LiveComfyUI
from tests.support.processes import Bench, open_zygote

POINTS = 60
KILLS = ("client", "client", "server") * 3  # one every six images


def finished(files: Iterable[Path]) -> Counter[str]:
    """How many of the files are whole images, by the key of what they show; a kill can leave half an image."""
    keys: Counter[str] = Counter()
    for path in files:
        try:
            with Image.open(path) as image:
                image.load()
                keys[json.loads(image.text["sweep"])["sweep_key"]] += 1  # type: ignore[attr-defined]
        except (OSError, SyntaxError, ValueError):
            continue
    return keys


def wait_for(server: LiveComfyUI, images: int) -> None:
    while len(server.saved) < images:
        time.sleep(0.02)


@pytest.mark.timeout(900, func_only=True)
def test_six_kills_of_the_client_and_three_of_the_server(other_comfyui: LiveComfyUI, tmp_path: Path) -> None:
    server = other_comfyui
    before = set(server.saved)
    with open_zygote(tmp_path) as forks:
        bench = Bench(tmp_path / "a folder", forks)
        bench.definition = {
            "name": "killed",
            "workflow": "img2img",
            "inputs": {
                "image": "photo.png", "model": "tiny-sd", "prompt": "a cup", "steps": 2, "width": 64, "height": 64,
            },
            "axes": {"denoise_strength": [0.4, 0.7, 1.0], "seed": {"start": 1, "count": POINTS // 3}},
        }  # fmt: skip
        order = {"root": str(bench.folder), "definition": bench.definition, "servers": [server.url]}
        client, _ = forks.start("client", first_word=True, **order)
        for number, victim in enumerate(KILLS, 1):
            wait_for(server, len(before) + 6 * number)
            if victim == "client":
                forks.signal(client, 9)
                assert forks.wait(client)[0] == -9, "it had ended before: too few points for so many kills"
                client, _ = forks.start("client", first_word=True, **order)
            else:
                server.kill()
                server.start()
        code, said = forks.wait(client)
        assert code == 0, (said, bench.log())
        assert bench.statuses() == {"completed": POINTS}
        assert bench.results.verify() == []
        assert finished(set(server.saved) - before) == Counter(row["key"] for row in bench.results.rows())
