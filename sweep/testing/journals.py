"""Conformance kit of `Journal`, to be run against any implementation: `for case in CASES: await case(open_again)`.

`open_again` opens the *same*, at first empty, record anew each time it is called, as the next process would. A case
raises AssertionError where the contract is broken.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sweep.errors import RecordError
from sweep.record import Failure, Intent, Journal, JournalPoint, JournalState, KeyStatus, Rendering, RunFacts, Times

OpenAgain: TypeAlias = "Callable[[], Awaitable[Journal]]"
JournalCase: TypeAlias = "Callable[[OpenAgain], Coroutine[Any, Any, None]]"

FACTS = RunFacts(experiment="name: kit", fingerprint="first", axes=(("seed", "seed"),), points=8)
TIMES = Times(started_at=datetime(2026, 1, 1, tzinfo=UTC), finished_at=datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC))
BAD = Failure(kind="ValueError", message="noise and image sizes differ")


def a_point(index: int, key: str | None = None) -> JournalPoint:
    """Make a point whose key follows from its index, unless another is given."""
    return JournalPoint(key=key or f"{index:032x}", index=index, values={"seed": index}, prompt="a cup", model="tiny")


def an_intent(point: JournalPoint, number: int = 1, batch: str | None = None) -> Intent:
    """Make an attempt at a point, under a batch id of its own unless one is given."""
    return Intent(
        key=point.key,
        number=number,
        server="gpu1",
        url="http://gpu1",
        batch_id=batch or f"b{point.index}-{number}",
        outputs=("decode",),
    )


def a_rendering(point: JournalPoint, ordinal: int = 0) -> Rendering:
    """Make an image of a point."""
    return Rendering(
        path=f"images/{point.key}_{ordinal}.png",
        image_name=f"{point.key}.png",
        node="decode",
        iteration=ordinal,
        width=64,
        height=64,
        sha256=f"{ordinal:064x}",
        size=1000,
    )


@asynccontextmanager
async def _open(open_again: OpenAgain, facts: RunFacts | None = None) -> AsyncIterator[Journal]:
    journal = await open_again()
    try:
        if facts is not None:
            await journal.begin_run(facts)
        yield journal
    finally:
        await journal.aclose()


async def expect_refusal(step: Awaitable[object]) -> None:
    """Check that the journal refuses a step that is no transition of a variation's states."""
    try:
        await step
    except RecordError:
        return
    raise AssertionError("an illegal step was accepted")


async def _complete(journal: Journal, point: JournalPoint, number: int = 1) -> None:
    await journal.intend(point, an_intent(point, number))
    await journal.mark_submitted(f"b{point.index}-{number}", f"item{point.index}")
    await journal.mark_rendered(point.key, TIMES)
    await journal.complete(point.key, [a_rendering(point)], TIMES)


async def _states(journal: Journal, points: Iterable[JournalPoint]) -> list[JournalState | None]:
    known = await journal.find_statuses([point.key for point in points])
    return [known.get(point.key, KeyStatus()).state for point in points]


async def _count_attempts(journal: Journal, key: str) -> int:
    return (await journal.find_statuses([key])).get(key, KeyStatus()).attempts


async def a_new_record_is_empty(open_again: OpenAgain) -> None:
    async with _open(open_again) as journal:
        assert await journal.fingerprint() is None
        assert list(await journal.indices("completed")) == []
        assert await journal.open_intents() == []
        assert await journal.find_statuses(["nothing"]) == {}
        assert await journal.list_ended_with("Lost", "http://nowhere") == []
        assert (await journal.counts()).points == 0
        await expect_refusal(journal.identity())


async def runs_are_numbered_and_remembered(open_again: OpenAgain) -> None:
    async with _open(open_again) as journal:
        assert await journal.begin_run(FACTS) == 1
        await journal.end_run(1, "interrupted")
        identity = await journal.identity()
    async with _open(open_again) as journal:
        assert await journal.fingerprint() == "first"
        assert await journal.begin_run(replace(FACTS, fingerprint="second")) == 2
        assert await journal.fingerprint() == "second"
        assert await journal.identity() == identity
        await expect_refusal(journal.end_run(7, "completed"))


