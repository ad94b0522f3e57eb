"""Sweep study."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sweep.cli import options as shared
from sweep.text import format_count

if TYPE_CHECKING:
    from rich.table import Table

    from sweep.study import DesignFacts, Effects, Sentence, Share, Study, StudyJson


_LABEL: Final = 25  # columns of a metric's name at most
ELSE: Final = "else"  # what no axis explains alone
GAP: Final = 2


def share_tables(study: StudyJson, width: int) -> list[Table]:
    """As many tables as it takes to show every axis within `width` columns; none where nothing could be split."""
    effects = [effect for effect in study["effects"] if effect["shares"]]
    labels = {metric["name"]: metric["label"][:_LABEL] for metric in study["metrics"]}
    columns = [[name, *(_cell(effect, name) for effect in effects)] for name in _axes(study, effects)]
    columns.append([ELSE, *map(_else, effects)])
    first = ["", *(labels[effect["metric"]] for effect in effects)]
    return [_share_table([first, *chosen]) for chosen in _fitting(first, columns, width)] if effects else []


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


def _share_table(columns: list[list[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column[0], justify="right" if i else "left", no_wrap=True, overflow="ellipsis")
    for row in list(zip(*columns, strict=True))[1:]:
        table.add_row(*row)
    return table


Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", "-m", help="A metric to compute; again for more (default: the standard panel).", metavar="NAME"
    ),
]
Baseline = Annotated[
    list[str] | None,
    typer.Option(
        help="Level of the cell that images without a source are compared with: cfg_scale=7.", metavar="AXIS=VALUE"
    ),
]


def study_command(
    run: shared.RunArgument,
    metric: Metrics = None,
    baseline: Baseline = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that measure (default: one a core).", show_default=False, metavar="N"),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every sentence, not the headlines alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole study as one JSON object.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Also write study.json and its tables here.", show_default=False, metavar="FOLDER"
        ),
    ] = None,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Measure the images and say what each axis does.

    Response curves, effects and differences with their intervals, in words and numbers. What was
    measured before is not measured again. The results tables get one column a metric.
    """
    from sweep.cli.console import say, tell
    from sweep.cli.options import results_folder
    from sweep.record import write_tables

    folder = results_folder(run, results)
    try:
        made = measured_study(folder, metric, baseline, workers)
    except KeyboardInterrupt:
        tell("Interrupted. What was measured is kept: the same command measures the rest.")
        raise
    write_tables(folder)
    if output is not None:
        made.save(output)
    if as_json:
        say(json.dumps(made.to_json(), ensure_ascii=False))
        return
    unsaid = not any(each["headline"] for each in made.data["words"])
    say(f"{folder.name}: nothing can be said yet." if unsaid else f"{folder.name}  {design_line(made.data['design'])}")
    say()
    if everything:
        _everything(made.data)
    else:
        _headlines(made.data)
    _table(made.data)
    if not everything:
        _more(made.data, run)


def design_line(design: DesignFacts) -> str:
    """As in "132 images · 4 seeds · compared with the source"."""
    images, seeds = design["images"], design["seeds"]
    parts = [format_count(images, "image")]
    parts += [format_count(seeds, "seed")] if seeds else []
    parts += [f"each {design['replicates']} times"] if design["replicates"] > 1 else []
    compared = {"source": "the source", "baseline": "the baseline", "none": "nothing"}[design["reference"]]
    return " · ".join([*parts, f"compared with {compared}"])


def _headlines(study: StudyJson) -> None:
    """What belongs on top, then what limits all of it."""
    words = study["words"]
    _print([each for each in words if each["headline"]])
    _print([each for each in words if _is_limit(each) and not each["headline"]])


def _is_limit(sentence: Sentence) -> bool:
    """Whether it limits the study as a whole."""
    return sentence["kind"] == "limit" and sentence["metric"] is None


def _more(study: StudyJson, run: str) -> None:
    """How to see what was left out."""
    from sweep.cli.console import say

    left_out = sum(not each["headline"] and not _is_limit(each) for each in study["words"])
    if left_out:
        say()
        say(f"{format_count(left_out, 'more sentence')}: sweep study {run} --all")


def _everything(study: StudyJson) -> None:
    """Every sentence, by what it is about."""
    from sweep.cli.console import say

    labels = {metric["name"]: metric["label"] for metric in study["metrics"]}
    about: dict[str, list[Sentence]] = {}
    for each in study["words"]:
        about.setdefault(labels.get(each["metric"] or "", ""), []).append(each)
    for label in sorted(about, key=lambda label: not label):
        if label:
            say(label)
        _print(about[label], first="  " if label else "")
        say()


def _print(said: Sequence[Sentence], first: str = "") -> None:
    from sweep.cli.console import fill_lines, say

    for each in said:
        for line in fill_lines(each["text"], first=first, rest=first + "  "):
            say(line)


def measured_study(
    folder: Path, metrics: list[str] | None = None, baseline: list[str] | None = None, workers: int | None = None
) -> Study:
    """The study of a folder, with a bar on stderr while images are measured."""
    from sweep.cli.console import counting
    from sweep.cli.options import assignments
    from sweep.study import make_study as make

    with counting("measuring") as count:
        return make(
            folder,
            metrics=metrics or (),
            baseline=assignments(baseline, "--baseline") or None,
            progress=count,
            workers=workers,
        )


def _table(study: StudyJson) -> None:
    """Shares of variance, a line a metric."""
    from sweep.cli.console import columns, fill_lines, say
    from sweep.cli.run_summary import show_table

    tables = share_tables(study, columns())
    if tables:
        say()
        for line in fill_lines(caption(study)):
            say(line)
    for table in tables:
        show_table(table)
