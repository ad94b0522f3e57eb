"""What `sweep inspect` prints: nodes and fields, then what can be set by which name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from sweep.cli.console import columns, filled

if TYPE_CHECKING:
    from sweep.workflow.graph import Graph
    from sweep.workflow.inspection import Description, Row
    from sweep.workflow.naming import Names
    from sweep.workflow.roles import Target

_VALUE: Final = 48  # characters of a value
_LABEL: Final = 20  # columns before what a role or note is about
_SENTENCES: Final = ("", "note", "problem")


def description_lines(description: Description, graph: Graph, file: str) -> Iterator[str]:
    """The whole page; nodes are called as an experiment may call them."""
    from sweep.workflow.naming import Names, readable

    names = Names(graph)
    count = len({row.address.node for row in description.rows})
    yield f"{description.name or file}  ({description.kind}, {count} node{'' if count == 1 else 's'})"
    for node, rows in groupby(description.rows, lambda row: row.address.node):
        yield ""
        yield from _node(names, node, list(rows), graph)
    yield ""
    for label, text in _summary(description):
        yield from _folded(label, readable(graph, text))


def _node(names: Names, node: str, rows: Sequence[Row], graph: Graph) -> Iterator[str]:
    from sweep.workflow.naming import readable

    called = names.called(node)
    own = [rows[0].node_type, rows[0].node_label, node]
    yield "  ".join([called, *(word for word in dict.fromkeys(own) if word and word != called)])
    width = max(len(row.address.field) for row in rows)
    values = [_cut(" ".join(readable(graph, row.shown).split()), _VALUE) for row in rows]
    room = max(map(len, values))
    for row, value in zip(rows, values, strict=True):
        about = " ".join(filter(None, (row.kind, row.range)))
        label = f'  "{row.field_label}"' if row.field_label else ""
        role = f"  [{', '.join(row.roles)}]" if row.roles else ""
        yield f"  {row.address.field:<{width}}  {value:<{room}}  {about}{label}{role}".rstrip()


def _summary(description: Description) -> Iterator[tuple[str, str]]:
    from sweep.workflow.roles import STACKED

    roles = description.roles
    for role, targets in sorted(roles.targets.items()):
        yield (role, " · ".join(target.sets(role) for target in targets))
    for role, groups in sorted(roles.ambiguous.items()):
        for number, group in enumerate(groups, start=1):
            yield (f"{role}_{number}", _group(f"{role}_{number}", group))
    several = sorted(roles.ambiguous)
    if all_set := [role for role in several if role in STACKED]:
        yield ("", f"{', '.join(all_set)} without a number: all of them.")
    if unsettled := [role for role in several if role not in STACKED]:
        yield ("", f"{', '.join(unsettled)} without a number: choose which under roles: in the experiment.")
    yield ("outputs", ", ".join(description.outputs) or "none")
    for name, count in description.batches:
        yield ("batch", f"{name}: {count} values")
    if description.needs:
        set_by = {row.address: row for row in description.rows}
        yield ("needs", " · ".join(_need(set_by[address]) for address in description.needs))
    for label, texts in (("note", description.notes), ("problem", description.problems)):
        yield from ((label, text) for text in texts)


def _group(role: str, group: Sequence[Target]) -> str:
    return " · ".join(target.sets(role) for target in group)


def _need(row: Row) -> str:
    """A field that has to be filled in: by its role, where it has one, and what it takes."""
    kind = {"ImageField": "a picture"}.get(row.kind, row.kind)
    return f"{row.roles[0] if row.roles else row.address} ({kind})"


def _folded(label: str, text: str) -> Iterator[str]:
    """A label and its text; what is wider than the terminal is broken between its parts, or else between words."""
    first, *rest = text.split(" · ")
    head = f"  {label:<{_LABEL - 2}} "
    if not rest:
        yield from filled(first, first=head, rest=" " * len(head)) if label in _SENTENCES else (head + first,)
        return
    line = head + first
    for part in rest:
        if len(line) + 3 + len(part) > columns():
            yield line
            line = " " * len(head) + part
        else:
            line += f" · {part}"
    yield line


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
