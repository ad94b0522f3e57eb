"""Attempt: submit, follow, download, settle one item."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

import anyio
from anyio.abc import TaskGroup

from sweep.engine import events
from sweep.engine import options as checkpoints
from sweep.engine.events import Listener
from sweep.engine.options import RunOptions
from sweep.engine.server_pool import Member
from sweep.engine.submission import Package, batch_id, point
from sweep.engine.task_groups import tasks, together
from sweep.engine.work_queue import Job
from sweep.errors import (
    AttemptError,
    ItemLostError,
    OverloadedError,
    ServerError,
    ServerUnreachableError,
    TransientError,
    VariationError,
)
from sweep.plan import Instance
from sweep.record import (
    Checkpoint,
    Failure,
    ImageStore,
    Intent,
    Journal,
    JournalPoint,
    KeyStatus,
    Rendering,
    Times,
    no_checkpoint,
)
from sweep.servers import TIMED_OUT, ItemEnded, ItemStarted, NoAnswerError, Rendered, ServerImage, Submission, Ticket


@dataclass(frozen=True, slots=True)
class Flight:
    """An item at a server, or on its way there, and the points it renders."""

    member: Member
    points: tuple[JournalPoint, ...]
    outputs: tuple[str, ...]  # the nodes that give their images


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Shared by every attempt of a run. `flights` is by batch id: what stage 2 of a stop has to cancel."""

    journal: Journal
    store: ImageStore
    options: RunOptions
    listener: Listener
    destination: str
    run: int
    kinds: Mapping[str, str]  # of the axes, by name: they shape the names of files
    downloads: anyio.CapacityLimiter
    leave: Callable[[Member, ServerError], None]
    took: Callable[[Member], None]  # the member took an item
    abandon: Callable[[Intent], None]  # others took it over: its server cancels it when it comes back
    outcome: Callable[[str | None], None]  # told of every outcome: None for a success, else what failed
    checkpoint: Checkpoint = no_checkpoint
    chance: random.Random = field(default_factory=random.Random)
    flights: dict[str, Flight] = field(default_factory=dict)

    def stem(self, point: JournalPoint) -> str:
        """The name of a variation's image file, without its ending."""
        return self.store.stem(point.index, point.values, self.kinds)


@dataclass(frozen=True, slots=True)
class Next:
    """What is left of a job, to be tried `delay` seconds from now at the earliest."""

    job: Job
    delay: float = 0.0


class Settlement:
    """Writes the outcomes of one job at one server."""

    def __init__(self, desk: RunContext, member: Member, job: Job, points: dict[str, JournalPoint]) -> None:
        self._desk = desk
        self._member = member
        self._job = job
        self._points = points

    def times(self, key: str, ended: ItemEnded) -> Times:
        """When the server had the variation: of an item of several, its equal share, since they run interleaved."""
        begun, done = ended.started_at, ended.finished_at
        if begun and done and len(self._points) > 1:
            share = (done - begun) / len(self._points)
            begun += share * list(self._points).index(key)
            done = begun + share
        return Times(queued_at=ended.queued_at, started_at=begun, finished_at=done)

    async def complete(self, instance: Instance, renderings: Sequence[Rendering], ended: ItemEnded) -> None:
        """Its images are on disk."""
        times = self.times(instance.key, ended)
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

    async def alone(self, instances: Sequence[Instance]) -> list[Next]:
        """Variations whose item failed through another's fault: each by itself, at once, without an attempt counted."""
        await together(*(self._desk.journal.withdraw(instance.key) for instance in instances))
        return [Next(Job(instances=(instance,))) for instance in instances]

    async def fell_short(
        self, instances: Sequence[Instance], intents: Sequence[Intent], error: AttemptError
    ) -> list[Next]:
        """An attempt brought nothing for these: another one where that may help, else a failed row."""
        numbers = {intent.key: intent.number for intent in intents}
        again: list[Instance] = []
        for instance in instances:
            if isinstance(error, TransientError) and numbers.get(instance.key, 1) < self._desk.options.attempts:
                again.append(instance)
            else:
                await self._fail(instance, error)
        if not again:
            return []
        await together(*(self._desk.journal.attempt_failed(i.key, failure(error)) for i in again))
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
        await self._desk.journal.fail(self._points[instance.key], failure(error))
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


def failure(error: AttemptError) -> Failure:
    """The error as the record keeps it."""
    return Failure(kind=error.kind, message=error.message)


def _sentence(error: AttemptError) -> str:
    return f"{error.kind}: {error.message}"


DOWNLOAD_TRIES: Final = (
    8  # to fetch one image: it was paid for, so it is asked for more often than a rendering is tried
)


class ItemDownloads:
    """The images of one item, each fetched once, as soon as it is known."""

    def __init__(self, desk: RunContext, member: Member, package: Package, points: dict[str, JournalPoint]) -> None:
        self._desk = desk
        self._member = member
        self._package = package
        self._points = points
        self._brought: dict[tuple[str, int], Rendering | AttemptError] = {}
        self._asked: set[tuple[str, int]] = set()

    def fetch(self, image: ServerImage, group: TaskGroup) -> None:
        """Begin to fetch it, unless that was begun before or it is none of the item's outputs."""
        place = (image.node, image.iteration)
        owner = self._package.owners.get(image.node)
        if owner is None or owner not in self._points or place in self._asked:
            return
        ordinal = sum(1 for node, _ in self._asked if self._package.owners[node] == owner)
        self._asked.add(place)

        async def one() -> None:
            self._brought[place] = await _bring(self._desk, self._member, self._points[owner], image, ordinal)

        group.start_soon(one)

    def of(self, key: str) -> list[Rendering]:
        """What is on disk for a variation, ordered by node and iteration."""
        return [item for item in self._all(key) if isinstance(item, Rendering)]

    def problem(self, key: str) -> AttemptError | None:
        """Why one of its images cannot be had, if one cannot."""
        return next((item for item in self._all(key) if isinstance(item, AttemptError)), None)

    def complete(self, key: str) -> bool:
        """Whether every output node of the variation gave an image that is on disk."""
        done = {node for (node, _), item in self._brought.items() if isinstance(item, Rendering)}
        return bool(done) and done >= set(self._package.fused.outputs[key])

    def _all(self, key: str) -> list[Rendering | AttemptError]:
        return [item for place, item in sorted(self._brought.items()) if self._package.owners[place[0]] == key]


