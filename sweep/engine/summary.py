"""How a run ended: the numbers, the exit code, and one sentence for a person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from sweep.errors import SweepError

Ending: TypeAlias = Literal[
    "completed", "failures", "stopped-by-failures", "interrupted", "cancelled", "no-server", "record-broken"
]

INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Counts are of the points of the current definition; `rendered` and `seconds` of this run alone."""

    folder: Path
    ending: Ending
    points: int
    completed: int
    failed: int
    former: int
    rendered: int
    seconds: float
    reason: str = ""  # why it ended before its time, in one sentence
    error: SweepError | None = None
    hint: str = ""  # what else could be had, such as a table in another format

    @property
    def exit_code(self) -> int:
        """As DESIGN.md has them: 0, 1, 3, 4 or 130."""
        if self.error is not None:
            return self.error.exit_code
        if self.ending in {"interrupted", "cancelled"} and self.completed + self.failed < self.points:
            return INTERRUPTED
        return 1 if self.failed or self.ending == "stopped-by-failures" else 0
