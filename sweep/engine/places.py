"""The room an item takes: a slot at its server while it renders there, and a place in the run until it is on disk.

Two bounds, because they end at different moments. The slot is given back as soon as the server is done, so that a
slow disk or network never keeps a GPU waiting; the place is kept, so that pictures waiting to be written are bounded.
"""

from __future__ import annotations

import anyio


class Place:
    """What one item holds. Giving back twice changes nothing."""

    def __init__(self, slots: anyio.CapacityLimiter, places: anyio.CapacityLimiter) -> None:
        self._slots: anyio.CapacityLimiter | None = slots
        self._places: anyio.CapacityLimiter | None = places

    def give_slot_back(self) -> None:
        """The server is done with the item."""
        if self._slots is not None:
            self._slots.release_on_behalf_of(self)
            self._slots = None

    def leave(self) -> None:
        """The item is over."""
        self.give_slot_back()
        if self._places is not None:
            self._places.release_on_behalf_of(self)
            self._places = None


class Places:
    """All places of a run: `most` items may be rendering, downloading or being written."""

    def __init__(self, most: int) -> None:
        self._places = anyio.CapacityLimiter(most)

    async def enter(self, slots: anyio.CapacityLimiter) -> Place:
        """Wait for a place and a slot at a server."""
        place = Place(slots, self._places)
        await self._places.acquire_on_behalf_of(place)
        try:
            await slots.acquire_on_behalf_of(place)
        except BaseException:
            self._places.release_on_behalf_of(place)
            raise
        return place
