"""From a picture on a server to a whole file on disk, with patience for the way between."""

from __future__ import annotations

import anyio

from sweep.engine.desk import Desk
from sweep.engine.pool import Member
from sweep.errors import AttemptError, TransientError
from sweep.record.base import Point, Rendering
from sweep.servers.base import ServerImage


async def bring(desk: Desk, member: Member, point: Point, image: ServerImage, ordinal: int) -> Rendering | AttemptError:
    """Fetch one picture, verify it and write it; `ordinal` counts the pictures of a variation from 0.

    Gives the error where it cannot be had: the picture was rendered, so what to do about it is the caller's
    business. Raises RecordError where it cannot be written.
    """
    tries = 0
    while True:
        try:
            async with desk.downloads:
                data = await member.server.fetch(image, desk.options.max_image_bytes)
                saved = await desk.store.save(data, desk.stem(point), point.key, ordinal)
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
            if tries >= desk.options.attempts:
                return error
            await anyio.sleep(desk.options.backoff.delay(tries, desk.chance))
        except AttemptError as error:
            return error