async def the_way_of_a_variation_survives_reopening(open_again: OpenAgain) -> None:
    point = a_point(3)
    async with _open(open_again, FACTS) as journal:
        await journal.intend(point, an_intent(point))
        assert await _states(journal, [point]) == ["intended"]
    async with _open(open_again) as journal:
        (intent,) = await journal.open_intents()
        assert intent == replace(an_intent(point), index=3)
        await journal.mark_submitted("b3-1", "item3")
        assert await _states(journal, [point]) == ["submitted"]
    async with _open(open_again) as journal:
        (intent,) = await journal.open_intents()
        assert (intent.item_id, intent.state) == ("item3", "submitted")
        await journal.mark_rendered(point.key, TIMES)
        assert await _states(journal, [point]) == ["rendered"]
        assert (await journal.counts()).open == 1
    async with _open(open_again) as journal:
        await journal.complete(point.key, [a_rendering(point)], Times())
    async with _open(open_again) as journal:
        assert await _states(journal, [point]) == ["completed"]
        assert await journal.open_intents() == []
        assert list(await journal.indices("completed")) == [3]
        assert list(await journal.indices("completed", "failed")) == [3]
        assert await journal.keys("completed") == [point.key]
        assert await _count_attempts(journal, point.key) == 1


async def an_outcome_is_never_changed(open_again: OpenAgain) -> None:
    done, bad, gone = a_point(0), a_point(1), a_point(2)
    async with _open(open_again, FACTS) as journal:
        await _complete(journal, done)
        await journal.fail(bad, BAD)
        await journal.intend(gone, an_intent(gone))
        await journal.cancel(gone.key)
        for point in (done, bad, gone):
            await expect_refusal(journal.intend(point, an_intent(point, 2)))
            await expect_refusal(journal.mark_rendered(point.key, TIMES))
            await expect_refusal(journal.mark_attempt_failed(point.key, BAD))
            await expect_refusal(journal.withdraw(point.key))
            await expect_refusal(journal.complete(point.key, [a_rendering(point, 1)], TIMES))
            await expect_refusal(journal.fail(point, Failure(kind="Other", message="another")))
        await expect_refusal(journal.cancel(done.key))
        await expect_refusal(journal.cancel(bad.key))
        assert await _states(journal, [done, bad, gone]) == ["completed", "failed", "cancelled"]
        counts = await journal.counts()
        assert (counts.completed, counts.failed, counts.cancelled, counts.open) == (1, 1, 1, 0)


async def a_step_taken_twice_is_taken_once(open_again: OpenAgain) -> None:
    done, bad, gone = a_point(0), a_point(1), a_point(2)
    async with _open(open_again, FACTS) as journal:
        await journal.intend(done, an_intent(done))
        for _ in range(2):
            await journal.mark_submitted("b0-1", "item0")
        for _ in range(2):
            await journal.mark_rendered(done.key, TIMES)
        await journal.mark_submitted("b0-1", "item0")
        assert await _states(journal, [done]) == ["rendered"]
        await journal.intend(gone, an_intent(gone))
        for _ in range(2):
            await journal.complete(done.key, [a_rendering(done)], TIMES)
            await journal.fail(bad, BAD)
            await journal.cancel(gone.key)
        assert await _states(journal, [done, bad, gone]) == ["completed", "failed", "cancelled"]
        assert await _count_attempts(journal, done.key) == 1


async def steps_off_the_way_are_refused(open_again: OpenAgain) -> None:
    point = a_point(0)
    async with _open(open_again) as journal:
        await expect_refusal(journal.intend(point, an_intent(point)))
        await journal.begin_run(FACTS)
        await expect_refusal(journal.mark_submitted("unknown", "item"))
        await expect_refusal(journal.mark_rendered(point.key, TIMES))
        await expect_refusal(journal.complete(point.key, [a_rendering(point)], TIMES))
        await expect_refusal(journal.mark_attempt_failed(point.key, BAD))
        await expect_refusal(journal.cancel(point.key))
        await expect_refusal(journal.rebase([point]))
        assert await journal.find_statuses([point.key]) == {}
        await journal.intend(point, an_intent(point))
        await expect_refusal(journal.intend(point, an_intent(point, 2)))
        await expect_refusal(journal.complete(point.key, [], TIMES))
        assert await _states(journal, [point]) == ["intended"]


