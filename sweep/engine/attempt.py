"""Attempts at items: submit one to a server, follow it, download its images and settle its outcome.

The order of writes is what keeps a crash harmless: the intent is committed before the request leaves, the end of the
item before its images are saved, and *completed* only when they are on disk. Every error on the way is either a row of
the table or another attempt; only a RecordError ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import anyio
from anyio.abc import TaskGroup

from sweep.engine import events
from sweep.engine.concurrency import ItemSlot, open_task_group, run_all
from sweep.engine.run_context import InFlightItem, RunContext
from sweep.engine.server_pool import PooledServer
from sweep.engine.work_queue import Job, make_batch_id, to_journal_point
from sweep.errors import (
    AttemptError,
    ItemLostError,
    OverloadedError,
    ServerError,
    ServerUnreachableError,
    SweepError,
    TransientError,
    VariationError,
)
from sweep.plan import Instance, fuse
from sweep.record import Failure, Intent, JournalPoint, KeyStatus, Rendering, SavedImage, Times
from sweep.servers import (
    TIMED_OUT,
    ItemEnded,
    ItemHeld,
    ItemStarted,
    MissingModelError,
    NoAnswerError,
    RefusedImageError,
    Rendered,
    ServerImage,
    StepDone,
    Submission,
    Ticket,
    saves_images,
)
from sweep.workflow import Names

ABANDONED: Final = "Abandoned"  # the kind of an attempt whose server left, and may still render it when it is back
COMMON_SIZE: Final = 24 * 1024 * 1024  # bytes of an image; larger ones are asked for one after the other
LONG_PAUSE: Final = 10.0  # seconds that a server asks for, from which on a person is told
ON_ITS_WAY: Final = 0.5  # seconds after which a request that was broken off has arrived, if it ever does
MOST_STRANDINGS: Final = 12  # of one job: a server that leaves at it every time is not waited for for ever
DOWNLOAD_TRIES: Final = 8  # to fetch one image: it was paid for, so it is asked for more often than it is rendered

INTENDED: Final = "attempt.intended"  # a checkpoint: on record, and nothing sent
TAKEN: Final = "attempt.taken"  # the server has it, the record does not know
ENDED: Final = "attempt.ended"  # the server is done, the record does not know
FETCHED: Final = "attempt.fetched"  # an image is in memory
SAVED: Final = "attempt.saved"  # an image is on disk, the record does not know
ENGINE_POINTS: Final = (INTENDED, TAKEN, ENDED, FETCHED, SAVED)  # in this order, for every attempt that goes well


def describe_error(error: AttemptError) -> str:
    """Return the error as one line, for rows and events."""
    return f"{error.kind}: {error.message}"


class ItemDownloads:
    """The images of one item, each fetched once, as soon as it is known."""

    def __init__(self, context: RunContext, item: InFlightItem) -> None:
        self._context = context
        self._server, self._points, self._outputs = item.server, item.points, item.fused.outputs
        self._owners = {node: key for key, nodes in self._outputs.items() for node in nodes}
        self._results: dict[tuple[str, int], Rendering | AttemptError | None] = {}  # None: it is under way

    def start(self, image: ServerImage, group: TaskGroup) -> None:
        """Start to fetch the image, unless that was begun before or it is none of the item's outputs."""
        place = (image.node, image.iteration)
        owner = self._owners.get(image.node)
        if owner is None or owner not in self._points or place in self._results:
            return
        ordinal = len(self._of(owner))
        self._results[place] = None

        async def download() -> None:
            self._results[place] = await self._download(self._points[owner], image, ordinal)

        group.start_soon(download)

    def find_error(self, key: str) -> AttemptError | None:
        """Return the error of one of the variation's images; None where all can be had."""
        return next((each for each in self._of(key) if isinstance(each, AttemptError)), None)

    def is_complete(self, key: str) -> bool:
        """Tell whether every output node of the variation gave an image that is on disk."""
        done = {node for (node, _), each in self._results.items() if isinstance(each, Rendering)}
        return bool(done) and done >= set(self._outputs[key])

    async def complete(self, keys: Sequence[str], ended: ItemEnded) -> None:
        """Write the outcome of variations whose images are on disk."""
        await run_all(*(self._complete(self._points[key], ended) for key in keys))

    async def _complete(self, point: JournalPoint, ended: ItemEnded) -> None:
        context, times = self._context, share_times(self._points, point.key, ended)
        begun, done = times.started_at, times.finished_at
        renderings = [each for each in self._of(point.key) if isinstance(each, Rendering)]
        await context.journal.complete(point.key, renderings, times)
        context.stop_for(context.failures.count(None))
        context.listener(
            events.Completed(
                key=point.key,
                index=point.index,
                server=self._server.name,
                values=point.values,
                paths=tuple(rendering.path for rendering in renderings),
                seconds=(done - begun).total_seconds() if begun and done else None,
            )
        )

    def _of(self, key: str) -> list[Rendering | AttemptError | None]:
        """List the results of a variation: its outputs in the order of the graph, each with its images in order."""
        outputs = self._outputs[key]
        own = [place for place in self._results if self._owners[place[0]] == key]
        return [self._results[place] for place in sorted(own, key=lambda at: (outputs.index(at[0]), at[1]))]

    async def _download(self, point: JournalPoint, image: ServerImage, ordinal: int) -> Rendering | AttemptError:
        """Fetch one image, verify it and write it; `ordinal` counts the images of a variation from 0.

        Returns the error where the image cannot be had: it was rendered, so what to do about it is the caller's
        business. Raises RecordError where it cannot be written.
        """
        tries = 0
        while True:
            try:
                return await self._save(point, image, ordinal)
            except TransientError as error:
                tries += 1
                is_server_busy = isinstance(error, (NoAnswerError, OverloadedError))
                if tries >= (self._context.options.attempts if is_server_busy else DOWNLOAD_TRIES):
                    return error
                asked = error.retry_after if isinstance(error, OverloadedError) else None
                await anyio.sleep(self._context.options.backoff.draw_delay(tries, self._context.chance, asked))
            except AttemptError as error:
                return error

    async def _save(self, point: JournalPoint, image: ServerImage, ordinal: int) -> Rendering:
        context, most = self._context, self._context.options.max_image_bytes
        common = most if saves_images(self._server.server) else min(COMMON_SIZE, most)  # whose bytes never come here
        try:
            saved = await self._fetch(point, image, ordinal, common)
        except VariationError as error:
            if error.kind != "TooLarge" or common == most:
                raise
            async with context.large_download:  # one at a time: it takes much memory
                saved = await self._fetch(point, image, ordinal, most)
        context.checkpoint(SAVED)
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

    async def _fetch(self, point: JournalPoint, image: ServerImage, ordinal: int, most: int) -> SavedImage:
        """Fetch and save an image of at most `most` bytes."""
        context, server = self._context, self._server.server
        stem = context.store.stem(point.index, point.values, context.kinds)
        if saves_images(server):
            part = await server.save(image, most, context.store.part_writer)
            context.checkpoint(FETCHED)
            return await context.store.place(part, stem, point.key, ordinal)
        async with context.downloads:
            data = await server.fetch(image, most)
            context.checkpoint(FETCHED)
            try:
                return await context.store.save(data, stem, point.key, ordinal)
            except SweepError as error:
                error.__cause__ = error.__context__ = None  # an error that is kept would keep the image's bytes, too
                raise error.with_traceback(None) from None
            finally:
                del data


