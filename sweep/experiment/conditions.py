"""Conditions of `where:` and `exclude:`: expressions over axis names, parsed with Python's ast, compiled to closures.

They are never evaluated as Python. Known are: comparisons (also chained), `and`, `or`, `not`, `in`, `+ - * / // %` on
numbers, parentheses, numbers, quoted text, lists, true, false and null, and abs, min, max, round of numbers. An axis is
named as it stands in the file; a name with dots may be written as it is (denoise.steps), any other name between
backticks: `my axis`. Arithmetic is decimal, to 28 digits: denoise_strength + 0.1 == 0.3 holds for a strength of 0.2.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from unicodedata import normalize

from sweep.errors import SweepError, did_you_mean
from sweep.role_table import quote

MAX_CONDITION_DEPTH: Final = 50
_MAX_ROUNDED: Final = 100  # digits; Python takes hours to round a whole number to millions of them
_TOO_MUCH: Final = "is more than a condition may hold: compare axes with values, joined by and, or, not"

AxisValues: TypeAlias = Mapping[str, Any]
Compiled: TypeAlias = Callable[[AxisValues], Any]
ValueKind: TypeAlias = Literal["number", "text", "boolean", "list", "null", "any"]


class ConditionError(SweepError):
    """A condition that cannot be read; `column` counts characters of the condition from 1."""

    exit_code = 2

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True, slots=True)
class NamedAxis:
    """An axis as conditions know it: its kind of values, and the values themselves where they are few."""

    name: str
    kind: ValueKind
    values: Sequence[Any] = ()


def _to_decimal(value: Any) -> Any:
    """Turn a float into the decimal it is written as: 0.1 is one tenth, not the nearest double."""
    return Decimal(repr(value)) if isinstance(value, float) else value


def _is_within(left: Any, right: Any) -> bool:
    return right is not None and left in right


def _divide_floor(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    return (Decimal(left) / Decimal(right)).to_integral_value(ROUND_FLOOR)


def _round(value: Any, digits: int = 0) -> Any:
    if abs(digits) > _MAX_ROUNDED:
        raise ValueError(digits)
    return round(value, digits) if digits else round(value)


_COMPARE: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: _is_within,
    ast.NotIn: lambda left, right: not _is_within(left, right),
    ast.Is: operator.eq,
    ast.IsNot: operator.ne,
}
_ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda left, right: Decimal(left) / Decimal(right),
    ast.FloorDiv: _divide_floor,
    ast.Mod: lambda left, right: left - right * _divide_floor(left, right),
}
_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {"abs": abs, "min": min, "max": max, "round": _round}
_LITERAL_KINDS: Final[Mapping[type, ValueKind]] = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "text",
    type(None): "null",
}
_LITERALS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None}


class _Operand(NamedTuple):
    node: ast.expr
    read: Compiled
    kind: ValueKind


class Compiler:
    """An expression tree to a closure, with the kind of value it yields."""

    def __init__(self, text: str, axes: Iterable[NamedAxis], quoted: Mapping[str, str], *, exact: bool) -> None:
        self._bytes = text.encode()
        self._axes = {normalize("NFKC", axis.name): axis for axis in axes}  # ast gives names in this form
        self._quoted = quoted
        self._to_decimal: Callable[[Any], Any] = lru_cache(1024)(_to_decimal) if exact else lambda value: value
        self.named: dict[str, None] = {}

    def compile(self, node: ast.expr, depth: int) -> tuple[Compiled, ValueKind]:
        if depth > MAX_CONDITION_DEPTH:
            raise self._make_error(node, "is nested too deeply")
        match node:
            case ast.BoolOp(op=op, values=parts):
                tests = [self.compile_truth(part, depth) for part in parts]
                every = isinstance(op, ast.And)
                return (lambda v: all(t(v) for t in tests) if every else any(t(v) for t in tests)), "boolean"
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.compile_truth(operand, depth)
                return (lambda v: not inner(v)), "boolean"
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                number = self._compile_number(operand, depth)
                return (number if isinstance(sign, ast.UAdd) else lambda v: -number(v)), "number"
            case ast.BinOp():
                return self._compile_arithmetic(node, depth), "number"
            case ast.Compare():
                return self._compile_comparison(node, depth), "boolean"
            case ast.Call():
                return self._compile_call(node, depth), "number"
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                items = [self.compile(element, depth + 1)[0] for element in elements]
                return (lambda v: [item(v) for item in items]), "list"
            case ast.Constant(value=value):
                return self._compile_literal(node, value)
            case ast.Name() | ast.Attribute():
                return self._compile_name(node)
        raise self._make_error(node, _TOO_MUCH)

    def _make_error(self, node: ast.AST, message: str) -> ConditionError:
        offset = getattr(node, "col_offset", 1) - 1  # ast counts bytes, after our parenthesis
        return ConditionError(message, len(self._bytes[: max(offset, 0)].decode(errors="ignore")) + 1)

    def compile_truth(self, node: ast.expr, depth: int = -1) -> Compiled:
        """Compile what is true or false: a whole condition, or a part of one."""
        part, kind = self.compile(node, depth + 1)
        if kind not in ("boolean", "any"):
            found = f"has {_name_kind(kind)} where something true or false belongs"
            raise self._make_error(node, f"{found}; compare it with a value")
        return part

    def _compile_number(self, node: ast.expr, depth: int) -> Compiled:
        part, kind = self.compile(node, depth + 1)
        if kind not in ("number", "any"):
            raise self._make_error(node, f"counts with {_name_kind(kind)}; only numbers can be counted with")
        return part

    def _compile_arithmetic(self, node: ast.BinOp, depth: int) -> Compiled:
        apply = _ARITHMETIC.get(type(node.op))
        if apply is None:
            raise self._make_error(node, "uses an operator that conditions do not know; they know + - * / // %")
        first, second = self._compile_number(node.left, depth), self._compile_number(node.right, depth)
        return lambda v: apply(first(v), second(v))

    def _compile_call(self, node: ast.Call, depth: int) -> Compiled:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        function = _FUNCTIONS.get(name)
        if function is None or node.keywords or not node.args:
            raise self._make_error(node, f"calls {name or 'something'}; conditions know {', '.join(_FUNCTIONS)}")
        if len(node.args) > {"abs": 1, "round": 2}.get(name, 20) or (name in ("min", "max") and len(node.args) < 2):
            raise self._make_error(node, f"gives {name} {len(node.args)} values")
        parts = [self._compile_number(arg, depth) for arg in node.args]
        return lambda v: function(*(part(v) for part in parts))

    def _compile_literal(self, node: ast.expr, value: object) -> tuple[Compiled, ValueKind]:
        kind = _LITERAL_KINDS.get(type(value))
        if kind is None:
            raise self._make_error(node, "holds a value that conditions do not know")
        if isinstance(value, float) and not math.isfinite(value):
            raise self._make_error(node, "holds a number that is out of range")
        fixed = self._to_decimal(value)
        return (lambda _: fixed), kind

    def _compile_name(self, node: ast.expr) -> tuple[Compiled, ValueKind]:
        name = self._write_name(node)
        axis = self._axes.get(name)
        if axis is None and name in _LITERALS:
            return self._compile_literal(node, _LITERALS[name])
        if axis is None:
            if any(name in other.values for other in self._axes.values()):
                raise self._make_error(node, f"put the text {name} in quotes: '{name}'")
            near = did_you_mean(name, self._axes)
            way = " Text needs quotes; a name with a space or a dash needs backticks."
            raise self._make_error(node, f"there is no axis named {name}.{near or way}")
        self.named[axis.name] = None
        exact, written = self._to_decimal, axis.name
        return (lambda v: exact(v[written])), axis.kind

    def _write_name(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return normalize("NFKC", self._quoted.get(node.id, node.id))
        if isinstance(node, ast.Attribute):
            return f"{self._write_name(node.value)}.{node.attr}"
        raise self._make_error(node, _TOO_MUCH)

    def _write_operand(self, node: ast.expr) -> str:
        return self._write_name(node) if isinstance(node, ast.Name | ast.Attribute) else ast.unparse(node)

    def _compile_comparison(self, node: ast.Compare, depth: int) -> Compiled:
        operands = [_Operand(each, *self.compile(each, depth + 1)) for each in (node.left, *node.comparators)]
        steps = []
        for left, op, right in zip(operands, node.ops, operands[1:], strict=False):
            self._check(left, op, right)
            steps.append((left.read, _COMPARE[type(op)], right.read))
        return lambda v: all(apply(left(v), right(v)) for left, apply, right in steps)

    def _check(self, left: _Operand, op: ast.cmpop, right: _Operand) -> None:
        if not isinstance(op, ast.In | ast.NotIn):
            self._check_pair(left, op, right)
        elif right.kind == "list":
            for item in getattr(right.node, "elts", []):
                self._check_pair(left, ast.Eq(), _Operand(item, *self.compile(item, 0)))
        elif not {left.kind, right.kind} <= {"text", "any"}:
            found = self._write_operand(right.node)
            raise self._make_error(right.node, f"{found} is no list; write in with a list, as in [1, 2]")

    def _check_pair(self, left: _Operand, op: ast.cmpop, right: _Operand) -> None:
        ordered = isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE)
        kinds = {left.kind, right.kind} - {"any"}
        if ordered and kinds & {"null", "list", "boolean"}:
            raise self._make_error(right.node, f"{_name_kind(right.kind)} has no order to compare by")
        if len(kinds - {"null"}) > 1:
            one, other = (f"{self._write_operand(each.node)} is {_name_kind(each.kind)}" for each in (left, right))
            quoted = f"write '{self._write_operand(right.node)}' for the text {self._write_operand(right.node)}"
            way = quoted if left.kind == "text" else "write numbers without quotes"
            raise self._make_error(right.node, f"{one}, but {other}; {way}")
        if not ordered:
            self._check_text(left.node, right.node)
            self._check_text(right.node, left.node)

    def _check_text(self, named: ast.expr, literal: ast.expr) -> None:
        """Refuse a text that the axis never has: it is a slip of the pen, not a condition."""
        if not isinstance(named, ast.Name | ast.Attribute) or not isinstance(literal, ast.Constant):
            return
        axis, value = self._axes.get(self._write_name(named)), literal.value
        if isinstance(value, str) and axis is not None and axis.values and value not in axis.values:
            near = did_you_mean(value, [v for v in axis.values if isinstance(v, str)])
            raise self._make_error(literal, f'{axis.name} has no value "{value}".{near}')


def _name_kind(kind: ValueKind) -> str:
    return {"text": "text", "null": "null", "any": "a value"}.get(kind, f"a {kind}")


MAX_TEXT: Final = 2_000


@dataclass(frozen=True, slots=True)
class Clause:
    """A compiled condition on the axes `names`; a point counts where its truth equals `wanted`."""

    text: str
    wanted: bool
    names: tuple[str, ...]
    test: Compiled

    def holds(self, values: AxisValues) -> bool:
        """Tell whether the point with these values counts; a test that divides by zero or cannot compare is false."""
        try:
            return bool(self.test(values)) is self.wanted
        except (ArithmeticError, TypeError, ValueError):  # also of decimals: 1e999 - 1e999
            return not self.wanted


def compile_clause(text: str, axes: Iterable[NamedAxis], *, wanted: bool) -> Clause:
    """Compile one condition. Raises ConditionError where it cannot be read or names no axis."""
    if len(text) > MAX_TEXT:
        raise ConditionError(f"is longer than {MAX_TEXT} characters", 1)
    plain, quoted = _replace_backticks(text)
    try:
        tree = ast.parse(plain.strip() and f"({plain})", mode="eval")
        is_counting = any(isinstance(node, ast.BinOp) for node in ast.walk(tree))
        compiler = Compiler(plain, axes, quoted, exact=is_counting)
        test = compiler.compile_truth(tree.body)
    except (ConditionError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        for found in _SIGN.finditer(plain):
            if right := _SLIPS.get(found[0]):
                raise ConditionError(f"write {right}, not {found[0]}", found.start() + 1) from error
        if isinstance(error, ConditionError):
            raise
        _raise_unquoted(plain, axes)
        raise _describe_syntax_error(text, error) from error
    if not compiler.named:
        raise ConditionError("names no axis, so it holds for all points or for none", 1)
    return Clause(text, wanted, tuple(compiler.named), test)


_TEXT: Final = r"'(?:\\.|[^'\\])*'" + r'|"(?:\\.|[^"\\])*"|#.*'  # or a comment: both are passed over
_SIGN: Final = re.compile(rf"{_TEXT}|[=<>!≤≥≠&|~]+|\b(?:AND|OR|NOT|And|Or|Not)\b")
_SLIPS: Final[Mapping[str, str]] = {  # signs of other languages: ours
    **dict.fromkeys(("=>", ">==", "≥"), ">="),
    **dict.fromkeys(("=<", "<==", "≤"), "<="),
    **dict.fromkeys(("<>", "!==", "≠"), "!="),
    **dict.fromkeys(("&", "&&", "AND", "And"), "and"),
    **dict.fromkeys(("|", "||", "OR", "Or"), "or"),
    **dict.fromkeys(("!", "~", "NOT", "Not"), "not"),
    "=": "== to compare",
    "===": "==",
}
_READABLE: Final = re.compile(r"[\d.]*|[^\W\d]\w*(?:\.[^\W\d]\w*)*")  # numbers and names, also without quotes


def _raise_unquoted(text: str, axes: Iterable[NamedAxis]) -> None:
    """Raise ConditionError where the name or a text of an axis stands without the quotes that it needs."""
    for axis in axes:
        advice = {each: f"put the text {each} in quotes: {each!r}" for each in axis.values if isinstance(each, str)}
        advice[axis.name] = f"put the name {axis.name} between backticks: `{axis.name}`"
        for word in (word for word in advice if not _READABLE.fullmatch(word)):
            for found in re.finditer(rf"{_TEXT}|(?<!\w)({re.escape(word)})(?!\w)", text):
                if found[1]:
                    raise ConditionError(advice[word], found.start() + 1)


def _describe_syntax_error(text: str, error: Exception) -> ConditionError:
    """Name the word that Python stopped at; where it misses a comma, that is the last word of its range."""
    at = (getattr(error, "offset", None) or 1) - 1  # after the bracket that was put before the text
    if "comma" in str(error) and (end := getattr(error, "end_offset", None)):
        at = text[: end - 2].rfind(" ") + 2
    rest = text[max(at, 1) - 1 :].strip()
    what = f"sweep does not understand {quote(rest)}" if rest else "ends before it is complete"
    return ConditionError(what if text.strip() else "is empty", max(1, min(at, len(text))))


def _replace_backticks(text: str) -> tuple[str, dict[str, str]]:
    """Replace backticked names by identifiers of the same length, so that columns stay true."""
    quoted: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        word = f"\u02b9{len(quoted):x}"[: len(match[0])].ljust(len(match[0]), "_")
        quoted[word] = match[1]
        return word

    return re.sub(r"`([^`\n]+)`", stand_in, text), quoted