async def attempts_are_counted_over_restarts(open_again: OpenAgain) -> None:
    point = a_point(0)
    for number in (1, 2, 3):
        async with _open(open_again, FACTS) as journal:
            assert await _count_attempts(journal, point.key) == number - 1
            await journal.intend(point, an_intent(point, number))
            await journal.mark_attempt_failed(point.key, BAD)
            assert await _states(journal, [point]) == [None]
            assert await journal.open_intents() == []
    async with _open(open_again) as journal:
        await journal.intend(point, an_intent(point, 4))
        await journal.withdraw(point.key)
        assert await _count_attempts(journal, point.key) == 3
        assert await journal.find_statuses([point.key, "unknown"]) == {point.key: KeyStatus(attempts=3)}
        assert await journal.list_ended_with(BAD.kind, "http://gpu1") == ["b0-3", "b0-2", "b0-1"]
        assert await journal.list_ended_with(BAD.kind, "http://gpu2") == []
        await journal.fail(point, BAD)
        assert await journal.find_statuses([point.key]) == {point.key: KeyStatus(state="failed", attempts=3)}
        assert await journal.reopen([point.key, "unknown"]) == 1
        assert await _count_attempts(journal, point.key) == 0
        await _complete(journal, point)


async def what_was_reopened_is_rendered_again(open_again: OpenAgain) -> None:
    kept, lost, bad, begun = (a_point(index) for index in range(4))
    async with _open(open_again, FACTS) as journal:
        await _complete(journal, kept)
        await _complete(journal, lost)
        await journal.fail(bad, BAD)
        await journal.intend(begun, an_intent(begun))
        assert await journal.reopen([lost.key, bad.key, begun.key, "unknown"]) == 2
        assert await _states(journal, [kept, lost, bad, begun]) == ["completed", None, None, "intended"]
        assert list(await journal.indices("completed")) == [0]
        assert await _count_attempts(journal, lost.key) == 0
        await _complete(journal, lost, 2)
        assert list(await journal.indices("completed")) == [0, 1]


async def fused_keys_share_a_batch(open_again: OpenAgain) -> None:
    points = [a_point(index) for index in range(3)]
    async with _open(open_again, FACTS) as journal:
        for point in points:
            await journal.intend(point, an_intent(point, batch="fused"))
        await journal.mark_attempt_failed(points[0].key, BAD)
        await journal.mark_submitted("fused", "item")
        assert await _states(journal, points) == [None, "submitted", "submitted"]
        assert [intent.item_id for intent in await journal.open_intents()] == ["item", "item"]
        await journal.complete(points[1].key, [a_rendering(points[1])], TIMES)
        await journal.fail(points[2], BAD)
        assert await _states(journal, points) == [None, "completed", "failed"]
        assert await journal.open_intents() == []


async def an_edited_definition_keeps_what_it_shares(open_again: OpenAgain) -> None:
    points = [a_point(index) for index in range(3)]
    async with _open(open_again, FACTS) as journal:
        for point in points:
            await _complete(journal, point)
    async with _open(open_again, replace(FACTS, fingerprint="edited")) as journal:
        assert list(await journal.indices("completed")) == []
        assert (await journal.counts()).former == 3
        assert await _states(journal, points) == ["completed"] * 3
        await journal.rebase([replace(points[2], index=0)])
        await journal.rebase([replace(points[1], index=5)])
        assert list(await journal.indices("completed")) == [0, 5]
        counts = await journal.counts()
        assert (counts.completed, counts.former) == (2, 1)
    async with _open(open_again, replace(FACTS, fingerprint="edited")) as journal:
        assert list(await journal.indices("completed")) == [0, 5]


