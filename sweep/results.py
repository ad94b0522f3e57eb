"""`Results` as scripts and notebooks use it: what the record holds, and what study and report make of it.

The record knows nothing of statistics and pages, so these calls stand here, above the layers, and not in
`sweep.record`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.record import RecordedResults as Recorded

if TYPE_CHECKING:
    from sweep.study import Study


class Results(Recorded):
    """What a results folder holds. Nothing is kept open: each call reads what the journal says now.

    Every method raises CorruptRecordError where the journal is damaged: never a wrong row.
    """

    def study(self, **options: Any) -> Study:
        """Measure what is not measured yet and say what the axes do: `sweep.make_study` of this folder.

        Takes the same options: metrics, baseline, thresholds, progress, workers. Raises what that raises.
        """
        from sweep.study import make_study

        return make_study(self, **options)

    def report(self, **options: Any) -> Path:
        """Write the page of this folder and give its path: `sweep.make_report` of this folder, with its options."""
        from sweep.report import make_report

        return make_report(self, **options)
