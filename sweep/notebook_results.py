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


def compile_where(results: RecordedResults, condition: str, *, former: bool = False, option: str = "--where") -> Where:
    """Compile a condition on the columns of a results table to a test of rows.

    Raises:
        UsageError: It cannot be read, or names no column; the message says where.
    """
    return compile_condition(condition, name_axes(results.columns(all=former)), option).holds


def name_axes(columns: Iterable[Any]) -> list[NamedAxis]:
    return [NamedAxis(column.name, _KINDS.get(column.kind, "any")) for column in columns]


def compile_condition(condition: str, columns: Sequence[NamedAxis], option: str) -> Clause:
    try:
        return compile_clause(condition, columns, wanted=True)
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
        columns: Sequence[str] | None = None,
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
        rows = compile_where(self, where, former=all) if isinstance(where, str) else where
        frame = super().table(all=all, where=rows, columns=columns)
        if images == "absolute" and "image_path" in frame:
            root = self.folder.resolve()
            paths = frame["image_path"].map(lambda path: str(root / path), na_action="ignore")
            frame["image_path"] = paths.astype(frame["image_path"].dtype)
        return frame

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