async def two_points_may_share_an_image(open_again: OpenAgain) -> None:
    point = a_point(0)
    twin = a_point(4, point.key)
    async with _open(open_again, FACTS) as journal:
        await journal.intend(point, an_intent(point))
        await journal.rebase([twin])
        assert (await journal.counts()).open == 2
        await journal.complete(point.key, [a_rendering(point)], TIMES)
        await journal.rebase([twin])
        assert list(await journal.indices("completed")) == [0, 4]
        assert (await journal.counts()).former == 0


async def seeds_are_drawn_once(open_again: OpenAgain) -> None:
    async with _open(open_again, FACTS) as journal:
        four = await journal.seeds("seed", 4)
        assert len(set(four)) == 4
        assert all(0 <= seed < 2**32 for seed in four)
    async with _open(open_again) as journal:
        six = await journal.seeds("seed", 6)
        assert six[:4] == four
        assert len(set(six)) == 6
        assert await journal.seeds("seed", 2) == four[:2]
        assert await journal.seeds("other", 4) != four


async def many_at_once_are_all_kept(open_again: OpenAgain) -> None:
    points = [a_point(index) for index in range(64)]
    async with _open(open_again, FACTS) as journal:
        await asyncio.gather(*(_complete(journal, point) for point in points))
    async with _open(open_again) as journal:
        assert list(await journal.indices("completed")) == list(range(64))


async def a_cancelled_caller_halves_nothing(open_again: OpenAgain) -> None:
    points = [a_point(index) for index in range(16)]
    async with _open(open_again, FACTS) as journal:
        for point in points:
            await journal.intend(point, an_intent(point))
        two = [[a_rendering(point), a_rendering(point, 1)] for point in points]
        tasks = [
            asyncio.ensure_future(journal.complete(point.key, images, TIMES))
            for point, images in zip(points, two, strict=True)
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with _open(open_again) as journal:
        assert set(await _states(journal, points)) <= {"intended", "completed"}
        for point, images in zip(points, two, strict=True):
            await journal.complete(point.key, images, TIMES)
        assert list(await journal.indices("completed")) == list(range(16))


async def uploads_are_kept_by_server(open_again: OpenAgain) -> None:
    """Expect the names of input images on each server after reopening; a newer name of an image replaces the older."""
    async with _open(open_again) as journal:
        assert await journal.uploads("http://a") == {}
        await journal.keep_uploads("http://a", {"1" * 64: "one.png", "2" * 64: "two.png"})
        await journal.keep_uploads("http://b", {"1" * 64: "other.png"})
        await journal.keep_uploads("http://a", {"1" * 64: "again.png"})
        await journal.keep_uploads("http://a", {})
    async with _open(open_again) as journal:
        assert await journal.uploads("http://a") == {"1" * 64: "again.png", "2" * 64: "two.png"}
        assert await journal.uploads("http://b") == {"1" * 64: "other.png"}
        assert await journal.uploads("http://c") == {}


def _break_after(point: JournalPoint) -> Iterator[JournalPoint]:
    yield point
    raise RecordError("The points of a definition end here.")


async def a_new_definition_and_what_it_keeps_are_one_step(open_again: OpenAgain) -> None:
    points = [a_point(index) for index in range(3)]
    async with _open(open_again, FACTS) as journal:
        for point in points:
            await _complete(journal, point)
    edited = replace(FACTS, fingerprint="edited")
    async with _open(open_again) as journal:
        await expect_refusal(journal.begin_run(edited, _break_after(points[0])))
        assert await journal.fingerprint() == FACTS.fingerprint
        assert list(await journal.indices("completed")) == [0, 1, 2]
        unknown, twin = a_point(7), replace(points[0], index=4)
        moved = (replace(point, index=point.index + 1) for point in (points[0], unknown, points[1], twin))
        await journal.begin_run(edited, moved)
        assert list(await journal.indices("completed")) == [1, 2, 5]
        assert (await journal.counts()).former == 1


JOURNAL_CASES: tuple[JournalCase, ...] = tuple(  # every coroutine function above that takes nothing but the journal
    value
    for value in list(globals().values())
    if inspect.isfunction(value) and list(inspect.signature(value).parameters) == ["open_again"]
)
