"""Random writes and reopenings against a dictionary that says what should have come of them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sweep.errors import RecordError
from sweep.record.base import KeyStatus
from sweep.record.results_folder import RecordedResults
from sweep.record.sqlite.journal import SqliteJournal
from sweep.testing.journals import BAD, FACTS, TIMES, a_point, a_rendering, an_intent

KEYS = st.integers(min_value=0, max_value=4)
OPEN = {"intended", "submitted", "rendered"}


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.runner = asyncio.Runner()
        self.journal = self.runner.run(SqliteJournal.open(self.folder))
        self.runner.run(self.journal.begin_run(FACTS))
        self.states: dict[int, str] = {}  # by index; "pending" is a state here
        self.attempts: dict[int, int] = {}
        self.batches: dict[int, str] = {}
        self.tried = 0

    def teardown(self) -> None:
        self.runner.run(self.journal.aclose())
        self.runner.close()
        self.temporary.cleanup()

    def take(self, step: Awaitable[object], legal: bool) -> bool:
        async def awaited() -> None:
            await step

        try:
            self.runner.run(awaited())
        except RecordError:
            assert not legal
            return False
        assert legal
        return True

    @rule(index=KEYS)
    def intend(self, index: int) -> None:
        self.tried += 1
        intent = an_intent(a_point(index), self.tried)
        if self.take(self.journal.intend(a_point(index), intent), self.states.get(index, "pending") == "pending"):
            self.states[index] = "intended"
            self.attempts[index] = self.attempts.get(index, 0) + 1
            self.batches[index] = intent.batch_id

    @rule(index=KEYS)
    def submit(self, index: int) -> None:
        legal = self.states.get(index) in OPEN
        batch = self.batches.get(index, "never")
        if self.take(self.journal.mark_submitted(batch, "item"), legal) and self.states[index] == "intended":
            self.states[index] = "submitted"

    @rule(index=KEYS)
    def render(self, index: int) -> None:
        if self.take(self.journal.mark_rendered(a_point(index).key, TIMES), self.states.get(index) in OPEN):
            self.states[index] = "rendered"

    @rule(index=KEYS)
    def complete(self, index: int) -> None:
        point = a_point(index)
        legal = self.states.get(index) in OPEN | {"completed"}
        if self.take(self.journal.complete(point.key, [a_rendering(point)], TIMES), legal):
            self.states[index] = "completed"

    @rule(index=KEYS)
    def lose_the_attempt(self, index: int) -> None:
        if self.take(self.journal.mark_attempt_failed(a_point(index).key, BAD), self.states.get(index) in OPEN):
            self.states[index] = "pending"

    @rule(index=KEYS)
    def withdraw(self, index: int) -> None:
        if self.take(self.journal.withdraw(a_point(index).key), self.states.get(index) in OPEN):
            self.states[index] = "pending"
            self.attempts[index] -= 1

    @rule(index=KEYS)
    def fail(self, index: int) -> None:
        legal = self.states.get(index) not in ("completed", "cancelled")
        if self.take(self.journal.fail(a_point(index), BAD), legal):
            self.states[index] = "failed"

    @rule(index=KEYS)
    def cancel(self, index: int) -> None:
        legal = self.states.get(index) in OPEN | {"pending", "cancelled"}
        if self.take(self.journal.cancel(a_point(index).key), legal):
            self.states[index] = "cancelled"

    @rule(indices=st.sets(KEYS))
    def start_over(self, indices: set[int]) -> None:
        mine = {index for index in indices if self.states.get(index) in ("completed", "failed", "cancelled")}
        assert self.runner.run(self.journal.reopen([a_point(index).key for index in indices])) == len(mine)
        for index in mine:
            self.states[index], self.attempts[index] = "pending", 0

    @rule(fingerprint=st.sampled_from(["first", "second"]))
    def come_back(self, fingerprint: str) -> None:
        self.runner.run(self.journal.aclose())
        self.journal = self.runner.run(SqliteJournal.open(self.folder))
        self.runner.run(self.journal.begin_run(replace(FACTS, fingerprint=fingerprint)))
        self.runner.run(self.journal.rebase([a_point(index) for index in self.states]))

    def count_attempts(self, index: int) -> int:
        key = a_point(index).key
        return self.runner.run(self.journal.find_statuses([key]))[key].attempts

    @invariant()
    def the_journal_says_so_too(self) -> None:
        known = self.runner.run(self.journal.find_statuses([a_point(index).key for index in self.states]))
        for index, state in self.states.items():
            assert (known.get(a_point(index).key, KeyStatus()).state or "pending") == state
            assert self.count_attempts(index) == self.attempts.get(index, 0)
        done = sorted(index for index, state in self.states.items() if state == "completed")
        assert list(self.runner.run(self.journal.indices("completed"))) == done
        intents = {intent.index: intent.batch_id for intent in self.runner.run(self.journal.open_intents())}
        assert intents == {index: self.batches[index] for index, state in self.states.items() if state in OPEN}
        shown = {row["index"]: row["status"] for row in RecordedResults(self.folder).rows()}
        assert shown == {n: s for n, s in self.states.items() if s in ("completed", "failed", "cancelled")}


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=6, stateful_step_count=25, deadline=None)
