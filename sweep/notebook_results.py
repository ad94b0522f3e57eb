"""`Results` as scripts and notebooks use it: the results table with conditions, the study and the report of a folder.

The record knows nothing of conditions, statistics and pages, so this class stands here, above the layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from sweep.errors import UsageError
from sweep.experiment import Clause, ConditionError, NamedAxis, ValueKind, compile_clause
from sweep.record import RecordedResults, Where

if TYPE_CHECKING:
    import pandas as pd

    from sweep.study import Study


_KINDS: Final[Mapping[str, ValueKind]] = {"integer": "number", "number": "number", "text": "text", "boolean": "boolean"}


def compile_condition(condition: str, columns: Iterable[Any], option: str) -> Clause:
    """Compile a condition on columns of the results table. Raises UsageError, which says where it cannot be read."""
    named = [NamedAxis(column.name, _KINDS.get(column.kind, "any")) for column in columns]
    try:
        return compile_clause(condition, named, wanted=True)
    except ConditionError as error:
        message = error.message.replace("no axis", "no column")
        ending = "" if message.endswith((".", "?")) else "."
        raise UsageError(f"{option}, character {error.column}: {message}{ending}") from error


class Results(RecordedResults):
    """The results of a folder. Nothing is kept open: each call reads what the journal says now.

    Every method raises CorruptRecordError where the journal is damaged: never a wrong row.
    """

    def table(
        self,
        *,
        all: bool = False,  # noqa: A002  the word of the command line
        where: Where | str | None = None,
        columns: str | Sequence[str] | None = None,
        images: Literal["relative", "absolute"] = "relative",
    ) -> pd.DataFrame:
        """Return the results table: one row per image, one per failed or cancelled variation.

        Args:
            all: Include points that the experiment no longer asks for.
            where: Only rows that meet this: a condition, such as "ssim > 0.8 and seed == 42", or a function of a row.
            columns: Only these columns, in this order; also what the inputs and the labels of an axis set.
            images: Whether `image_path` starts at the results folder, or at the root of the file system.

        Raises:
            UsageError: The condition cannot be read, or there is no such column.
        """
        if images not in ("relative", "absolute"):
            raise UsageError(f"images is relative or absolute, not {images!r}.")
        frame = super().table(all=all, where=where, columns=columns)
        if images == "absolute" and "image_path" in frame:
            frame["image_path"] = f"{self.folder.resolve().as_posix()}/" + frame["image_path"]
        return frame

    def _open_table(self, **chosen: Any) -> Any:
        if isinstance(where := chosen.get("where"), str):
            columns = self.columns(all=chosen.get("all", False))
            chosen["where"] = compile_condition(where, columns, "where").holds
        return super()._open_table(**chosen)

    def _repr_html_(self) -> str:
        """Show the counts and thumbnails of the first images in a notebook."""
        from sweep.report import make_notebook_html

        return make_notebook_html(self)

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
