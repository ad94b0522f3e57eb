"""Points of one key: they have one picture, which is rendered once, and a row each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sweep.engine.events import Completed, Failed, Listener
from sweep.engine.packing import point
from sweep.engine.work import Job
from sweep.plan.instance import Instance
from sweep.record.base import Journal, Standing


class Twins:
    """Lets the first point of a key through and keeps the others until that has its outcome."""

    def __init__(self, journal: Journal, listener: Listener) -> None:
        self._journal = journal
        self._listener = listener
        self._behind: dict[str, list[Instance]] = {}  # by key under way: the points that wait for it

    def begin(self, keys: Iterable[str]) -> None:
        """These are under way from before."""
        for key in keys:
            self._behind.setdefault(key, [])

    async def admit(self, job: Job) -> Job | None:
        """What of a job is to be rendered; None where nothing is. Raises RecordError."""
        if job.admitted:
            return job
        first: list[Instance] = []
        for instance in job.instances:
            if instance.key in self._behind:
                self._behind[instance.key].append(instance)
            else:
                self._behind[instance.key] = []
                first.append(instance)
        standing = await self._journal.standing([instance.key for instance in first])
        there = [each for each in first if standing.get(each.key, Standing()).state in ("completed", "failed")]
        await self._place(there, standing)
        await self.over([instance.key for instance in there])
        left = tuple(instance for instance in first if instance not in there)
        return replace(job, instances=left, admitted=True, standing=standing) if left else None

    async def over(self, keys: Sequence[str]) -> None:
        """These have their outcome on record: so have their twins."""
        for key in keys:
            behind = self._behind.pop(key, [])
            if behind:
                await self._place(behind, await self._journal.standing([key]))

    async def _place(self, instances: Sequence[Instance], standing: dict[str, Standing]) -> None:
        await self._journal.rebase(point(instance) for instance in instances)
        for instance in instances:
            index, values = instance.variation.index, instance.variation.values
            if standing[instance.key].state == "failed":
                said = "its twin of the same key failed"
                self._listener(Failed(key=instance.key, index=index, server=None, values=values, error=said))
            else:
                self._listener(
                    Completed(key=instance.key, index=index, server=None, values=values, paths=(), seconds=None)
                )
