"""`where:` and `exclude:`: small expressions over axis names, read with Python's ast and never evaluated as Python.

Known are: comparisons (also chained), `and`, `or`, `not`, `in`, `+ - * / // %` on numbers, parentheses, numbers,
quoted text, lists, true, false and null, and abs, min, max, round of numbers. An axis is named as it stands in the
file; a name with dots may be written as it is (denoise.steps), any other name between backticks: `my axis`.
Arithmetic is decimal, to 28 digits: denoise_strength + 0.1 == 0.3 holds where the strength is 0.2.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sweep.experiment.expressions import Compiled, Compiler, ConditionError, NamedAxis, ValueKind, Values
from sweep.experiment.vocabulary import said

__all__ = ["Clause", "Condition", "ConditionError", "NamedAxis", "ValueKind", "compile_clause"]

MAX_TEXT: Final = 2_000


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition. `names` are the axes it looks at; a point counts where its truth equals `wanted`."""

    text: str
    wanted: bool
    names: tuple[str, ...]
    test: Compiled

    def holds(self, values: Values) -> bool:
        """Whether the point with these values counts, as far as this clause goes. A test that comes upon a division
        by zero, or a value that cannot be compared, is false.
        """
        try:
            return bool(self.test(values)) is self.wanted
        except (ZeroDivisionError, TypeError):
            return not self.wanted


@dataclass(frozen=True, slots=True)
class Condition:
    """All clauses of an experiment; a point counts where every one holds."""

    clauses: tuple[Clause, ...]

    def holds(self, values: Values) -> bool:
        """Whether the point with these values counts."""
        return all(clause.holds(values) for clause in self.clauses)


def compile_clause(text: str, axes: Iterable[NamedAxis], *, wanted: bool) -> Clause:
    """The clause written in `text`. Raises ConditionError where it cannot be read or names no axis."""
    if len(text) > MAX_TEXT:
        raise ConditionError(f"is longer than {MAX_TEXT} characters", 1)
    plain, quoted = _without_backticks(text)
    try:
        tree = ast.parse(plain.strip() and f"({plain})", mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        column = min(max((getattr(error, "offset", None) or 1) - 1, 1), len(text) or 1)
        raise ConditionError(_syntax_message(text, column), column) from error
    compiler = Compiler(plain, {axis.name: axis for axis in axes}, quoted, exact=_counts(tree))
    test = compiler.condition(tree.body)
    if not compiler.named:
        raise ConditionError("names no axis, so it holds for all points or for none", 1)
    return Clause(text, wanted, tuple(compiler.named), test)


def _syntax_message(text: str, column: int) -> str:
    if not text.strip():
        return "is empty"
    if re.search(r"(?<![=!<>])=(?!=)", text):
        return "cannot be read; equality is written =="
    if "&&" in text or "||" in text or "!" in text.replace("!=", ""):
        return "cannot be read; write and, or, not"
    rest = text[column - 1 :].strip()
    return f"cannot be read from {said(rest)} on" if len(rest) > 1 else "ends before it is complete"


def _without_backticks(text: str) -> tuple[str, dict[str, str]]:
    """Backticked names replaced by identifiers of the same length, so that columns stay true."""
    quoted: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        word = f"\u02b9{len(quoted):x}"[: len(match[0])].ljust(len(match[0]), "_")
        quoted[word] = match[1]
        return word

    return re.sub(r"`([^`\n]+)`", stand_in, text), quoted


def _counts(tree: ast.AST) -> bool:
    return any(isinstance(node, ast.BinOp) for node in ast.walk(tree))