async def _bring(
    desk: RunContext, member: Member, point: JournalPoint, image: ServerImage, ordinal: int
) -> Rendering | AttemptError:
    """Fetch one image, verify it and write it; `ordinal` counts the images of a variation from 0.

    Gives the error where it cannot be had: the image was rendered, so what to do about it is the caller's
    business. Raises RecordError where it cannot be written.
    """
    tries = 0
    while True:
        try:
            async with desk.downloads:
                data = await member.server.fetch(image, desk.options.max_image_bytes)
                desk.checkpoint(checkpoints.FETCHED)
                saved = await desk.store.save(data, desk.stem(point), point.key, ordinal)
            desk.checkpoint(checkpoints._SAVED)
            return Rendering(
                path=saved.path,
                image_name=image.name,
                node=image.node,
                iteration=image.iteration,
                width=saved.width,
                height=saved.height,
                sha256=saved.sha256,
                size=saved.size,
            )
        except TransientError as error:
            tries += 1
            if tries >= (
                desk.options.attempts if isinstance(error, (NoAnswerError, OverloadedError)) else DOWNLOAD_TRIES
            ):
                return error
            asked = error.retry_after if isinstance(error, OverloadedError) else None
            await anyio.sleep(desk.options.backoff.delay(tries, desk.chance, asked))
        except AttemptError as error:
            return error


ABANDONED: Final = "Abandoned"  # the kind of an attempt whose server left, and may still render it when it is back
MOST_STRANDINGS: Final = 12  # of one job: a server that leaves at it every time is not waited for for ever


class Attempt:
    """`run` takes a job as far as it goes at one server and says what is left of it."""

    def __init__(self, desk: RunContext, member: Member, job: Job, give_slot_back: Callable[[], None]) -> None:
        self._desk = desk
        self._member = member
        self._job = job
        self._give_slot_back = give_slot_back
        self._intents = job.intents
        self._points = {instance.key: point(instance) for instance in job.instances}
        self._package = Package.adopted(job.instances, job.intents) if job.intents else Package.of(job.instances)
        self._settle = Settlement(desk, member, job, self._points)
        self._images = ItemDownloads(desk, member, self._package, self._points)

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
            self._images = ItemDownloads(self._desk, self._member, self._package, self._points)

    async def _intend(self) -> None:
        standing = self._job.standing
        if standing is None or self._job.intents:
            standing = await self._desk.journal.standing(list(self._points))
        numbers = {key: 1 + standing.get(key, KeyStatus()).attempts for key in self._points}
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

    async def _follow(self, ticket: Ticket) -> ItemEnded:
        """Listen until the item ends, fetching each image as soon as it is there."""
        ended: ItemEnded | AttemptError | ServerError = ItemLostError("the server stopped telling about the item")
        async with tasks() as fetching:
            try:
                async with aclosing(self._member.server.hear(ticket)) as told:  # type: ignore[type-var]
                    async for event in told:
                        if isinstance(event, ItemStarted):
                            self._tell_started()
                        elif isinstance(event, Rendered):
                            self._images.fetch(event.image, fetching)
                        else:
                            ended = event
            except ItemLostError as error:
                ended = error
            except TransientError as error:
                ended = _UnknownError(error.message)
            except (AttemptError, ServerError) as error:
                ended = error
            if isinstance(ended, ItemEnded):
                self._give_slot_back()
                self._desk.checkpoint(checkpoints.ENDED)
                self._learn(ended)
                if ended.images:
                    times = {key: self._settle.times(key, ended) for key in self._points}
                    await together(*(self._desk.journal.rendered(key, when) for key, when in times.items()))
                for image in ended.images:
                    self._images.fetch(image, fetching)
        if isinstance(ended, ItemEnded):
            return ended
        raise ended

    def _learn(self, ended: ItemEnded) -> None:
        if ended.error is None:
            begun, done = ended.started_at, ended.finished_at
            seconds = (done - begun).total_seconds() if begun and done else 0.0
            self._member.fusion.observe(len(self._points), seconds, ended.overhead)

    def _tell_started(self) -> None:
        for known in self._points.values():
            self._desk.listener(events.Started(key=known.key, index=known.index, server=self._member.name))

    async def _conclude(self, ended: ItemEnded) -> list[Next]:
        """Give each variation of the item its due: its images, its error, or another attempt."""
        left: list[Next] = []
        error = ended.error or VariationError("the workflow ended without an image", kind="NoImage")
        failed = self._package.blamed(ended.failed_node) if ended.error else frozenset()
        innocent: list[Instance] = []
        waiting: list[Instance] = []
        silence: AttemptError | None = None
        for instance in self._job.instances:
            problem = self._images.problem(instance.key)
            if isinstance(problem, (NoAnswerError, OverloadedError)):
                waiting.append(instance)
                silence = problem
            elif problem is not None:
                left += await self._settle.fell_short([instance], self._intents, problem)
            elif self._images.complete(instance.key):
                await self._settle.complete(instance, self._images.of(instance.key), ended)
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
