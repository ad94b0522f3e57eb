"""The shares of variance that a study found, as a table in the terminal: a line a metric, a column an axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.table import Table

    from sweep.study.contract import Effects, Share, StudyJson

LABEL: Final = 25  # columns of a metric's name at most
ELSE: Final = "else"  # what no axis explains alone
GAP: Final = 2


def share_tables(study: StudyJson, width: int) -> list[Table]:
    """As many tables as it takes to show every axis within `width` columns; none where nothing could be split."""
    effects = [effect for effect in study["effects"] if effect["shares"]]
    labels = {metric["name"]: metric["label"][:LABEL] for metric in study["metrics"]}
    columns = [[name, *(_cell(effect, name) for effect in effects)] for name in _axes(study, effects)]
    columns.append([ELSE, *map(_else, effects)])
    first = ["", *(labels[effect["metric"]] for effect in effects)]
    return [_table([first, *chosen]) for chosen in _fitting(first, columns, width)] if effects else []


def caption(study: StudyJson) -> str:
    """What the numbers of the tables are."""
    shares = [share["share"] for effect in study["effects"] for share in effect["shares"]]
    sure = next((share for share in shares if share["low"] is not None), None)
    basis = f"95 % intervals over {sure['n']} seeds" if sure else f"no intervals: {shares[0]['reason']}"
    return f"Share of the variance in % that each axis explains ({basis})"


def _axes(study: StudyJson, effects: Sequence[Effects]) -> list[str]:
    """Those that explain anything anywhere, in the order of the experiment."""
    split = {share["axes"][0] for effect in effects for share in effect["shares"] if len(share["axes"]) == 1}
    return [axis["name"] for axis in study["design"]["axes"] if axis["name"] in split]


def _cell(effect: Effects, axis: str) -> str:
    share = _main(effect, axis)
    return "" if share is None else _percent(share)


def _main(effect: Effects, axis: str) -> Share | None:
    return next((share for share in effect["shares"] if share["axes"] == [axis]), None)


def _percent(share: Share) -> str:
    """As in "95 (92–98)": whole percents, and tenths below two."""
    found = share["share"]
    value, low, high = (None if v is None else 100 * v for v in (found["value"], found["low"], found["high"]))
    digits = 0 if (value or 0.0) >= 2 else 1
    text = f"{value or 0.0:.{digits}f}"
    return text if low is None or high is None else f"{text} ({low:.{digits}f}–{high:.{digits}f})"


def _else(effect: Effects) -> str:
    """Interactions and the rest."""
    alone = sum(share["share"]["value"] or 0.0 for share in effect["shares"] if len(share["axes"]) == 1)
    return f"{100 * max(1.0 - alone, 0.0):.0f}"


def _fitting(first: list[str], columns: list[list[str]], width: int) -> Iterator[list[list[str]]]:
    """The columns in groups that fit beside the first one."""
    room = width - max(map(len, first))
    group: list[list[str]] = []
    for column in columns:
        wide = max(map(len, column)) + GAP
        if group and wide > room - sum(max(map(len, each)) + GAP for each in group):
            yield group
            group = []
        group.append(column)
    yield group


def _table(columns: list[list[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column[0], justify="right" if i else "left", no_wrap=True, overflow="ellipsis")
    for row in list(zip(*columns, strict=True))[1:]:
        table.add_row(*row)
    return table
