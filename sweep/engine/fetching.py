"""From pictures on a server to whole files on disk, with patience for the way between."""

from __future__ import annotations

from typing import Final

import anyio
from anyio.abc import TaskGroup

from sweep.engine import checkpoints
from sweep.engine.desk import Desk
from sweep.engine.packing import Package
from sweep.engine.pool import Member
from sweep.errors import AttemptError, OverloadedError, TransientError
from sweep.record.base import Point, Rendering
from sweep.servers.base import ServerImage
from sweep.servers.faults import NoAnswerError

TRIES: Final = 8  # to fetch one picture: it was paid for, so it is asked for more often than a rendering is tried


class Pictures:
    """The pictures of one item, each fetched once, as soon as it is known."""

    def __init__(self, desk: Desk, member: Member, package: Package, points: dict[str, Point]) -> None:
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
        """Why one of its pictures cannot be had, if one cannot."""
        return next((item for item in self._all(key) if isinstance(item, AttemptError)), None)

    def complete(self, key: str) -> bool:
        """Whether every output node of the variation gave a picture that is on disk."""
        done = {node for (node, _), item in self._brought.items() if isinstance(item, Rendering)}
        return bool(done) and done >= set(self._package.fused.outputs[key])

    def _all(self, key: str) -> list[Rendering | AttemptError]:
        return [item for place, item in sorted(self._brought.items()) if self._package.owners[place[0]] == key]


async def _bring(
    desk: Desk, member: Member, point: Point, image: ServerImage, ordinal: int
) -> Rendering | AttemptError:
    """Fetch one picture, verify it and write it; `ordinal` counts the pictures of a variation from 0.

    Gives the error where it cannot be had: the picture was rendered, so what to do about it is the caller's
    business. Raises RecordError where it cannot be written.
    """
    tries = 0
    while True:
        try:
            async with desk.downloads:
                data = await member.server.fetch(image, desk.options.max_image_bytes)
                desk.checkpoint(checkpoints.FETCHED)
                saved = await desk.store.save(data, desk.stem(point), point.key, ordinal)
            desk.checkpoint(checkpoints.SAVED)
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
            if tries >= (desk.options.attempts if isinstance(error, (NoAnswerError, OverloadedError)) else TRIES):
                return error
            asked = error.retry_after if isinstance(error, OverloadedError) else None
            await anyio.sleep(desk.options.backoff.delay(tries, desk.chance, asked))
        except AttemptError as error:
            return error
