"""A sandbox, an experiment and a run for the engine's end-to-end tests: real sockets, real files, real SQLite."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
from PIL import Image

from sweep.engine import RunOptions, RunSummary, Stop, events, run
from sweep.engine.run_options import Backoff
from sweep.experiment import Experiment
from sweep.servers import ConnectOptions, connect
from sweep.servers.http import Timings

AT_ONCE = RunOptions(backoff=Backoff(base=0), takeover_after=0)  # no waiting between attempts, nor for servers
ONE_BY_ONE = replace(AT_ONCE, concurrency=1, downloads=1, fuse=1)
MOST_OPEN = 2 + 4  # variations under way at once with it: two for each slot at a server, four for each download
QUICK = Timings(
    retry=0.01, poll_listening=0.15, poll_deaf=0.05, reconnect=0.05, reconnect_most=0.2, patience=0.3, gone=0.3
)


class Bench:
    """Runs experiments in one results root and keeps what the run told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.told: list[events.Event] = []
        self._watch: events.Listener = lambda _: None

    def watch(self, listener: events.Listener) -> None:
        """Have `listener` told, too, from now on."""
        self._watch = listener

    def _tell(self, event: events.Event) -> None:
        self.told.append(event)
        self._watch(event)

    async def experiment(self, **changes: Any) -> Experiment:
        """Six points over a small photograph: 3 strengths × 2 seeds."""
        definition: dict[str, Any] = {
            "name": "small",
            "workflow": "img2img",
            "inputs": {"image": "photo.png", "prompt": "a cup", "steps": 4, "width": 64, "height": 64},
            "axes": {"denoise_strength": [0.2, 0.5, 0.8], "seed": {"start": 42, "count": 2}},
        }
        for path, value in changes.items():
            place = definition
            *parents, last = path.split("__")
            for parent in parents:
                place = place[parent]
            place[last] = value
        return await anyio.to_thread.run_sync(Experiment.from_dict, definition, self.root)

    async def run(
        self,
        experiment: Experiment,
        *servers: str,
        options: RunOptions = AT_ONCE,
        stop: Stop | None = None,
        timings: Timings = QUICK,
    ) -> RunSummary:
        """One run, everything it tells appended to `told`."""
        clients = [connect(url, ConnectOptions(timings=timings)) for url in servers]
        return await run(
            experiment, clients, options=options, results=self.root / "results", listener=self._tell, stop=stop
        )

    def quick(self, **changes: float) -> Timings:
        """The timings of tests, some of them changed."""
        return replace(QUICK, **changes)

    def of(self, kind: type[object]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.told if isinstance(event, kind)]


def chunks(path: Path) -> Mapping[str, Any]:
    """The JSON of a PNG's text chunks."""
    with Image.open(path) as image:
        return {name: json.loads(text) for name, text in image.text.items()}  # type: ignore[attr-defined]
