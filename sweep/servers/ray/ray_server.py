"""A server behind an agent: the `Server` that asks an agent of the Ray cluster in place of a server over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.errors import ServerUnreachableError, SweepError, UsageError, VariationError
from sweep.servers.base import ItemEnded, ItemEvent, Saved, ServerImage, ServerInfo, Submission, Ticket
from sweep.servers.http import read_input_image
from sweep.servers.ray.agent import POLL_SECONDS, SAME_SWEEP
from sweep.servers.ray.ray_connection import AGENTS, find_agent
from sweep.servers.tracker import make_cancellation_error
from sweep.servers.untrusted_json import shorten
from sweep.version import VERSION
from sweep.workflow import Graph, ImageRef, Model, NodeSchemas

_LONGEST_POLL = 3 * POLL_SECONDS  # a process that was stopped, and is not dead, answers nothing
_LONGEST_CALL = 900.0  # seconds: an agent may wait 600 for a server that it starts


class RayServer:
    """A `Server` that asks the agent `name` of the joined cluster.

    `owned`: the handle of an agent that the run started; Ray ends it when the run lets go of it, or dies. `results`: a
    folder into which the agent writes images, on a file system that all hosts share.
    """

    def __init__(self, name: str, *, results: Path | None = None, owned: Any = None) -> None:
        self.results = results.absolute() if results else None
        self._name = name
        self._owned = owned
        self._schemas: NodeSchemas | None = None
        self._cancelled: set[str] = set()

    @property
    def url(self) -> str:
        """Return an address that stays the same when the agent or its cluster restarts: a journal's intents name it."""
        return f"ray:{self._name}"

    async def open(self) -> ServerInfo:
        info: ServerInfo = await self.ask("open", VERSION)
        if self.results is not None:
            await self._check_results(self.results)
        return replace(info, name=self._name, url=self.url)

    async def _check_results(self, results: Path) -> None:
        """Find out whether the agent's host sees what is written here. Raises ServerUnreachableError if not."""
        probe = results / f".sweep-{uuid.uuid4().hex}"
        await asyncio.to_thread(_write_probe, probe)
        try:
            is_seen = await self.ask("see", probe)
        finally:
            await asyncio.to_thread(probe.unlink, missing_ok=True)
        if not is_seen:
            raise ServerUnreachableError(
                f"The host of {self._name} does not see {results}.",
                hint="--images shared needs a file system that is mounted at the same path on all hosts.",
            )

    async def aclose(self) -> None:
        if self._owned is not None:
            with contextlib.suppress(SweepError):
                await self.ask("stop")
            AGENTS.pop(self._name, None)
            self._owned = None

    async def schemas(self) -> NodeSchemas:
        if self._schemas is None:
            self._schemas = await self.ask("client", "schemas")
        return self._schemas

    async def models(self) -> tuple[Model, ...]:
        return tuple(await self.ask("client", "models"))

    async def check(self, graphs: Sequence[Graph], images: Mapping[str, Path]) -> list[str | None]:
        await self._send_images(images)
        refusals: list[str | None] = await self.ask("check", tuple(graphs), tuple(images))
        return refusals

    async def submit(self, submission: Submission) -> Ticket:
        for ref in submission.graph.references():
            if isinstance(ref, ImageRef) and ref.sha256 not in submission.images:
                raise VariationError(f"no file is known for the input image {ref.sha256[:12]}", kind="MissingFile")
        await self._send_images(submission.images)
        local = replace(submission, images=dict.fromkeys(submission.images, Path()))
        ticket: Ticket = await self.ask("submit", local)
        return ticket

    async def hear(self, ticket: Ticket) -> AsyncIterator[ItemEvent]:
        """Poll for events. An agent that was restarted tells them from the start: those known are left out."""
        told: list[ItemEvent] = []
        life, seen = "", 0
        while True:
            now, events, error = await self.ask("listen", ticket, life, seen)
            seen = len(events) + (seen if now == life else 0)
            life = now
            for event in events:
                if event not in told:
                    told.append(event)
                    if isinstance(event, ItemEnded) and event.status == "canceled":  # the agent has other users, too
                        event = replace(event, error=make_cancellation_error(ticket.batch_id in self._cancelled))
                    yield event
                if isinstance(event, ItemEnded):
                    return
            if error is not None:
                raise error

    async def find(self, batch_id: str, outputs: tuple[str, ...] = ()) -> Ticket | None:
        ticket: Ticket | None = await self.ask("find", batch_id, outputs)
        return ticket

    async def fetch(self, image: ServerImage, limit: int) -> bytes:
        data: bytes = await self.ask("client", "fetch", image, limit)
        return data

    async def save(self, image: ServerImage, limit: int, write: Callable[[bytes], Saved]) -> Saved:
        saved: Saved = await self.ask("save", image, limit, write)
        return saved

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        self._cancelled.update(batch_ids)
        await self.ask("client", "cancel", tuple(batch_ids))

    async def list_loaded(self) -> frozenset[str]:
        return frozenset(await self.ask("client", "list_loaded"))

    async def count_others_waiting(self, ours: str) -> int:
        return int(await self.ask("client", "count_others_waiting", ours))

    async def _send_images(self, images: Mapping[str, Path]) -> None:
        """Send the input images that the agent lacks, each once for all that are rendered from it."""
        if not images:
            return
        for sha256 in await self.ask("lacking", tuple(images)):
            content, suffix = await read_input_image(sha256, images[sha256], is_raw=True)
            await self.ask("keep", sha256, suffix, content)

    async def ask(self, method: str, *arguments: Any) -> Any:
        """Call the agent.

        Raises:
            ServerUnreachableError: The agent is gone, is being restarted, or failed; the other servers go on.
            SweepError: What its client raised there.
        """
        import ray

        try:
            agent: Any = AGENTS.get(self._name) or await asyncio.to_thread(find_agent, self._name)
            async with asyncio.timeout(_LONGEST_POLL if method == "listen" else _LONGEST_CALL):
                value, error = await agent.call.remote(method, *arguments)
        except TimeoutError as failure:
            raise ServerUnreachableError(f"The agent {self._name} does not answer in time.") from failure
        except ValueError as failure:
            raise ServerUnreachableError(f"The cluster has no agent {self._name}.") from failure
        except ray.exceptions.RayActorError as failure:
            AGENTS.pop(self._name, None)
            raise ServerUnreachableError(f"The agent {self._name} does not answer.") from failure
        except (ray.exceptions.RayError, TypeError) as failure:  # TypeError: its method takes other arguments
            cause = getattr(failure, "cause", None) or failure
            reason = shorten(str(cause)) or type(cause).__name__
            raise ServerUnreachableError(f"The agent {self._name} failed: {reason}.", hint=SAME_SWEEP) from failure
        if error is not None:
            raise error
        return value


def _write_probe(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UsageError(f"{path.parent} cannot be written ({error.strerror}).") from error
