"""What becomes of the variations of an item that is over: a row completed, a row failed, or another attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sweep.engine import events
from sweep.engine.desk import Desk, Next
from sweep.engine.pool import Member
from sweep.engine.tasks import together
from sweep.engine.work import Job
from sweep.errors import AttemptError, TransientError
from sweep.plan.instance import Instance
from sweep.record.base import Failure, Intent, Point, Rendering, Times
from sweep.servers.base import Ended


class Settlement:
    """Writes the outcomes of one job at one server."""

    def __init__(self, desk: Desk, member: Member, job: Job, points: dict[str, Point]) -> None:
        self._desk = desk
        self._member = member
        self._job = job
        self._points = points

    def times(self, key: str, ended: Ended) -> Times:
        """When the server had the variation: of an item of several, its equal share, since they run interleaved."""
        begun, done = ended.started_at, ended.finished_at
        if begun and done and len(self._points) > 1:
            share = (done - begun) / len(self._points)
            begun += share * list(self._points).index(key)
            done = begun + share
        return Times(queued_at=ended.queued_at, started_at=begun, finished_at=done)

    async def complete(self, instance: Instance, renderings: Sequence[Rendering], ended: Ended) -> None:
        """Its pictures are on disk."""
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
