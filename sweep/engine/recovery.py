"""Recovery of items that earlier runs left open: each is given to the server that has it, or cancelled there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from sweep.engine.attempt import ABANDONED
from sweep.engine.events import Notice
from sweep.engine.limits import run_all
from sweep.engine.run_context import RunContext
from sweep.engine.server_pool import PooledServer, cancel_abandoned
from sweep.engine.work_queue import Job
from sweep.errors import SweepError
from sweep.record import Failure, Intent


async def recover_jobs(context: RunContext) -> list[Job]:
    """Return a job for each item whose end is not on record, its points marked in `skip` so that nothing begins them.

    An item the definition no longer has a use for is cancelled where it is, if its server is here, and closed; so is
    one that was given to another server by an earlier run, before this one could tell the first.
    """
    journal, listener = context.journal, context.listener
    servers = {server.url: server for server in context.pool.servers}
    for url, server in servers.items():
        server.abandoned.update(await journal.ended_with(ABANDONED, url))
    intents = await journal.open_intents()
    jobs: list[Job] = []
    for batch, group in groupby(sorted(intents, key=lambda intent: intent.batch_id), lambda intent: intent.batch_id):
        several = list(group)
        wanted = tuple(intent for intent in several if intent.index is not None)
        if not wanted and several[0].url in servers:
            servers[several[0].url].abandoned.add(batch)
        if wanted:
            jobs.append(await _recover_job(context, wanted))
    _report_absent(context, jobs)

    async def cancel_unwanted(server: PooledServer) -> None:
        try:
            await cancel_abandoned(server)
        except SweepError as error:
            message = f"{server.name}: {error.message} Items that are no longer wanted may continue there."
            listener(Notice(message=message))

    await run_all(*(cancel_unwanted(server) for server in servers.values() if server.left is None))
    former = Failure(kind="Former", message="the experiment no longer has this point")
    await run_all(*(journal.attempt_failed(i.key, former) for i in intents if i.index is None))
    return jobs


def _report_absent(context: RunContext, jobs: Sequence[Job]) -> None:
    """Say which servers are waited for because they have items of an earlier run."""
    for server in context.pool.servers:
        count = sum(len(job.keys) for job in jobs if job.home == server.url)
        if count and server.left is not None:
            wait = context.options.takeover_after
            images = "1 image is" if count == 1 else f"{count} images are"
            message = f"{images} at {server.name}; other servers render them if it stays away for {wait:.0f} s."
            context.listener(Notice(message=message))


async def _recover_job(context: RunContext, intents: Sequence[Intent]) -> Job:
    places = [intent.index for intent in intents if intent.index is not None]
    for index in places:
        context.skip[index] = 1
    home = await _find_home(context.pool.servers, intents[0])
    return Job(
        instances=tuple(context.instance(index) for index in places),
        intents=tuple(replace(intent, url=home) for intent in intents),
        admitted=True,
    )


async def _find_home(servers: Sequence[PooledServer], intent: Intent) -> str:
    """Return the url of the server that has the item: a server may be given under another address this time."""
    if any(server.url == intent.url for server in servers):
        return intent.url
    for server in servers:
        if server.left is None:
            try:
                if await server.server.find(intent.batch_id, intent.outputs):
                    return server.url
            except SweepError:  # one that does not answer cannot be asked to take it up, either
                continue
    return intent.url
