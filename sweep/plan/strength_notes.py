"""What a person should know of denoise strengths: how they are written where that is no straight line, and which of
them come to the same number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final

from sweep.experiment import Setting
from sweep.plan.targets import Assignments
from sweep.workflow import Dialect, Graph, Roles, Target, Value

STRENGTH: Final = "denoise_strength"
_LOOKED_AT: Final = 1_000  # strengths, and numbers of steps
_MOST: Final = 1_000  # steps tried to tell strengths apart
_LISTED: Final = 4


def note_strengths(graph: Graph, roles: Roles, uses: Assignments, dialect: Dialect) -> Iterator[str]:
    """Yield sentences for a plan of a graph with these roles."""
    if STRENGTH not in uses:
        return
    targets = roles.targets.get(STRENGTH, ())
    yield from dialect.note_encodings([(target.address, target.encode) for target in targets])
    values = [value for value in _keep_numbers(uses.settings(STRENGTH)) if 0 <= value <= 1]
    said = (
        uses.settings("steps")
        if "steps" in uses
        else iter([_read_field(graph, target) for target in roles.targets.get("steps", ())])
    )
    counts = [int(count) for count in _keep_numbers(said) if count >= 1]
    if counts and values:
        addresses = [target.address for target in targets]
        yield from _note_equal(
            sorted(set(values)), min(counts), partial(dialect.count_steps, graph, addresses), dialect
        )


def _note_equal(
    strengths: Sequence[float], steps: int, count_steps: Callable[[float, int], int | None], dialect: Dialect
) -> Iterator[str]:
    groups: dict[int | None, list[float]] = {}
    for strength in strengths:
        groups.setdefault(count_steps(strength, steps), []).append(strength)
    count, alike = next(((count, found) for count, found in groups.items() if len(found) > 1), (0, []))
    if not alike or count is None:
        return
    apart = next(
        (n for n in range(steps + 1, _MOST) if len({count_steps(s, n) for s in strengths}) == len(strengths)), 0
    )
    others = "; others do, too" if sum(len(found) > 1 for found in groups.values()) > 1 else ""
    same = dialect.equal_strengths.format(count=count)
    yield f"With {steps} steps, {STRENGTH} {_join_numbers(alike)} {same}{others}." + (
        f" {apart} steps tell all of them apart." if apart else ""
    )


def _join_numbers(numbers: Sequence[float]) -> str:
    first, rest = numbers[:_LISTED], len(numbers) - _LISTED
    words = [f"{number:g}" for number in first] + ([f"{rest} more"] if rest > 0 else [])
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _keep_numbers(values: Iterable[Setting | Value]) -> list[float]:
    found = islice(values, _LOOKED_AT)
    return [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]


def _read_field(graph: Graph, target: Target) -> Value:
    return graph.nodes[target.address.node].fields.get(target.address.field)
