"""A process with everything imported, that forks clients and sandboxes: real processes to kill, started in no time.

It reads requests as JSON lines and answers each with one. `start` forks a child and tells its pid and its first word
(a sandbox's address); `wait` gives a child's end: the number of the signal, or its exit code and its last words.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from sweep.engine import RunOptions, Stop, events, run
from sweep.engine.run_options import Backoff
from sweep.errors import SweepError
from sweep.experiment import Experiment
from sweep.record import Checkpoint, FolderLock, RecordedResults, SqliteJournal, list_damaged_keys, merge_results
from sweep.sandbox import FaultInjection, SandboxOptions, serve_sandbox
from sweep.servers import ConnectOptions, InvokeAI, ServerImage, connect
from sweep.servers.base import Saved
from sweep.servers.http import Timings
from sweep.study import choose_next_points

QUICK = Timings(
    connect=2, read=5, retry=0.02, poll_listening=0.4, poll_deaf=0.05, reconnect=0.05, reconnect_most=0.2, gone=0.3
)
BACKOFF = Backoff(base=0.05, cap=0.3)


def deadly(point: str, nth: int) -> Checkpoint:
    """Kills this process when it comes to `point` for the nth time."""
    seen = 0

    def checkpoint(name: str) -> None:
        nonlocal seen
        seen += name == point
        if name == point and seen == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint


class SharingInvokeAI(InvokeAI):
    """Writes images as an agent on another host of the same file system does."""

    results = Path("shared")

    async def save(self, image: ServerImage, limit: int, write: Callable[[bytes], Saved]) -> Saved:
        sent: Callable[[bytes], Saved] = pickle.loads(pickle.dumps(write))
        return await anyio.to_thread.run_sync(sent, await self.fetch(image, limit))


def client(order: dict[str, Any], tell: Any) -> int:
    """Run an experiment against servers; the exit code of `sweep run`."""
    root = Path(order["root"])
    stop = Stop()
    if "largest_file" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"], order["largest_file"]))

    def listener(event: events.Event) -> None:
        if order.get("stop_at") == type(event).__name__:
            stop.request(2)
        if isinstance(event, events.RunStarted):
            tell("begun")

    async def main() -> int:
        experiment = await anyio.to_thread.run_sync(Experiment.from_dict, order["definition"], root)
        timings = replace(QUICK, **({"patience": order["patience"], "read": 2.0} if "patience" in order else {}))
        servers = [
            SharingInvokeAI(url, ConnectOptions(timings=timings))
            if order.get("sharing")
            else connect(url, ConnectOptions(timings=timings))
            for url in order["servers"]
        ]
        options = RunOptions(**{"backoff": BACKOFF, "attempts": 20, "takeover_after": 0.0, **order.get("options", {})})
        checkpoint = deadly(order.get("point", ""), order.get("nth", 1))
        summary = await run(
            experiment,
            servers,
            options=options,
            results=root / "results",
            listener=listener,
            stop=stop,
            checkpoint=checkpoint,
            choose=choose_next_points,
        )
        return summary.exit_code

    return anyio.run(main)


def repair(order: dict[str, Any], tell: Any) -> int:
    """What `sweep verify --repair` does."""
    folder = Path(order["folder"])

    async def main() -> None:
        checkpoint = deadly(order["point"], order["nth"])
        async with FolderLock(folder), await SqliteJournal.open(folder, create=False, checkpoint=checkpoint) as journal:
            await journal.reopen(list_damaged_keys(RecordedResults.open(folder).verify()))

    anyio.run(main)
    return 0


def sandbox(order: dict[str, Any], tell: Any) -> int:
    """Serve until killed."""
    options = dict(order["options"])
    options["faults"] = FaultInjection(**options.get("faults", {}))
    if options.get("root"):
        options["root"] = Path(options["root"])
    anyio.run(serve_sandbox, SandboxOptions(**options), tell)
    return 0


def cli(order: dict[str, Any], tell: Any) -> int:
    """The command line, as a person's shell runs it."""
    from sweep.cli.main import run_cli as command

    os.environ.update(order.get("environment", {}))
    os.chdir(order["root"])
    sys.argv = ["sweep", *order["arguments"]]
    return command(order["arguments"])


def merge(order: dict[str, Any], tell: Any) -> int:
    """Merge results folders."""
    sources = [Path(source) for source in order["sources"]]
    merge_results(sources, Path(order["target"]), checkpoint=deadly(order["point"], order["nth"]))
    return 0


KINDS = {"client": client, "cli": cli, "merge": merge, "repair": repair, "sandbox": sandbox}


def child(order: dict[str, Any], pipe: int) -> int:
    """The forked process."""

    def tell(word: str) -> None:
        os.write(pipe, (word + "\n").encode())

    try:
        return KINDS[order["kind"]](order, tell)
    except SweepError as error:
        tell(f"{type(error).__name__}: {error}")
        return error.exit_code


def start(order: dict[str, Any]) -> tuple[int, int]:
    """Fork; the child's pid and the end of the pipe that it tells things by."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)
    with open(order["log"], "a") as log:  # noqa: PTH123
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        if "output" in order:
            output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
        try:
            code = child(order, writing)
        except BaseException:  # noqa: BLE001  told below; a child must not go on as a second zygote
            import traceback

            traceback.print_exc(file=log)
            code = 99
    os._exit(code)


def warm() -> None:
    """Have what children import when they need it imported once, before they are forked."""
    import importlib

    for name in (
        "PIL.PngImagePlugin",
        "PIL.JpegImagePlugin",
        "pandas",
        "pyarrow.parquet",
        "sweep.sandbox.api_routes",
    ):
        importlib.import_module(name)
    from sweep.workflow import load_builtin_schemas

    load_builtin_schemas()
    gc.collect()
    gc.freeze()


def main() -> None:
    warm()
    pipes: dict[int, Any] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "start":
            pid, reading = start(order)
            pipes[pid] = os.fdopen(reading)
            word = pipes[pid].readline().strip() if order.get("first_word") else ""
            answer: dict[str, Any] = {"pid": pid, "word": word}
        else:
            _, status = os.waitpid(order["pid"], 0)
            with pipes.pop(order["pid"]) as pipe:
                said = pipe.read().strip()
            answer = {"code": os.waitstatus_to_exitcode(status), "said": said}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
