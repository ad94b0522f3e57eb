"""Points of one key: one image, a row each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import pytest

from sweep.engine import events
from sweep.engine.work_queue import Deduplicator, Job, to_journal_point
from sweep.experiment import Level, Variation
from sweep.plan import Instance
from sweep.record import Failure, KeyStatus, SqliteJournal
from sweep.testing.journals import FACTS, TIMES, a_rendering, an_intent
from sweep.workflow import Graph
from sweep.workflow.invokeai.invokeai_dialect import INVOKEAI


def instance(index: int, key: str) -> Instance:
    return Instance(
        key=key,
        variation=Variation(index, {"label": Level(f"l{index}", {})}),
        graph=Graph({}),
        digests={},
        outputs=("out",),
        dialect=INVOKEAI,
    )


FIRST, SECOND, OTHER = instance(0, "same"), instance(1, "same"), instance(2, "other")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    async with await SqliteJournal.open(tmp_path) as opened:
        await opened.begin_run(FACTS)
        yield opened


async def complete(journal: SqliteJournal, one: Instance) -> None:
    await journal.intend(to_journal_point(one), an_intent(to_journal_point(one)))
    await journal.complete(one.key, [a_rendering(to_journal_point(one))], TIMES)


async def test_the_second_waits_for_the_first_and_gets_its_image(journal: SqliteJournal) -> None:
    told: list[events.Event] = []
    twins = Deduplicator(journal, told.append)
    admitted = await twins.admit(Job(instances=(FIRST, SECOND, OTHER)))
    assert admitted is not None
    assert admitted.keys == ("same", "other")
    await complete(journal, FIRST)
    await twins.finish(["same"])
    assert list(await journal.indices("completed")) == [0, 1]
    assert [(type(event), event.index) for event in told if isinstance(event, events.Completed)] == [
        (events.Completed, 1)
    ]


async def test_one_that_comes_later_is_not_rendered(journal: SqliteJournal) -> None:
    twins = Deduplicator(journal, lambda _: None)
    assert await twins.admit(Job(instances=(FIRST,))) is not None
    await complete(journal, FIRST)
    await twins.finish(["same"])
    assert await twins.admit(Job(instances=(SECOND,))) is None
    assert list(await journal.indices("completed")) == [0, 1]


async def test_the_twin_of_a_failure_failed(journal: SqliteJournal) -> None:
    told: list[events.Event] = []
    twins = Deduplicator(journal, told.append)
    assert await twins.admit(Job(instances=(FIRST,))) is not None
    assert await twins.admit(Job(instances=(SECOND,))) is None
    await journal.fail(to_journal_point(FIRST), Failure(kind="Bad", message="it is bad"))
    await twins.finish(["same"])
    assert list(await journal.indices("failed")) == [0, 1]
    assert isinstance(told[0], events.Failed)


async def test_what_comes_back_is_let_through(journal: SqliteJournal) -> None:
    twins = Deduplicator(journal, lambda _: None)
    first = await twins.admit(Job(instances=(FIRST,)))
    assert first is not None
    assert await twins.admit(first) is first


async def test_points_that_come_next_are_looked_up_together_and_asked_about_again_once_begun(
    journal: SqliteJournal,
) -> None:
    asked: list[set[str]] = []
    look_up = journal.find_statuses

    async def standing(keys: Sequence[str]) -> dict[str, KeyStatus]:
        asked.append(set(keys))
        return await look_up(keys)

    journal.find_statuses = standing  # type: ignore[method-assign]
    twins = Deduplicator(journal, lambda _: None)
    assert await twins.admit(Job(instances=(OTHER,)), lambda: [FIRST, SECOND]) is not None
    assert await twins.admit(Job(instances=(FIRST,)), list) is not None
    assert asked == [{"other", "same"}]
    await complete(journal, FIRST)
    await twins.finish(["same"])
    assert await twins.admit(Job(instances=(SECOND,)), list) is None  # not what was known before the first began


async def test_a_point_that_begins_while_it_is_asked_about_waits_for_the_answer(journal: SqliteJournal) -> None:
    asked: list[set[str]] = []
    begun, answered = anyio.Event(), anyio.Event()
    look_up = journal.find_statuses

    async def standing(keys: Sequence[str]) -> dict[str, KeyStatus]:
        asked.append(set(keys))
        found = await look_up(keys)
        begun.set()
        await answered.wait()
        return found

    journal.find_statuses = standing  # type: ignore[method-assign]
    twins = Deduplicator(journal, lambda _: None)
    async with anyio.create_task_group() as group:
        group.start_soon(twins.admit, Job(instances=(OTHER,)), lambda: [FIRST])
        await begun.wait()
        group.start_soon(twins.admit, Job(instances=(FIRST,)))
        await anyio.wait_all_tasks_blocked()
        answered.set()
    assert asked == [{"other", "same"}]
    await complete(journal, FIRST)
    await twins.finish(["same"])
    assert await twins.admit(Job(instances=(SECOND,))) is None  # not what was known before the first began
