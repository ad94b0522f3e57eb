"""Forecast of a run before it begins: how many points are new, how long they take, how much disk they need."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

from anyio.to_thread import run_sync

from sweep.engine.events import Listener
from sweep.engine.run_options import RunOptions
from sweep.engine.server_pool import (
    PooledServer,
    ask_or_drop,
    describe_server_shares,
    note_boards,
    open_servers,
    plan_jointly,
)
from sweep.errors import PlanError, Problem, TransientError, VariationError
from sweep.experiment import Experiment
from sweep.plan import Plan, list_own_images, make_plan
from sweep.record import Past, read_past
from sweep.servers import Server, ServerImage, ServerInfo
from sweep.workflow import Dialect, Graph, Model, NodeSchemas, load_builtin_schemas, make_readable

BYTES_PER_PIXEL: Final = 1.6  # RGB photographs as PNG take 1.3 to 2; used where no earlier image tells
FILE_OVERHEAD: Final = 13_000  # bytes of graph and metadata a server writes into each PNG
_OUTLIER: Final = 3.0  # times the median: the first render of a run loads the model, and is not typical


def estimate_run_seconds(points: int, earlier: Sequence[float], slots: int = 1) -> float | None:
    """Estimate the seconds that `points` variations take on `slots` generation devices; None where nothing was rendered
    before.

    The mean of the `earlier` seconds a render, each counted as three times their median at most.
    """
    typical = [seconds for seconds in earlier if seconds >= 0]
    if points <= 0:
        return 0.0
    if not typical:
        return None
    bound = _OUTLIER * median(typical)
    return points * fmean(min(seconds, bound) for seconds in typical) / max(slots, 1)


def estimate_disk_bytes(points: int, width: int, height: int, earlier: Sequence[tuple[int, int]] = ()) -> int:
    """Estimate the bytes that `points` images of this size take as PNG.

    `earlier` are (pixels, bytes of the file) of images already rendered: their ratio counts, if there are any.
    """
    pixels = sum(max(area, 0) for area, _ in earlier)
    content = sum(max(size - FILE_OVERHEAD, 0) for _, size in earlier)
    rate = content / pixels if pixels else BYTES_PER_PIXEL
    return round(max(points, 0) * (width * height * rate + FILE_OVERHEAD))


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The counts, time and disk space of a run to come. `done` and `failed` count points of the plan on record."""

    plan: Plan
    servers: tuple[ServerInfo, ...]
    done: int
    failed: int
    former: int  # completed points on record that the plan does not have
    renders: int  # earlier renders that the estimate is from
    seconds: float | None  # None where nothing was rendered before
    bytes: int
    pixels: int  # of one image
    provisional: tuple[str, ...]  # seed axes whose seeds are drawn by the first run
    shares: tuple[str, ...] = ()  # who renders what, a sentence for each server that does not render every point
    board_notes: tuple[str, ...] = ()  # boards that a server does not have yet

    @property
    def new(self) -> int:
        """Points a run would render."""
        return max(self.plan.most - self.done - self.failed, 0)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return sentences for the user, to be shown before the run."""
        return (*self.plan.notes, *self.board_notes)


async def make_forecast(
    experiment: Experiment,
    servers: Sequence[Server],
    results: Path,
    *,
    nodes: NodeSchemas | None = None,
    models: Sequence[Model] | None = (),
    listener: Listener = lambda _: None,
) -> Forecast:
    """Ask the servers for what they have, or take `nodes` and `models` where there are none; nothing is queued.

    The listener hears what is waited for, and which servers do not answer.

    Raises DefinitionError, ServerError, or RecordError where the results folder is damaged.
    """
    past = await run_sync(partial(read_past, results / experiment.name))
    drawn = {axis: past.seeds_for(axis, count) for axis, count in experiment.undrawn.items()}
    provisional = tuple(axis for axis in experiment.undrawn if len(past.seeds.get(axis, ())) < experiment.undrawn[axis])
    bound = experiment.with_seeds(drawn) if drawn else experiment
    infos: list[ServerInfo] = []
    shares: tuple[str, ...] = ()
    board_notes: list[str] = []
    async with AsyncExitStack() as held:
        if servers:
            options = RunOptions()
            pooled = await open_servers(held, servers, options, listener)
            plan, _ = await plan_jointly(bound, pooled, options)
            shares = await run_sync(describe_server_shares, plan, pooled)
            board_notes = await note_boards(bound, bound.board, pooled)
            infos = [each.info for each in pooled if each.left is None]
            await _require_own_images(plan, pooled, options)
        else:
            plan = await run_sync(make_plan, bound, nodes or load_builtin_schemas(), models)
    done, failed = await run_sync(_count_done, plan, past)
    new = max(plan.most - done - failed, 0)
    width, height = find_image_size(plan, past)
    return Forecast(
        plan=plan,
        done=done,
        failed=failed,
        former=past.completed - done,
        renders=len(past.seconds),
        seconds=estimate_run_seconds(new, past.seconds, max(1, sum(info.capacity for info in infos))),
        bytes=estimate_disk_bytes(new, width, height, past.sizes),
        pixels=width * height,
        provisional=provisional,
        servers=tuple(infos),
        shares=shares,
        board_notes=tuple(board_notes),
    )


async def _require_own_images(plan: Plan, servers: Sequence[PooledServer], options: RunOptions) -> None:
    """Raise PlanError for images that the workflow names and none of the servers has, as a run would."""
    graph = (await run_sync(lambda: plan.instance(plan.grid[0]))).graph
    asks = ((each, partial(list_lacking_images, each.server, graph, plan.schemas.dialect)) for each in servers)
    answers = [await ask_or_drop(each, ask, options, servers) for each, ask in asks]
    lacking = [answer for answer in answers if answer is not None]
    if lacking and all(lacking):
        problems = [Problem(message=make_readable(graph, f"workflow: {text}.")) for text in lacking[0]]
        raise PlanError.of(problems, plan.experiment.source or plan.experiment.name)


_ENOUGH_BYTES: Final = 100_000  # of an image, to know that the server has it


async def list_lacking_images(server: Server, graph: Graph, dialect: Dialect) -> list[str]:
    """List in words the images that a graph names itself and that an open server does not have."""
    lacking = []
    for address, name in list_own_images(graph, dialect):
        try:
            await server.fetch(ServerImage(name=name, node=address.node), _ENOUGH_BYTES)
        except TransientError as error:
            if error.kind != "ImageGone":
                raise
            lacking.append(f"{address.node}: the image {name} is not on the server; set inputs.image to a file")
        except VariationError:
            pass  # larger than any image of ours, but there
    return lacking


def _count_done(plan: Plan, past: Past) -> tuple[int, int]:
    """Return how many points of the plan are completed and failed on record; keys are computed where it changed."""
    if past.fingerprint == plan.fingerprint:
        return past.counts.completed, past.counts.failed
    states = past.count_states(key for _, key in plan.keys(range(len(plan))))
    return states["completed"], states["failed"]


def find_image_size(plan: Plan, past: Past) -> tuple[int, int]:
    """Return width and height of the images in pixels: as the graph says it, else as the source has it."""
    if past.pixels:
        return past.pixels, 1
    for node in plan.graph.nodes.values():
        width, height = node.fields.get("width"), node.fields.get("height")
        if isinstance(width, int) and isinstance(height, int):
            return width, height
    return next(((image.width, image.height) for image in plan.images.values()), (512, 512))


def encode_forecast(forecast: Forecast) -> dict[str, Any]:
    plan = forecast.plan
    order = plan.nesting
    return {
        "name": plan.experiment.name,
        "workflow": plan.experiment.workflow,
        "models": [model.name for model in plan.models],
        "axes": {axis.name: {"kind": axis.kind, "values": len(axis.levels)} for axis in plan.axes},
        "points": plan.most,
        "done": forecast.done,
        "failed": forecast.failed,
        "new": forecast.new,
        "former": forecast.former,
        "sets": list(plan.sets),
        "order": [axis.name for at in order.nesting for axis in plan.experiment.dimensions[at].axes],
        "model_loads": order.chosen.models,
        "model_loads_as_defined": order.definition.models,
        "seconds": forecast.seconds,
        "bytes": forecast.bytes,
        "servers": list(forecast.shares),
        "notes": list(forecast.notes),
    }
