"""The actor beside a server on another host: it holds an ordinary client and answers for it.

It holds nothing that matters. After a restart it opens its client anew, and an item is found by its ticket: the
journal's intents and the server's own items are the only truth. Errors cross as values, because Ray would wrap them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sweep.errors import AttemptError, ServerError, ServerUnreachableError, SweepError, TransientError, UsageError
from sweep.servers.base import ItemEnded, ItemEvent, Saved, Server, ServerImage, ServerInfo, Submission, Ticket
from sweep.servers.credentials import find_credentials
from sweep.servers.discovery import connect
from sweep.servers.http import ConnectOptions, Timings
from sweep.servers.untrusted_json import shorten
from sweep.version import VERSION
from sweep.workflow import Graph

POLL_SECONDS = 20.0  # a long poll is answered by then, with or without news
_LOGS = 2000  # items whose events are remembered
_START_SECONDS = 600.0  # a server that the agent starts may take to answer
_STOP_SECONDS = 15.0
_PLACEHOLDER = "{port}"
SAME_SWEEP = "Install the same sweep on all hosts; then sweep worker --server URL on the agent's host starts it anew."


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """Settings of an agent."""

    name: str
    url: str  # of the server, as its host reaches it; "{port}" is replaced by a free port
    command: str | None = None  # starts the server; the agent ends it
    credentials: Path | None = None  # a file on the agent's host
    ca_file: Path | None = None
    queue_id: str = "default"
    timings: Timings = field(default_factory=Timings)
    insecure: bool = False  # also on a cluster that demands no token


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDescription:
    """The state of an agent and its server: a line of `sweep workers`."""

    name: str
    host: str = ""
    url: str = ""
    state: str  # ready, or why it cannot be used
    family: str = ""
    version: str = ""
    since: datetime | None = None
    log: str = ""
    sweep_version: str = VERSION
    has_token: bool = False  # whether its cluster demands a token


class Agent:
    """A Ray actor that holds a client of one server; `call` is its only remote method."""

    def __init__(self, settings: AgentSettings) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._settings = replace(settings, url=settings.url.replace(_PLACEHOLDER, str(port)))
        self._command = settings.command.replace(_PLACEHOLDER, str(port)) if settings.command else None
        self._life = uuid.uuid4().hex
        self._since = datetime.now(UTC)
        self._images: dict[str, Path] = {}  # input images by hash, as long as this life of the agent
        self._log: Path | None = None  # of the server that the agent started
        self._opening = asyncio.Lock()
        self._opened: tuple[Server, ServerInfo] | None = None
        self._items: OrderedDict[tuple[str, str], _ItemLog] = OrderedDict()
        self._submitting: dict[str, asyncio.Event] = {}  # by batch id: set when the submission has ended
        self._server: subprocess.Popen[bytes] | None = None
        for name in ("sweep", "aiohttp"):
            logging.getLogger(name).setLevel(logging.ERROR)

    async def call(self, method: str, *arguments: Any) -> tuple[Any, SweepError | None]:
        """Run one of the methods below; return its value, or an error of ours."""
        try:
            await self._begin()
            return await getattr(self, f"do_{method}")(*arguments), None
        except SweepError as error:
            return None, error
        except RuntimeError:  # such as a closed session: the next call opens a client of its own
            self._opened = None
            raise

    async def _begin(self) -> None:
        """Start the server, where there is such: at the first call of each life of the agent.

        Raises UsageError where the cluster demands no token.
        """
        if not (self._settings.insecure or has_token_authentication()):
            raise without_token()
        if self._command and self._server is None:
            self._server = self._start_server()

    async def do_describe(self) -> AgentDescription:
        """Describe the agent and its server, asked now."""
        info, state = None, "ready"
        try:
            client, info = await self._open()
            await client.count_others_waiting("")
        except SweepError as error:
            info, state = None, error.message
        return AgentDescription(
            name=self._settings.name,
            host=socket.gethostname(),
            url=self._settings.url,
            state=state,
            family=(info.family or info.api) if info else "",
            version=info.version if info else "",
            since=self._since,
            log=str(self._log or ""),
            has_token=has_token_authentication(),
        )

    async def do_begin(self) -> None:
        """Do nothing more: each call begins, and starts the server where there is one to start."""

    async def do_open(self, version: str) -> ServerInfo:
        """Open the client, waiting for a server that the agent starts itself, unless an earlier run did; ask by it.

        Raises ServerError for a run of another version of sweep.
        """
        if version != VERSION:
            other = f"The agent {self._settings.name} runs sweep {VERSION}, and this is sweep {version}."
            raise ServerError(other, hint=SAME_SWEEP)
        client, info = await self._open()
        try:
            await client.count_others_waiting("")
        except AttemptError as error:  # the client connects again by itself
            raise ServerUnreachableError(error.message) from None
        except ServerError:  # another server answers now
            self._opened = None
            return (await self._open())[1]
        return info

    async def do_lacking(self, hashes: Sequence[str]) -> list[str]:
        """Name the input images that are not here yet."""
        return [sha256 for sha256 in hashes if sha256 not in self._images]

    async def do_keep(self, sha256: str, suffix: str, data: bytes) -> None:
        """Keep an input image for submissions to come."""

        def write() -> Path:
            with tempfile.NamedTemporaryFile(prefix=f"{sha256}-", suffix=suffix, delete=False) as file:
                file.write(data)
            return Path(file.name)

        self._images[sha256] = await asyncio.to_thread(write)

    async def do_submit(self, submission: Submission) -> Ticket:
        ended = self._submitting[submission.batch_id] = asyncio.Event()
        try:
            client, _ = await self._open()
            return await client.submit(replace(submission, images=self._resolve_paths(submission.images)))
        finally:
            self._submitting.pop(submission.batch_id, None)
            ended.set()

    async def do_find(self, batch_id: str, outputs: tuple[str, ...]) -> Ticket | None:
        """Find an item. A submission that outlived a killed coordinator ends first, or the item would be sent again."""
        if batch_id in self._submitting:
            await self._submitting[batch_id].wait()
        client, _ = await self._open()
        return await client.find(batch_id, outputs)

    async def do_check(self, graphs: Sequence[Graph], hashes: Sequence[str]) -> list[str | None]:
        client, _ = await self._open()
        return await client.check(graphs, self._resolve_paths(hashes))

    async def do_save(self, image: ServerImage, limit: int, write: Callable[[bytes], Saved]) -> Saved:
        """Fetch an image and write it into the results folder, which this host shares with the coordinator."""
        client, _ = await self._open()
        return await asyncio.to_thread(write, await client.fetch(image, limit))

    async def do_see(self, path: Path) -> bool:
        """Tell whether this host sees a file."""
        return await asyncio.to_thread(os.path.exists, path)

    async def do_client(self, method: str, *arguments: Any) -> Any:
        """Call a method of the client that needs nothing else."""
        client, _ = await self._open()
        return await getattr(client, method)(*arguments)

    async def do_listen(self, ticket: Ticket, life: str, seen: int) -> tuple[str, list[ItemEvent], SweepError | None]:
        """Wait for news of an item, at most `POLL_SECONDS`: events after the first `seen` of this life of the agent."""
        key = (ticket.batch_id, ticket.item_id)
        log = self._items.get(key)
        if log is None or (log.is_over and (life != self._life or not seen)):
            client, _ = await self._open()
            log = self._items[key] = _ItemLog()
            log.task = asyncio.create_task(log.follow(client, ticket))
            while len(self._items) > _LOGS:
                self._items.popitem(last=False)[1].task.cancel()
        start = seen if life == self._life else 0
        return self._life, *(await log.wait(start))

    async def do_stop(self) -> None:
        """End the server that the agent started, and let go of the client and of the input images."""
        if self._opened is not None:
            await self._opened[0].aclose()
        if self._server is not None:
            await asyncio.to_thread(self._end_server, self._server)
        while self._images:
            await asyncio.to_thread(self._images.popitem()[1].unlink, missing_ok=True)

    async def _open(self) -> tuple[Server, ServerInfo]:
        async with self._opening:
            until = time.monotonic() + (_START_SECONDS if self._server else 0.0)
            while self._opened is None:
                self._opened = await self._try_open(until)
            return self._opened

    async def _try_open(self, until: float) -> tuple[Server, ServerInfo] | None:
        """Open a client; None where a server that the agent started is still starting."""
        settings = self._settings
        options = ConnectOptions(
            credentials=find_credentials(settings.url, os.environ, settings.credentials),
            ca_file=settings.ca_file,
            queue_id=settings.queue_id,
            timings=settings.timings,
        )
        client = connect(settings.url, options)
        try:
            return client, await client.open()
        except SweepError as error:
            await client.aclose()
            if self._server is not None and self._server.poll() is not None:
                raise ServerUnreachableError(f"{self._command} ended; its last words are in {self._log}.") from error
            if not isinstance(error, ServerUnreachableError) or time.monotonic() >= until:
                raise
            await asyncio.sleep(0.5)
            return None

    def _start_server(self) -> subprocess.Popen[bytes]:
        """Start the server in a folder of its own, with its log; both stay."""
        assert self._command is not None
        self._log = Path(tempfile.mkdtemp(prefix="sweep-server-"), "server.log")
        with self._log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603  the command is the person's own
                [sys.executable, "-m", "sweep.servers.ray.supervise", *shlex.split(self._command)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
            )

    def _end_server(self, server: subprocess.Popen[bytes]) -> None:
        """Close the pipe that the supervisor waits on; it ends the server."""
        if server.stdin is not None:
            server.stdin.close()
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()

    def _resolve_paths(self, hashes: Iterable[str]) -> dict[str, Path]:
        """Return the files of input images that were sent. Raises ServerUnreachableError where a restart lost some."""
        try:
            return {sha256: self._images[sha256] for sha256 in hashes}
        except KeyError:
            lost = f"The agent {self._settings.name} was restarted and has lost its input images."
            raise ServerUnreachableError(lost) from None


class _ItemLog:
    """The events of one item so far, for polls that come late."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None]
        self._events: list[ItemEvent] = []
        self._error: SweepError | None = None
        self._news = asyncio.Condition()

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more will come."""
        return self._error is not None or (bool(self._events) and isinstance(self._events[-1], ItemEnded))

    async def follow(self, client: Server, ticket: Ticket) -> None:
        """Write down what the client hears, and whatever ends that: else those who ask would wait for ever."""
        try:
            async for event in client.hear(ticket):
                async with self._news:
                    self._events.append(event)
                    self._news.notify_all()
        except Exception as error:  # noqa: BLE001  sent to those who ask
            failed = f"The agent failed while it listened ({shorten(repr(error))})."
            async with self._news:
                self._error = error if isinstance(error, SweepError) else TransientError(failed)
                self._news.notify_all()

    async def wait(self, seen: int) -> tuple[list[ItemEvent], SweepError | None]:
        """Return events after the first `seen`, at once where there are some; an error where there are none left."""
        try:
            async with asyncio.timeout(POLL_SECONDS), self._news:
                await self._news.wait_for(lambda: len(self._events) > seen or self._error is not None)
        except TimeoutError:
            return [], None
        events = self._events[seen:]
        return events, None if events else self._error


def derive_url(command: str) -> str:
    """Return a server's address on this host, from the port in the command that starts it; empty without one.

    Some servers take their port from the environment: env SERVER_PORT=9090 serve.
    """
    words = shlex.split(command)
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in ("--port", "-p") or (name.endswith("_PORT") and equals):
            return f"http://127.0.0.1:{value if equals else ''.join(words[at + 1 : at + 2])}"
    return ""


def without_token() -> UsageError:
    """Make the error for a cluster that lets in everybody who reaches it."""
    return UsageError(
        "This Ray cluster demands no token: everybody who can reach it can run programs on its hosts.",
        hint="Start it with RAY_AUTH_MODE=token, or add --insecure-ray in a network that you trust.",
    )


def has_token_authentication() -> bool:
    """Tell whether this process, started by its cluster, must show a token."""
    try:
        from ray._private.authentication.authentication_utils import is_token_auth_enabled
    except ImportError:
        return False  # Ray before 2.52
    return bool(is_token_auth_enabled())
