"""Client and server killed while a real InvokeAI renders: every row, every file, one render a key."""

from __future__ import annotations

import random
import re
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.live_invokeai import LiveServer
from tests.support.processes import Bench, open_zygote

POINTS = 60
KILLS = ("client", "client", "server", "client", "client", "server", "client")
KEY = re.compile(r'"sweep_key": *"([0-9a-f]+)"')


def keys_of(server: LiveServer, status: str) -> Counter[str]:
    """How many items of this status there are by the key of what they render, by InvokeAI's own database."""
    with closing(sqlite3.connect(server.root / "databases" / "invokeai.db")) as db:
        rows = db.execute("SELECT session FROM session_queue WHERE status = ?", (status,)).fetchall()
    return Counter(key for (session,) in rows for key in KEY.findall(session)[:1])


@pytest.mark.timeout(1200)
def test_five_kills_of_the_client_and_two_of_the_server(own_live_server: LiveServer, tmp_path: Path) -> None:
    server, chance, cut_short = own_live_server, random.Random(7), Counter[str]()
    with open_zygote(tmp_path) as forks:
        bench = Bench(tmp_path / "a folder", forks)
        bench.definition = {
            "name": "killed",
            "workflow": "img2img",
            "inputs": {
                "image": "photo.png", "model": "tiny-sd", "prompt": "a cup", "steps": 4, "width": 64, "height": 64,
            },
            "axes": {"denoise_strength": [0.4, 0.7, 1.0], "seed": {"start": 1, "count": POINTS // 3}},
        }  # fmt: skip
        order = {
            "root": str(bench.folder),
            "definition": bench.definition,
            "servers": [server.url],
            "options": {"fuse": 1},
        }  # fmt: skip  one image an item: an item names one key
        client, _ = forks.start("client", first_word=True, **order)
        for victim in KILLS:
            time.sleep(chance.uniform(1.0, 4.0))
            if victim == "client":
                forks.signal(client, 9)
                assert forks.wait(client)[0] == -9, "it had ended before: too few points for so many kills"
                client, _ = forks.start("client", first_word=True, **order)
            else:
                server.kill()
                cut_short += keys_of(server, "in_progress")
                server.start()
        code, said = forks.wait(client)
        assert code == 0, (said, bench.log())
        assert bench.statuses() == {"completed": POINTS}
        assert bench.results.verify() == []
        rendered = keys_of(server, "completed")
        assert rendered.keys() == {row["key"] for row in bench.results.rows()}
        twice = {key for key, count in rendered.items() if count > 1}
        assert twice <= cut_short.keys(), (twice, cut_short)
        print(f"\n{sum(rendered.values())} renders, {len(twice)} twice, {sum(cut_short.values())} cut short")
