"""One job at one server: from the intent on record to pictures on disk, or to what should be done instead.

The order is the promise. The intent is durable before the request leaves; an answer that was lost is asked about
before anything is submitted again; a picture is whole on disk before the record says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

import anyio
from anyio.abc import TaskGroup

from sweep.engine import events
from sweep.engine.desk import Desk, Flight, Next, together
from sweep.engine.fetching import bring
from sweep.engine.packing import Package, batch_id, point
from sweep.engine.pool import Member
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
from sweep.record.base import Failure, Intent, Rendering, Times
from sweep.servers.base import Ended, Rendered, ServerImage, Started, Submission, Ticket


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
        self._brought: dict[tuple[str, int], Rendering | AttemptError] = {}
        self._asked: set[tuple[str, int]] = set()

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
            return self._without_server(error)
        except OverloadedError as error:
            return await self._turned_away(error)
        except _NoAnswerError as error:
            return self._without_server(ServerUnreachableError(error.message))
        except VariationError as error:
            if len(self._job.instances) > 1:
                return await self._alone(self._job.instances)
            return await self._settle(self._job.instances, error)
        except AttemptError as error:
            return await self._settle(self._job.instances, error)
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
        elif self._job.intents:
            self._desk.abandon(self._job.intents[0])
        if self._intents:
            lost = Failure(kind=ItemLostError.__name__, message=f"{self._intents[0].server} does not have it any more")
            await together(*(self._desk.journal.attempt_failed(intent.key, lost) for intent in self._intents))
            self._intents = ()
            self._package = Package.of(self._job.instances)
        await self._intend()
        return await self._submit()

    async def _intend(self) -> None:
        numbers = {key: 1 + await self._desk.journal.attempts(key) for key in self._points}
        chosen = batch_id(self._desk.destination, numbers)
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
        self._desk.flights[intents[0].batch_id] = Flight(self._member, tuple(self._points.values()))
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
        except TransientError:
            found = await self._find()
            if found is None:
                raise
            ticket = found
        await self._desk.journal.submitted(chosen, ticket.item_id)
        return ticket

    async def _find(self) -> Ticket | None:
        try:
            return await self._member.server.find(self._intents[0].batch_id, self._package.nodes)
        except TransientError as error:
            raise _NoAnswerError(error.message) from error

    async def _follow(self, ticket: Ticket) -> Ended:
        """Listen until the item ends, fetching each picture as soon as it is there."""
        ended: Ended | AttemptError | ServerError = ItemLostError("the server stopped telling about the item")
        async with anyio.create_task_group() as fetching:
            try:
                async with aclosing(self._member.server.hear(ticket)) as told:  # type: ignore[type-var]
                    async for event in told:
                        if isinstance(event, Started):
                            self._tell_started()
                        elif isinstance(event, Rendered):
                            self._fetch(event.image, fetching)
                        else:
                            ended = event
            except ItemLostError as error:
                ended = error
            except TransientError as error:
                ended = _NoAnswerError(error.message)
            except (AttemptError, ServerError) as error:
                ended = error
            if isinstance(ended, Ended):
                self._give_slot_back()
                self._learn(ended)
                if ended.images:
                    await together(*(self._desk.journal.rendered(key, self._times(key, ended)) for key in self._points))
                for image in ended.images:
                    self._fetch(image, fetching)
        if isinstance(ended, Ended):
            return ended
        raise ended

    def _learn(self, ended: Ended) -> None:
        if ended.error is None and ended.started_at and ended.finished_at:
            seconds = (ended.finished_at - ended.started_at).total_seconds()
            self._member.fusion.observe(len(self._points), seconds)

    def _tell_started(self) -> None:
        for known in self._points.values():
            self._desk.listener(events.Started(key=known.key, index=known.index, server=self._member.name))

    def _fetch(self, image: ServerImage, group: TaskGroup) -> None:
        place = (image.node, image.iteration)
        owner = self._package.owners.get(image.node)
        if owner is None or place in self._asked:
            return
        ordinal = sum(1 for node, _ in self._asked if self._package.owners[node] == owner)
        self._asked.add(place)

        async def one() -> None:
            self._brought[place] = await bring(self._desk, self._member, self._points[owner], image, ordinal)

        group.start_soon(one)

    async def _conclude(self, ended: Ended) -> list[Next]:
        """Give each variation of the item its due: its pictures, its error, or another attempt."""
        left: list[Next] = []
        error = ended.error or VariationError("the workflow ended without a picture", kind="NoImage")
        failed = self._package.blamed(ended.failed_node) if ended.error else frozenset()
        innocent: list[Instance] = []
        for instance in self._job.instances:
            brought = self._pictures(instance.key)
            problem = next((item for item in brought if isinstance(item, AttemptError)), None)
            renderings = [item for item in brought if isinstance(item, Rendering)]
            if problem is not None:
                left += await self._settle([instance], problem)
            elif renderings and self._has_all(instance.key):
                await self._complete(instance, renderings, ended)
            elif ended.error and len(self._job.instances) > 1 and (instance.key not in failed or self._shared(failed)):
                innocent.append(instance)
            else:
                left += await self._settle([instance], error)
        return left + await self._alone(innocent)

    def _shared(self, failed: frozenset[str]) -> bool:
        """Whether the failure says nothing about which variation is at fault."""
        return len(failed) == len(self._job.instances)

    def _pictures(self, key: str) -> list[Rendering | AttemptError]:
        return [item for place, item in sorted(self._brought.items()) if self._package.owners[place[0]] == key]

    def _has_all(self, key: str) -> bool:
        return {node for node, _ in self._brought} >= set(self._package.fused.outputs[key])

    async def _complete(self, instance: Instance, renderings: Sequence[Rendering], ended: Ended) -> None:
        times = self._times(instance.key, ended)
        await self._desk.journal.complete(instance.key, renderings, times)
        seconds = None
        if times.started_at and times.finished_at:
            seconds = (times.finished_at - times.started_at).total_seconds()
        self._desk.outcome(None)
        self._desk.listener(
            events.Completed(
                key=instance.key,
                index=instance.variation.index,
                server=self._member.name,
                values=instance.variation.values,
                paths=tuple(rendering.path for rendering in renderings),
                seconds=seconds,
            )
        )

    def _times(self, key: str, ended: Ended) -> Times:
        """When the server had the variation: of an item of several, its equal share, since they run interleaved."""
        begun, done = ended.started_at, ended.finished_at
        if begun and done and len(self._points) > 1:
            share = (done - begun) / len(self._points)
            begun += share * list(self._points).index(key)
            done = begun + share
        return Times(queued_at=ended.queued_at, started_at=begun, finished_at=done)

    async def _alone(self, instances: Sequence[Instance]) -> list[Next]:
        """Variations whose item failed through another's fault: each by itself, at once, without an attempt counted."""
        await together(*(self._desk.journal.withdraw(instance.key) for instance in instances))
        return [Next(Job(instances=(instance,))) for instance in instances]

    def _without_server(self, error: ServerError) -> list[Next]:
        """The server is gone; what it may have of ours stays open until it answers or another takes it over."""
        self._desk.leave(self._member, error)
        return [Next(replace(self._job, intents=self._intents))]

    async def _turned_away(self, error: OverloadedError) -> list[Next]:
        """The server took nothing: no attempt is counted, however often it says so."""
        self._member.overloaded(error.retry_after)
        await together(*(self._desk.journal.withdraw(key) for key in self._points))
        delay = self._desk.options.backoff.delay(self._job.attempt, self._desk.chance, error.retry_after)
        return [Next(self._job.again(avoid=self._member.url), delay)]

    async def _settle(self, instances: Sequence[Instance], error: AttemptError) -> list[Next]:
        """An attempt brought nothing for these: another one where that may help, else a failed row."""
        numbers = {intent.key: intent.number for intent in self._intents}
        again: list[Instance] = []
        for instance in instances:
            if isinstance(error, TransientError) and numbers.get(instance.key, 1) < self._desk.options.attempts:
                again.append(instance)
            else:
                await self._fail(instance, error)
        if not again:
            return []
        await together(*(self._desk.journal.attempt_failed(i.key, _failure(error)) for i in again))
        delay = self._desk.options.backoff.delay(max(numbers.values(), default=1), self._desk.chance)
        for instance in again:
            self._desk.listener(
                events.Retrying(
                    key=instance.key,
                    index=instance.variation.index,
                    server=self._member.name,
                    attempt=numbers.get(instance.key, 1),
                    delay=delay,
                    error=_sentence(error),
                )
            )
        jobs = replace(self._job, instances=tuple(again)).again(avoid=self._member.url).split()
        return [Next(job, delay) for job in jobs]

    async def _fail(self, instance: Instance, error: AttemptError) -> None:
        await self._desk.journal.fail(self._points[instance.key], _failure(error))
        self._desk.outcome(_sentence(error))
        self._desk.listener(
            events.Failed(
                key=instance.key,
                index=instance.variation.index,
                server=self._member.name,
                values=instance.variation.values,
                error=_sentence(error),
            )
        )


class _NoAnswerError(AttemptError):
    """The server does not answer, so what became of the item is not known."""


def _failure(error: AttemptError) -> Failure:
    return Failure(kind=error.kind, message=error.message)


def _sentence(error: AttemptError) -> str:
    return f"{error.kind}: {error.message}"
