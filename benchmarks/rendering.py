"""An experiment rendered by sweep as a measured client: what it took from the first submission to the last image."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio

from sweep.engine import RunOptions, events, run
from sweep.experiment import Experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """`seconds` and `cpu` from the first submission to the last image on record; `whole` with start and tables."""

    images: int
    seconds: float
    cpu: float
    whole: float
    folder: Path
    finished: tuple[float, ...] = ()  # seconds after the first submission, of each image

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


class _Stopwatch:
    def __init__(self) -> None:
        self.first: float | None = None
        self.first_cpu = self.last_cpu = 0.0
        self.finished: list[float] = []
        self.failures: list[str] = []

    def hear(self, event: events.Event) -> None:
        if isinstance(event, events.Submitted) and self.first is None:
            self.first, self.first_cpu = time.perf_counter(), time.process_time()
        elif isinstance(event, events.Completed):
            self.finished.append(time.perf_counter())
            self.last_cpu = time.process_time()
        elif isinstance(event, events.Failed):
            self.failures.append(event.error)


def definition(name: str, seeds: int, **inputs: Any) -> dict[str, Any]:
    """`seeds` images from text alone, as cheap for a server as they can be."""
    chosen = {"prompt": "a cup of coffee", "steps": 1, "width": 64, "height": 64, **inputs}
    return {
        "name": name,
        "workflow": "txt2img",
        "inputs": chosen,
        "axes": {"seed": {"start": 1, "count": seeds}},
    }


def render(
    asked: Mapping[str, Any],
    servers: Sequence[str],
    root: Path,
    options: Mapping[str, Any] | None = None,
    loop: str = "asyncio",
) -> Rendered:
    """Render an experiment to its end. Raises RuntimeError where a point failed."""
    experiment = Experiment.from_dict(dict(asked), root)
    watch = _Stopwatch()
    chosen = replace(RunOptions(fuse=1), **(options or {}))  # one an item, unless what is measured is fusing

    async def go() -> Path:
        summary = await run(experiment, list(servers), options=chosen, results=root / "results", listener=watch.hear)
        return summary.folder

    begun = time.perf_counter()
    folder = anyio.run(go, backend_options={"use_uvloop": loop == "uvloop"})
    if watch.failures or watch.first is None:
        raise RuntimeError(f"{len(watch.failures)} points failed: {watch.failures[:1]}")
    return Rendered(
        images=len(watch.finished),
        seconds=watch.finished[-1] - watch.first,
        cpu=watch.last_cpu - watch.first_cpu,
        whole=time.perf_counter() - begun,
        folder=folder,
        finished=tuple(at - watch.first for at in watch.finished),
    )
