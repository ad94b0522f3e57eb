"""What an earlier run left open on the servers: jobs that ask before they submit."""

from __future__ import annotations

from itertools import groupby

from sweep.engine.preparing import Preparation
from sweep.engine.work import Job
from sweep.record.base import Failure


async def open_jobs(prepared: Preparation) -> list[Job]:
    """One job for each item whose end is not on record, marked in `skip` so that nothing else begins its points.

    An item the definition no longer has a use for is cancelled where it is, if its server is here, and closed.
    """
    intents = await prepared.journal.open_intents()
    jobs: list[Job] = []
    for batch, group in groupby(sorted(intents, key=lambda intent: intent.batch_id), lambda intent: intent.batch_id):
        wanted = []
        for intent in group:
            if intent.index is None:
                await prepared.journal.attempt_failed(
                    intent.key, Failure(kind="Former", message="the experiment no longer has this point")
                )
            else:
                wanted.append(intent)
        if not wanted:
            await _cancel(prepared, batch)
            continue
        instances = tuple(prepared.instance(intent.index) for intent in wanted if intent.index is not None)
        for intent in wanted:
            if intent.index is not None:
                prepared.skip[intent.index] = 1
        jobs.append(Job(instances=instances, intents=tuple(wanted)))
    return jobs


async def _cancel(prepared: Preparation, batch: str) -> None:
    for member in prepared.members:
        await member.server.cancel([batch])
