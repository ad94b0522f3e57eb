"""One workflow, rendered once: what a script calls that wants pictures and no experiment file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from sweep.engine.options import RunOptions
from sweep.engine.runner import run
from sweep.errors import SweepError, VariationError
from sweep.record.table import Results

if TYPE_CHECKING:
    from sweep.servers.base import Server

_AGAIN: Final = RunOptions(retry_failed=True)


async def render(
    workflow: str | Path,
    inputs: Mapping[str, Any] | None = None,
    *,
    server: Server | str,
    results: Path = Path("results"),
    name: str = "once",
    options: RunOptions = _AGAIN,
) -> tuple[Path, ...]:
    """Render `workflow` (a template's name, or the path of a file) with these `inputs` (roles or node.field addresses)
    on `server`, wait for it, and give the pictures' files, in the order of the output nodes.

    They lie in `results/name`, as those of a run do. The same call again renders nothing and gives the same files.
    Relative paths start from the working directory. Bound the waiting with `asyncio.timeout`: the item then stays on
    the server, and the same call later takes it up where it is.

    Raises DefinitionError before anything is sent (a strength of 1.5, a model the server lacks), ServerError where the
    server cannot be used, VariationError where the picture cannot be rendered, RecordError for `results`.
    """
    from sweep.experiment.definition import Experiment

    wanted = {"name": name, "workflow": str(workflow), "inputs": dict(inputs or {})}
    experiment = await anyio.to_thread.run_sync(Experiment.from_dict, wanted)
    summary = await run(experiment, [server], options=options, results=results)
    if summary.error is not None:
        raise summary.error
    return await anyio.to_thread.run_sync(_pictures, summary.folder)


def _pictures(folder: Path) -> tuple[Path, ...]:
    rows = list(Results.open(folder).rows())
    for row in rows:
        if row["status"] == "failed":
            raise VariationError(str(row["error"]))
    found = tuple(folder / str(row["image_path"]) for row in rows if row["image_path"])
    if not found:
        raise SweepError("The run ended before the picture was rendered.", hint="The same call again goes on with it.")
    return found
