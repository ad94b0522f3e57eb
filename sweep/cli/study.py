"""`sweep study`: measure the images and print what each axis changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from sweep.cli import options as shared
from sweep.text import format_count

if TYPE_CHECKING:
    from rich.table import Table

    from sweep.study import DesignFacts, Effects, Sentence, Share, Study, StudyJson


_LABEL: Final = 25  # columns of a metric's name at most
REST: Final = "else"  # what no axis explains alone
GAP: Final = 2


def share_tables(study: StudyJson, width: int) -> list[Table]:
    """Build tables that show every axis within `width` columns; none if no variance could be split."""
    effects = [effect for effect in study["effects"] if effect["shares"]]
    labels = {metric["name"]: metric["label"][:_LABEL] for metric in study["metrics"]}
    columns = [[name, *(_cell(effect, name) for effect in effects)] for name in _axes(study, effects)]
    columns.append([REST, *map(_rest_share, effects)])
    first = ["", *(labels[effect["metric"]] for effect in effects)]
    return [_share_table([first, *chosen]) for chosen in _split_columns(first, columns, width)] if effects else []


def caption(study: StudyJson) -> str:
    """Say what the numbers of the tables are."""
    shares = [share["share"] for effect in study["effects"] for share in effect["shares"]]
    if all(share["value"] is None for share in shares):
        return f"Order of the axes by how much they explain ({shares[0]['reason']})"
    return "Share of the variance in % that each axis explains (noise of seeds taken out; no intervals)"


def _axes(study: StudyJson, effects: Sequence[Effects]) -> list[str]:
    """Return the axes that have a share of any metric, in the order of the experiment."""
    split = {share["axes"][0] for effect in effects for share in effect["shares"] if len(share["axes"]) == 1}
    return [axis["name"] for axis in study["design"]["axes"] if axis["name"] in split]


def _cell(effect: Effects, axis: str) -> str:
    mains = [share for share in effect["shares"] if len(share["axes"]) == 1]
    place = next((i for i, share in enumerate(mains, start=1) if share["axes"] == [axis]), None)
    return "" if place is None else _share_text(mains[place - 1], place)


def _share_text(share: Share, place: int) -> str:
    """Format a share in whole percents, and in tenths below two; or its place, where only that is known."""
    value = share["share"]["value"]
    return f"{place}." if value is None else f"{100 * value:.{0 if value >= 0.02 else 1}f}"


def _rest_share(effect: Effects) -> str:
    """Return the share that no axis explains alone: interactions and the rest; empty where only the order is known."""
    if effect["rest"] is None:
        return ""
    alone = sum(share["share"]["value"] or 0.0 for share in effect["shares"] if len(share["axes"]) == 1)
    return f"{100 * max(1.0 - alone, 0.0):.0f}"


def _split_columns(first: list[str], columns: list[list[str]], width: int) -> Iterator[list[list[str]]]:
    """Split the columns into groups that fit beside the first one."""
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
        "--metric",
        "-m",
        help="Metric to compute. Repeat for more (default: the standard metrics).",
        metavar="NAME",
        autocompletion=shared.complete_metric,
    ),
]
Baseline = Annotated[
    list[str] | None,
    typer.Option(
        help="Compare with the images at this level, if there is no source: cfg_scale=7.", metavar="AXIS=VALUE"
    ),
]


def study_command(
    run: shared.RunArgument,
    metric: Metrics = None,
    baseline: Baseline = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Worker processes (default: one per core).", show_default=False, metavar="N"),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print every finding, not only the headlines.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole study as one JSON object.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Also write study.json and its tables to this folder.",
            show_default=False,
            metavar="FOLDER",
        ),
    ] = None,
    results: shared.ResultsRoot = Path("results"),
    on: shared.OnOption = None,
    insecure: shared.InsecureRay = False,
) -> None:
    """Measure the images and show what each axis changes.

    Prints findings and effects with their intervals. Images are measured only once. The results table gets one column
    per metric.
    """
    from sweep.cli.console import print_json, print_line, print_notice
    from sweep.cli.options import find_run
    from sweep.cli.servers import Cluster

    folder = find_run(run, results)
    cluster = Cluster.of(on, insecure=insecure)
    if cluster is not None:
        cluster.join()
    try:
        made = measure_folder(folder, metric, baseline, "ray" if cluster else workers)
    except KeyboardInterrupt:
        print_notice("Interrupted. The values measured so far are kept; run the same command to measure the rest.")
        raise
    update_tables(folder, elsewhere=output is not None)
    if output is not None:
        made.save(output)
    if as_json:
        print_json({"schema": "sweep.study/1", **made.to_json()})
        return
    unsaid = not any(each["headline"] for each in made.data["words"])
    print_line(f"{folder.name}: no findings yet." if unsaid else f"{folder.name}  {design_line(made.data['design'])}")
    print_line()
    if everything:
        _print_all(made.data)
    else:
        _print_headlines(made.data)
    _print_shares(made.data)
    if not everything:
        _print_rest_hint(made.data, run)


def update_tables(folder: Path, *, elsewhere: bool) -> None:
    """Write the results tables; if the result goes `elsewhere`, the folder may be one that is only for reading."""
    from sweep.cli.console import print_notice
    from sweep.errors import RecordError
    from sweep.record import write_tables

    try:
        write_tables(folder)
    except RecordError as error:
        if not elsewhere:
            raise
        print_notice(f"The tables in {folder} stay as they are: {error.message}")


def design_line(design: DesignFacts) -> str:
    """Return a line such as "132 images · 4 seeds · compared with the source"."""
    images, seeds = design["images"], design["seeds"]
    parts = [format_count(images, "image")]
    parts += [format_count(seeds, "seed")] if seeds else []
    parts += [f"each {design['replicates']} times"] if design["replicates"] > 1 else []
    compared = {"source": "the source", "baseline": "the baseline", "none": "nothing"}[design["reference"]]
    return " · ".join([*parts, f"compared with {compared}"])


def _print_headlines(study: StudyJson) -> None:
    """Print the headlines, then what limits the whole study."""
    words = study["words"]
    _print_sentences([each for each in words if each["headline"]])
    _print_sentences([each for each in words if _is_limit(each) and not each["headline"]])


def _is_limit(sentence: Sentence) -> bool:
    """Return whether a sentence limits the whole study."""
    return sentence["kind"] == "limit" and sentence["metric"] is None


def _print_rest_hint(study: StudyJson, run: str) -> None:
    """Say how many findings were left out and how to see them."""
    from sweep.cli.console import print_line

    left_out = sum(not each["headline"] and not _is_limit(each) for each in study["words"])
    if left_out:
        print_line()
        print_line(f"{format_count(left_out, 'more finding')}: sweep study {run} --all")


def _print_all(study: StudyJson) -> None:
    """Print every sentence, grouped by metric."""
    from sweep.cli.console import print_line

    labels = {metric["name"]: metric["label"] for metric in study["metrics"]}
    about: dict[str, list[Sentence]] = {}
    for each in study["words"]:
        about.setdefault(labels.get(each["metric"] or "", ""), []).append(each)
    for label in sorted(about, key=lambda label: not label):
        if label:
            print_line(label)
        _print_sentences(about[label], first="  " if label else "")
        print_line()


def _print_sentences(said: Sequence[Sentence], first: str = "") -> None:
    from sweep.cli.console import fill_lines, print_line

    for each in said:
        for line in fill_lines(f"{each['text']} {each['detail']}".rstrip(), first=first, rest=first + "  "):
            print_line(line)


def measure_folder(
    folder: Path,
    metrics: list[str] | None = None,
    baseline: list[str] | None = None,
    workers: int | Literal["ray"] | None = None,
) -> Study:
    """Study a folder, with a bar on stderr while images are measured."""
    from sweep.cli.console import CountBar
    from sweep.cli.options import parse_assignments
    from sweep.study import make_study as make

    with CountBar("measuring") as count:
        return make(
            folder,
            metrics=metrics or (),
            baseline=parse_assignments(baseline, "--baseline") or None,
            progress=count,
            workers=workers,
        )


def _print_shares(study: StudyJson) -> None:
    """Print the shares of variance, one line per metric."""
    from sweep.cli.console import fill_lines, print_line, text_width
    from sweep.cli.run_summary import print_table

    tables = share_tables(study, text_width())
    if tables:
        print_line()
        for line in fill_lines(caption(study)):
            print_line(line)
    for table in tables:
        print_table(table)
