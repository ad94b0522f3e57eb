"""Who takes part in a run: servers are opened, and must be able to make the same pictures as the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

import anyio

from sweep.engine.events import Listener, Notice, ServerChanged
from sweep.engine.fusing import FusionSize
from sweep.engine.limits import Limit
from sweep.engine.options import RunOptions
from sweep.engine.pool import Member
from sweep.engine.tasks import together
from sweep.errors import ServerError, ServerUnreachableError, ServerUnsupportedError, TransientError
from sweep.plan.binding import Plan
from sweep.servers.base import Server, ServerInfo
from sweep.workflow.graph import ModelRef, Ref, map_refs
from sweep.workflow.schemas import Model

CLOSING: Final = 5.0  # seconds a server's client may take to let go


async def members_of(
    held: AsyncExitStack, servers: Sequence[Server], options: RunOptions, listener: Listener
) -> list[Member]:
    """A member for each server, those that do not answer marked as left: they are asked again while the run goes on.

    Raises the first one's ServerError where none answers.
    """
    held.push_async_callback(_close_all, servers)
    members = [_member(server, options) for server in servers]
    await together(*(_open(member, options) for member in members))
    here = [member for member in members if member.left is None]
    if not here:
        raise next(member.left for member in members if member.left is not None)
    for member in members:
        if member.left is None:
            listener(ServerChanged(server=member.name, state="joined"))
        else:
            listener(Notice(message=f"{member.left.message} The run goes on without it until it answers."))
    return members


def _member(server: Server, options: RunOptions) -> Member:
    unknown = ServerInfo(name=server.url.partition("://")[2] or server.url, url=server.url, version="", api="")
    most = options.concurrency or 2
    return Member(server, unknown, Limit.of(most), opened=False, fusion=FusionSize(options.fuse))


async def _open(member: Member, options: RunOptions) -> None:
    try:
        await open_member(member, options)
    except ServerError as error:
        member.left = error


async def open_member(member: Member, options: RunOptions) -> None:
    """Find out who answers, where that is not known yet. Raises ServerError."""
    if not member.opened:
        info = await member.server.open()
        member.admit(told(info), Limit.of(options.concurrency or 2 * info.capacity))


def told(info: ServerInfo) -> ServerInfo:
    """A sandbox by a name that says it is one, so that every row of the table does."""
    if not info.sandbox or info.name.startswith("sandbox"):
        return info
    return replace(info, name=f"sandbox {info.name}")


async def _close_all(servers: Sequence[Server]) -> None:
    """Also when the run is being cancelled, but not for ever."""
    with anyio.move_on_after(CLOSING, shield=True):
        await together(*(server.aclose() for server in servers))


async def drop_unfit(plan: Plan, members: Sequence[Member], models: Mapping[ModelRef, Model]) -> list[Member]:
    """Servers that cannot make the same pictures as the first one leave; gives back those that did."""
    left = []
    for member in members[1:]:
        if member.left is not None:
            continue
        try:
            await check_models(plan, member, models)
        except ServerError as error:
            member.left = error
            left.append(member)
    return left


async def check_models(plan: Plan, member: Member, wanted: Mapping[ModelRef, Model]) -> None:
    """Raises ServerError where a server lacks a model of the plan, or has another one under the same name."""
    try:
        models = by_name(await member.server.models())
    except TransientError as error:
        raise ServerUnreachableError(error.message) from error
    for ref in model_refs(plan):
        if ref not in models:
            raise ServerUnsupportedError(f"{member.name} has no {ref.type} model {ref.name} ({ref.base}).")
        if ref in wanted and models[ref].hash != wanted[ref].hash:
            raise ServerUnsupportedError(f"{member.name} has another model of the name {ref.name}: the hashes differ.")


def by_name(models: Sequence[Model]) -> dict[ModelRef, Model]:
    """Models by what they are called; of two that share name, base and type that of the smallest key, as clients do."""
    descending = sorted(models, key=lambda model: model.key, reverse=True)
    return {ModelRef(model.name, model.base, model.type): model for model in descending}


def model_refs(plan: Plan) -> frozenset[ModelRef]:
    """Every model, of any type, that a point of the plan may need."""
    found: set[ModelRef] = set()

    def note(ref: Ref) -> None:
        if isinstance(ref, ModelRef):
            found.add(ref)

    for _, graph in plan.probes():
        for node in graph.nodes.values():
            map_refs(dict(node.fields), note)
    return frozenset(found)
