"""One job at one server: from the intent on record to pictures on disk, or to what should be done instead.

The order is the promise. The intent is durable before the request leaves; an answer that was lost is asked about
before anything is submitted again; a picture is whole on disk before the record says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from sweep.engine import checkpoints, events
from sweep.engine.desk import Desk, Flight, Next
from sweep.engine.fetching import Pictures
from sweep.engine.packing import Package, batch_id, point
from sweep.engine.pool import Member
from sweep.engine.settling import Settlement, failure
from sweep.engine.tasks import tasks, together
from sweep.engine.work import Job
from sweep.errors import (
    AttemptError,
    ItemLostError,
    OverloadedError,
    ServerError,
    ServerUnreachableError,
    TransientError,
    VariationError,
)
from sweep.plan.instance import Instance
from sweep.record.base import Intent, Standing
from sweep.servers.base import Ended, Rendered, Started, Submission, Ticket
from sweep.servers.faults import TIMED_OUT, NoAnswerError

ABANDONED: Final = "Abandoned"  # the kind of an attempt whose server left, and may still render it when it is back
MOST_STRANDINGS: Final = 12  # of one job: a server that leaves at it every time is not waited for for ever


class Attempt:
    """`run` takes a job as far as it goes at one server and says what is left of it."""

    def __init__(self, desk: Desk, member: Member, job: Job, give_slot_back: Callable[[], None]) -> None:
        self._desk = desk
        self._member = member
        self._job = job
        self._give_slot_back = give_slot_back
        self._intents = job.intents
        self._points = {instance.key: point(instance) for instance in job.instances}
        self._package = Package.adopted(job.instances, job.intents) if job.intents else Package.of(job.instances)
        self._settle = Settlement(desk, member, job, self._points)
        self._pictures = Pictures(desk, member, self._package, self._points)

    async def run(self) -> list[Next]:
        """Raises RecordError where the record cannot be written; all else is a row, or another attempt.

        Cancelled meanwhile, the item stays in the list of flights: it is at a server still.
        """
        try:
            left = await self._run()
        finally:
            self._give_slot_back()
        self._landed()
        return left

    async def _run(self) -> list[Next]:
        try:
            ended = await self._follow(await self._ticket())
        except ServerError as error:
            return await self._stranded(self._job.instances, error)
        except OverloadedError as error:
            return await self._turned_away(error)
        except _UnknownError as error:
            return await self._stranded(self._job.instances, ServerUnreachableError(error.message))
        except VariationError as error:
            if len(self._job.instances) > 1:
                return await self._settle.alone(self._job.instances)
            return await self._settle.fell_short(self._job.instances, self._intents, error)
        except AttemptError as error:
            return await self._settle.fell_short(self._job.instances, self._intents, error)
        self._member.succeeded()
        self._landed()
        return await self._conclude(ended)

    def _landed(self) -> None:
        """The server has nothing of it any more."""
        for intent in self._intents[:1]:
            self._desk.flights.pop(intent.batch_id, None)

    async def _ticket(self) -> Ticket:
        """The item of an earlier attempt where its server still has it, a new one otherwise."""
        if self._job.home == self._member.url:
            self._announce(self._intents)
            if ticket := await self._find():
                return ticket
            await together(*(self._desk.journal.withdraw(intent.key) for intent in self._intents))
        elif self._intents:
            await self._take_over(self._intents)
        self._renew()
        await self._intend()
        self._desk.checkpoint(checkpoints.INTENDED)
        return await self._submit()

    async def _take_over(self, intents: Sequence[Intent]) -> None:
        """Its server has left: counted as an attempt, since it may be what made the server leave."""
        self._desk.abandon(intents[0])
        left = ItemLostError(f"{intents[0].server} left with it", kind=ABANDONED)
        if any(intent.number >= self._desk.options.attempts for intent in intents):
            raise left
        await together(*(self._desk.journal.attempt_failed(intent.key, failure(left)) for intent in intents))

    def _renew(self) -> None:
        if self._intents:
            self._desk.flights.pop(self._intents[0].batch_id, None)
            self._intents = ()
            self._package = Package.of(self._job.instances)
            self._pictures = Pictures(self._desk, self._member, self._package, self._points)

    async def _intend(self) -> None:
        standing = self._job.standing
        if standing is None or self._job.intents:
            standing = await self._desk.journal.standing(list(self._points))
        numbers = {key: 1 + standing.get(key, Standing()).attempts for key in self._points}
        chosen = batch_id(self._desk.destination, self._desk.run, numbers)
        self._intents = tuple(
            Intent(
                key=key,
                number=number,
                server=self._member.name,
                url=self._member.url,
                batch_id=chosen,
                outputs=self._package.fused.outputs[key],
            )
            for key, number in numbers.items()
        )
        self._announce(self._intents)
        await together(*(self._desk.journal.intend(self._points[i.key], i) for i in self._intents))

    def _announce(self, intents: Sequence[Intent]) -> None:
        flight = Flight(self._member, tuple(self._points.values()), self._package.nodes)
        self._desk.flights[intents[0].batch_id] = flight
        for intent in intents:
            self._desk.listener(
                events.Submitted(
                    key=intent.key,
                    index=self._points[intent.key].index,
                    server=self._member.name,
                    attempt=intent.number,
                )
            )

    async def _submit(self) -> Ticket:
        chosen = self._intents[0].batch_id
        submission = Submission(
            batch_id=chosen,
            graph=self._package.fused.graph,
            outputs=self._package.nodes,
            destination=self._desk.destination,
            images=self._package.images,
            board=self._desk.options.board,
            intermediate=self._desk.options.intermediate,
            priority=self._desk.options.priority,
        )
        try:
            ticket = await self._member.server.submit(submission)
        except OverloadedError:
            raise
        except TransientError as error:
            if isinstance(error, NoAnswerError) and error.reason == TIMED_OUT:
                raise _UnknownError(error.message) from error  # it would not answer the next question, either
            found = await self._find()
            if found is None:
                raise
            ticket = found
        self._desk.took(self._member)
        self._desk.checkpoint(checkpoints.TAKEN)
        await self._desk.journal.submitted(chosen, ticket.item_id)
        return ticket

    async def _find(self) -> Ticket | None:
        try:
            return await self._member.server.find(self._intents[0].batch_id, self._package.nodes)
        except AttemptError as error:
            raise _UnknownError(error.message) from error

    async def _follow(self, ticket: Ticket) -> Ended:
        """Listen until the item ends, fetching each picture as soon as it is there."""
        ended: Ended | AttemptError | ServerError = ItemLostError("the server stopped telling about the item")
        async with tasks() as fetching:
            try:
                async with aclosing(self._member.server.hear(ticket)) as told:  # type: ignore[type-var]
                    async for event in told:
                        if isinstance(event, Started):
                            self._tell_started()
                        elif isinstance(event, Rendered):
                            self._pictures.fetch(event.image, fetching)
                        else:
                            ended = event
            except ItemLostError as error:
                ended = error
            except TransientError as error:
                ended = _UnknownError(error.message)
            except (AttemptError, ServerError) as error:
                ended = error
            if isinstance(ended, Ended):
                self._give_slot_back()
                self._desk.checkpoint(checkpoints.ENDED)
                self._learn(ended)
                if ended.images:
                    times = {key: self._settle.times(key, ended) for key in self._points}
                    await together(*(self._desk.journal.rendered(key, when) for key, when in times.items()))
                for image in ended.images:
                    self._pictures.fetch(image, fetching)
        if isinstance(ended, Ended):
            return ended
        raise ended

    def _learn(self, ended: Ended) -> None:
        if ended.error is None:
            begun, done = ended.started_at, ended.finished_at
            seconds = (done - begun).total_seconds() if begun and done else 0.0
            self._member.fusion.observe(len(self._points), seconds, ended.overhead)

    def _tell_started(self) -> None:
        for known in self._points.values():
            self._desk.listener(events.Started(key=known.key, index=known.index, server=self._member.name))

    async def _conclude(self, ended: Ended) -> list[Next]:
        """Give each variation of the item its due: its pictures, its error, or another attempt."""
        left: list[Next] = []
        error = ended.error or VariationError("the workflow ended without a picture", kind="NoImage")
        failed = self._package.blamed(ended.failed_node) if ended.error else frozenset()
        innocent: list[Instance] = []
        waiting: list[Instance] = []
        silence: AttemptError | None = None
        for instance in self._job.instances:
            problem = self._pictures.problem(instance.key)
            if isinstance(problem, (NoAnswerError, OverloadedError)):
                waiting.append(instance)
                silence = problem
            elif problem is not None:
                left += await self._settle.fell_short([instance], self._intents, problem)
            elif self._pictures.complete(instance.key):
                await self._settle.complete(instance, self._pictures.of(instance.key), ended)
            elif ended.error and len(self._job.instances) > 1 and (instance.key not in failed or self._shared(failed)):
                innocent.append(instance)
            else:
                left += await self._settle.fell_short([instance], self._intents, error)
        if silence is not None:
            left += await self._stranded(waiting, ServerUnreachableError(silence.message))
        return left + await self._settle.alone(innocent)

    def _shared(self, failed: frozenset[str]) -> bool:
        """Whether the failure says nothing about which variation is at fault."""
        return len(failed) == len(self._job.instances)

    async def _stranded(self, instances: Sequence[Instance], error: ServerError) -> list[Next]:
        """The server is gone; what it has of ours stays open until it answers or another takes it over."""
        self._desk.leave(self._member, error)
        if self._job.strandings >= MOST_STRANDINGS:
            lost = ItemLostError(f"{self._member.name} left {MOST_STRANDINGS} times while it had it")
            return await self._settle.fell_short(instances, self._intents, lost)
        keys = {instance.key for instance in instances}
        intents = tuple(intent for intent in self._intents if intent.key in keys)
        job = replace(self._job, instances=tuple(instances), intents=intents, strandings=self._job.strandings + 1)
        return [Next(job)]

    async def _turned_away(self, error: OverloadedError) -> list[Next]:
        """The server took nothing: no attempt is counted, however often it says so.

        It is left alone for a while; the job is not, since another server may have room for it.
        """
        delay = self._desk.options.backoff.delay(self._job.attempt, self._desk.chance, error.retry_after)
        if reason := self._member.refused(error, delay):
            self._desk.leave(self._member, reason)
        await together(*(self._desk.journal.withdraw(key) for key in self._points))
        return [Next(self._job.again(avoid=self._member.url))]


class _UnknownError(AttemptError):
    """The server does not answer, so what became of the item is not known."""
