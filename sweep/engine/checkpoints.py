"""Named points between the steps of an attempt, where a fault test may have the process killed.

Beside these, `run(checkpoint=…)` passes those of the record: `record.checkpoints.IMAGE_POINTS` and `JOURNAL_POINTS`.
"""

from __future__ import annotations

from typing import Final

INTENDED: Final = "attempt.intended"  # on record, and nothing sent
TAKEN: Final = "attempt.taken"  # the server has it, the record does not know
ENDED: Final = "attempt.ended"  # the server is done, the record does not know
FETCHED: Final = "attempt.fetched"  # a picture is in memory
SAVED: Final = "attempt.saved"  # a picture is on disk, the record does not know

ENGINE_POINTS: Final = (INTENDED, TAKEN, ENDED, FETCHED, SAVED)
"""In this order, for every attempt that goes well."""