def share_times(points: Mapping[str, JournalPoint], key: str, ended: ItemEnded) -> Times:
    """Return when the server had a variation: of a fused item an equal share, since its nodes interleave."""
    begun, done = ended.started_at, ended.finished_at
    if begun and done and len(points) > 1:
        share = (done - begun) / len(points)
        begun += share * list(points).index(key)
        done = begun + share
    return Times(queued_at=ended.queued_at, started_at=begun, finished_at=done)


class Attempt:
    """Runs a job at a server: `run` submits it, waits for its images and returns the jobs to try again."""

    def __init__(self, context: RunContext, server: PooledServer, job: Job, slot: ItemSlot) -> None:
        self._context = context
        self._journal = context.journal
        self._server = server
        self._job = job
        self._slot = slot
        self._intents = job.intents
        self._is_new = False  # the server has the item, and the record does not know it yet
        self._points = {instance.key: to_journal_point(instance) for instance in job.instances}
        self._build_item()

    def _build_item(self) -> None:
        self._fused = fuse(self._job.instances)
        if self._intents:  # the item that an earlier attempt sent may hold more variations
            outputs = {intent.key: intent.outputs for intent in self._intents}
            self._fused = replace(self._fused, outputs=outputs)
        self._item = InFlightItem(self._server, self._points, self._fused)
        self._downloads = ItemDownloads(self._context, self._item)

    async def run(self) -> list[Job]:
        """Return what is to be tried again. Raises RecordError; everything else is a row, or another attempt.

        Cancelled meanwhile, the item stays among those in flight: it is at the server still.
        """
        try:
            left = await self._run()
        finally:
            self._slot.release_server()
        self._forget_item()
        return left

    async def _run(self) -> list[Job]:
        instances = self._job.instances
        try:
            ended = await self._follow(await self._obtain_ticket())
        except ServerError as error:
            return await self._leave_open(instances, error)
        except OverloadedError as error:
            return await self._put_back(error)
        except AttemptError as error:
            if isinstance(error, VariationError | RefusedImageError) and len(instances) > 1:
                return await self._resubmit_alone(instances)
            tried = self._job.avoid | {self._server.url}
            if isinstance(error, RefusedImageError) and all(each.url in tried for each in self._context.pool.servers):
                error.most_attempts = 2  # no other is left, and this one may only have stumbled
            if isinstance(error, MissingModelError):  # installed at the start, and deleted since
                self._server.lacking[error.ref] = f"has no {error.ref.type} model {error.ref.name} any more"
            return await self._retry_or_fail(instances, error)
        self._server.record_success()
        self._forget_item()
        return await self._settle(ended)

    def _forget_item(self) -> None:
        """Take the item off the list of those in flight: the server has nothing of it any more."""
        for intent in self._intents[:1]:
            self._context.in_flight.pop(intent.batch_id, None)

    async def _obtain_ticket(self) -> Ticket:
        """Return the item of an earlier attempt where its server still has it, else submit a new one.

        An intent that was submitted and is unknown now counts as an attempt: some servers forget everything when
        they die, and the variation may be what made this one die. One that never arrived counts nothing.
        """
        if self._job.home == self._server.url:
            self._announce()
            if ticket := await self._find_item():
                if self._intents[0].state == "intended":
                    self._note_taken(ticket)
                return ticket
            if self._intents[0].state != "intended":
                raise ItemLostError(f"{self._server.name} took the item and does not know it any more")
            await run_all(*(self._journal.withdraw(intent.key) for intent in self._intents))
        elif self._intents:
            await self._take_over()
        if self._intents:
            self._forget_item()
            self._intents = ()
            self._build_item()
        await self._write_intents()
        self._context.checkpoint(INTENDED)
        return await self._submit()

    async def _take_over(self) -> None:
        """Close the attempts at a server that left. They count, since the variation may be what made it leave."""
        intents = self._intents
        self._context.pool.abandon(intents[0])
        error = ItemLostError(f"{intents[0].server} left with it", kind=ABANDONED)
        if any(intent.number >= self._context.options.attempts for intent in intents):
            raise error
        failure = Failure(kind=error.kind, message=error.message)
        await run_all(*(self._journal.mark_attempt_failed(intent.key, failure) for intent in intents))

    async def _write_intents(self) -> None:
        standing = self._job.standing
        if standing is None or self._job.intents:
            standing = await self._journal.find_statuses(list(self._points))
        numbers = {key: 1 + standing.get(key, KeyStatus()).attempts for key in self._points}
        batch_id = make_batch_id(self._context.destination, self._context.run, numbers)
        self._intents = tuple(
            Intent(
                key=key,
                number=number,
                server=self._server.name,
                url=self._server.url,
                batch_id=batch_id,
                outputs=self._fused.outputs[key],
            )
            for key, number in numbers.items()
        )
        self._announce()
        await run_all(*(self._journal.intend(self._points[i.key], i) for i in self._intents))

    def _announce(self) -> None:
        self._context.in_flight[self._intents[0].batch_id] = self._item
        server, listener = self._server.name, self._context.listener
        for intent in self._intents:
            index = self._points[intent.key].index
            listener(events.Submitted(key=intent.key, index=index, server=server, attempt=intent.number))

    async def _submit(self) -> Ticket:
        options = self._context.options
        batch_id = self._intents[0].batch_id
        submission = Submission(
            batch_id=batch_id,
            graph=self._fused.graph,
            outputs=self._fused.output_nodes,
            destination=self._context.destination,
            images=self._fused.images,
            board=options.board,
            intermediate=options.intermediate,
            metadata=self._fused.metadata,
            priority=options.priority,
            tells_steps=options.tells_steps,
        )
        if self._fused.images:
            await self._context.uploads.recall(self._server)  # it may have joined late
        try:
            ticket = await self._server.server.submit(submission)
        except TransientError as error:
            found = await self._find_submitted(error)
            if found is None:
                raise
            ticket = found
        self._context.pool.record_acceptance(self._server)
        if self._fused.images:
            await self._context.uploads.keep(self._server)
        self._context.checkpoint(TAKEN)
        self._note_taken(ticket)
        return ticket

    def _note_taken(self, ticket: Ticket) -> None:
        self._intents = tuple(replace(each, item_id=ticket.item_id, state="submitted") for each in self._intents)
        self._is_new = True

    async def _find_item(self) -> Ticket | None:
        try:
            return await self._server.server.find(self._intents[0].batch_id, self._fused.output_nodes)
        except AttemptError as error:
            raise ServerUnreachableError(error.message) from error

    async def _find_submitted(self, error: TransientError) -> Ticket | None:
        """Look for an item whose submission failed: the server may have it all the same.

        A second time where the request may be on its way still, as behind a proxy that gave up too early. A server
        that says twice that it is overloaded is believed.
        """
        if isinstance(error, NoAnswerError) and error.reason == TIMED_OUT:
            raise ServerUnreachableError(error.message) from error  # it would not answer the next question, either
        if isinstance(error, OverloadedError) and error.is_certain:
            return None
        try:
            found = await self._find_item()
        except ServerUnreachableError as silence:
            if isinstance(error, OverloadedError) and isinstance(silence.__cause__, OverloadedError):
                return None
            raise
        if found is None and (isinstance(error, NoAnswerError) or error.kind.startswith("HTTP 5")):
            await anyio.sleep(min(ON_ITS_WAY, self._context.options.backoff.compute_longest_delay(1)))
            found = await self._find_item()
        return found

    async def _follow(self, ticket: Ticket) -> ItemEnded:
        """Listen until the item ends, fetching each image as soon as it is there.

        Nothing waits for what is written meanwhile: a crash before that is durable costs a question to the server.
        """
        async with open_task_group() as group:
            if self._is_new:
                group.start_soon(self._journal.mark_submitted, ticket.batch_id, ticket.item_id)
            ended = await self._hear(ticket, group)
            if isinstance(ended, ItemEnded):
                self._slot.release_server()
                self._context.checkpoint(ENDED)
                self._observe_duration(ended)
                for image in ended.images:
                    self._downloads.start(image, group)
                if ended.images:
                    times = {key: share_times(self._points, key, ended) for key in self._points}
                    await run_all(*(self._journal.mark_rendered(key, each) for key, each in times.items()))
        if isinstance(ended, ItemEnded):
            return ended
        raise ended

    async def _hear(self, ticket: Ticket, group: TaskGroup) -> ItemEnded | AttemptError | ServerError:
        """Return how the item ended, or the error that hides it, to be raised when the downloads are over."""
        try:
            async with aclosing(self._server.server.hear(ticket)) as heard:  # type: ignore[type-var]
                async for event in heard:
                    if isinstance(event, ItemEnded):
                        return event
                    if isinstance(event, Rendered):
                        self._downloads.start(event.image, group)
                    else:
                        self._report(event)
        except ItemLostError as error:
            return error
        except TransientError as error:
            return ServerUnreachableError(error.message)
        except (AttemptError, ServerError) as error:
            return error
        return ItemLostError("the server stopped telling about the item")

    def _observe_duration(self, ended: ItemEnded) -> None:
        if ended.error is None:
            begun, done = ended.started_at, ended.finished_at
            seconds = (done - begun).total_seconds() if begun and done else 0.0
            is_awaited = self._server.fusion.is_learning  # the next item's size waits for this
            self._server.fusion.observe(len(self._points), seconds, ended.overhead)
            if is_awaited:
                self._context.pool.changes.notify()

    def _report(self, event: ItemStarted | ItemHeld | StepDone) -> None:
        """Report how far the item is; of a node that several of its variations need, nothing."""
        server, listener = self._server, self._context.listener
        if isinstance(event, StepDone):
            keys = self._fused.find_affected_keys(event.node)
            for point in (self._points[key] for key in keys if len(keys) == 1):
                listener(events.Advanced(key=point.key, index=point.index, share=event.share))
        elif isinstance(event, ItemStarted):
            server.hold_reason = ""
            for point in self._points.values():
                listener(events.Started(key=point.key, index=point.index, server=server.name))
        elif server.hold_reason != event.reason:
            server.hold_reason = event.reason
            listener(events.Notice(message=f"Waiting: {event.reason}."))

    async def _settle(self, ended: ItemEnded) -> list[Job]:
        """Give each variation of the item its images, its error, or another attempt."""
        # By an earlier run: what had been rendered is kept, the rest submitted anew.
        is_cancelled = ended.status == "canceled" and any(intent.is_cancel_requested for intent in self._intents)
        is_fused = len(self._job.instances) > 1
        left: list[Job] = []
        error = self._name_node(ended) or VariationError("the workflow ended without an image", kind="NoImage")
        culprits = self._fused.find_affected_keys(ended.failed_node) if ended.error else ()
        blames_all = len(culprits) == len(self._job.instances)  # so it says nothing about which is at fault
        innocent: list[Instance] = []
        done: list[str] = []
        waiting: list[Instance] = []
        silence: AttemptError | None = None
        for instance in self._job.instances:
            problem = self._downloads.find_error(instance.key)
            if isinstance(problem, (NoAnswerError, OverloadedError)):
                waiting.append(instance)
                silence = problem
            elif problem is not None:
                self._context.stop_for(self._context.failures.count_waste(describe_error(problem)))
                left += await self._retry_or_fail([instance], problem)
            elif self._downloads.is_complete(instance.key):
                done.append(instance.key)
            elif is_cancelled or (ended.error and is_fused and (instance.key not in culprits or blames_all)):
                innocent.append(instance)
            else:
                left += await self._retry_or_fail([instance], error)
        await self._downloads.complete(done, ended)
        if silence is not None:
            left += await self._leave_open(waiting, ServerUnreachableError(silence.message))
        return left + await self._resubmit_alone(innocent)

    def _name_node(self, ended: ItemEnded) -> AttemptError | None:
        """Return the item's error with the name of the node that failed, as its author knows it."""
        if ended.error is None or ended.failed_node not in self._fused.graph.nodes:
            return ended.error
        return ended.error.at(Names(self._fused.graph).name_node(str(ended.failed_node)))

    async def _resubmit_alone(self, instances: Sequence[Instance]) -> list[Job]:
        """Resubmit the variations of a failed fused item one by one, at once, without counting an attempt."""
        await run_all(*(self._journal.withdraw(instance.key) for instance in instances))
        return [Job(instances=(instance,)) for instance in instances]

    async def _retry_or_fail(self, instances: Sequence[Instance], error: AttemptError) -> list[Job]:
        """Give these another attempt where that may help, else a failed row: this one brought nothing for them."""
        numbers = {intent.key: intent.number for intent in self._intents}
        again: list[Instance] = []
        for instance in instances:
            most = min(self._context.options.attempts, error.most_attempts or self._context.options.attempts)
            if isinstance(error, TransientError) and numbers.get(instance.key, 1) < most:
                again.append(instance)
            else:
                await self._fail(instance, error)
        if not again:
            return []
        failure = Failure(kind=error.kind, message=error.message)
        await run_all(*(self._journal.mark_attempt_failed(i.key, failure) for i in again))
        attempt = max(numbers.values(), default=1)
        delay = self._context.options.backoff.draw_delay(attempt, self._context.chance)
        for instance in again:
            self._context.listener(
                events.Retrying(
                    key=instance.key,
                    index=instance.variation.index,
                    server=self._server.name,
                    attempt=numbers.get(instance.key, 1),
                    delay=delay,
                    error=describe_error(error),
                )
            )
        job = replace(self._job.retry(avoid=self._server.url), not_before=anyio.current_time() + delay)
        return [replace(job, instances=(instance,)) for instance in again]

    async def _fail(self, instance: Instance, error: AttemptError) -> None:
        await self._journal.fail(self._points[instance.key], Failure(kind=error.kind, message=error.message))
        self._context.stop_for(self._context.failures.count(describe_error(error)))
        self._context.listener(
            events.Failed(
                key=instance.key,
                index=instance.variation.index,
                server=self._server.name,
                values=instance.variation.values,
                error=describe_error(error),
            )
        )

    async def _leave_open(self, instances: Sequence[Instance], error: ServerError) -> list[Job]:
        """Suspend the server; what it has of ours stays open until it answers or another takes it over."""
        self._context.pool.suspend(self._server, error)
        if self._job.strandings >= MOST_STRANDINGS:
            self._context.pool.abandon(self._intents[0])
            lost = ItemLostError(f"{self._server.name} left {MOST_STRANDINGS} times while it had it", kind=ABANDONED)
            return await self._retry_or_fail(instances, lost)
        keys = {instance.key for instance in instances}
        intents = tuple(intent for intent in self._intents if intent.key in keys)
        job = replace(self._job, instances=tuple(instances), intents=intents, strandings=self._job.strandings + 1)
        return [job]

    async def _put_back(self, error: OverloadedError) -> list[Job]:
        """Put the job back where the server took nothing: no attempt is counted, however often it says so.

        The server is left alone for a while; the job is not, since another server may have room for it.
        """
        delay = self._context.options.backoff.draw_delay(self._job.attempt, self._context.chance, error.retry_after)
        if delay >= LONG_PAUSE and not self._server.hold_seconds:
            message = f"Waiting: {self._server.name} asked for a pause of {delay:.0f} s ({error.message})"
            self._context.listener(events.Notice(message=message))
        if reason := self._server.record_refusal(error, delay):
            self._context.pool.suspend(self._server, reason)
        await run_all(*(self._journal.withdraw(key) for key in self._points))
        return [self._job.retry(avoid=self._server.url)]
