"""What an earlier run left open on the servers: jobs that ask before they submit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from sweep.engine.attempt import ABANDONED
from sweep.engine.events import Listener, Notice
from sweep.engine.pool import Member, cancel_abandoned
from sweep.engine.preparing import Preparation
from sweep.engine.tasks import together
from sweep.engine.work import Job
from sweep.errors import SweepError
from sweep.record.base import Failure, Intent


async def open_jobs(prepared: Preparation, listener: Listener) -> list[Job]:
    """One job for each item whose end is not on record, marked in `skip` so that nothing else begins its points.

    An item the definition no longer has a use for is cancelled where it is, if its server is here, and closed; so is
    one that was given to another server by an earlier run, before this one could tell the first.
    """
    members = {member.url: member for member in prepared.members}
    for member in prepared.members:
        member.abandoned.update(await prepared.journal.ended_with(ABANDONED, member.url))
    intents = await prepared.journal.open_intents()
    jobs: list[Job] = []
    for batch, group in groupby(sorted(intents, key=lambda intent: intent.batch_id), lambda intent: intent.batch_id):
        several = list(group)
        wanted = tuple(intent for intent in several if intent.index is not None)
        if not wanted and several[0].url in members:
            members[several[0].url].abandoned.add(batch)
        if wanted:
            jobs.append(await _job(prepared, wanted))
    await together(*(_tell(member, listener) for member in prepared.members if member.left is None))
    former = Failure(kind="Former", message="the experiment no longer has this point")
    await together(*(prepared.journal.attempt_failed(i.key, former) for i in intents if i.index is None))
    return jobs


async def _tell(member: Member, listener: Listener) -> None:
    try:
        await cancel_abandoned(member)
    except SweepError as error:
        listener(Notice(message=f"{member.name}: {error.message} Items that are no longer wanted may go on there."))


async def _job(prepared: Preparation, intents: Sequence[Intent]) -> Job:
    places = [intent.index for intent in intents if intent.index is not None]
    for index in places:
        prepared.skip[index] = 1
    home = await _home(prepared.members, intents[0])
    return Job(
        instances=tuple(prepared.instance(index) for index in places),
        intents=tuple(replace(intent, url=home) for intent in intents),
        admitted=True,
    )


async def _home(members: Sequence[Member], intent: Intent) -> str:
    """The url of the server that has it: a server may be given under another address this time."""
    if any(member.url == intent.url for member in members):
        return intent.url
    for member in members:
        if member.left is None:
            try:
                if await member.server.find(intent.batch_id, intent.outputs):
                    return member.url
            except SweepError:  # one that does not answer cannot be asked to take it up, either
                continue
    return intent.url
