"""`sweep study` and `sweep rate`: measure the images, print what each axis changes, and add ratings of a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sweep import record, servers
from sweep.cli.console import (
    MeasuringBar,
    choose_text_width,
    fill_lines,
    print_json,
    print_line,
    print_notice,
    print_table,
)
from sweep.cli.shared_options import (
    AnswerPrinter,
    ChosenRun,
    InsecureRay,
    OnOption,
    complete_metric,
    output_option,
    parse_assignments,
)
from sweep.errors import CorruptRecordError, DiskFullError, RecordError, UsageError
from sweep.text import format_count, quote_argument

if TYPE_CHECKING:
    from rich.table import Table

    from sweep.experiment import Experiment
    from sweep.study import DesignFacts, Effects, Sentence, Study, StudyJson


_LABEL: Final = 25  # columns of a metric's name at most
REST: Final = "else"  # heading of the share that no axis explains alone
GAP: Final = 2


def share_tables(study: StudyJson, width: int) -> list[Table]:
    """Build tables that show every axis within `width` columns; none if no variance could be split."""
    labels = {metric["name"]: metric["label"][:_LABEL] for metric in study["metrics"]}
    split = [(labels[effect["metric"]], _share_texts(effect)) for effect in study["effects"] if effect["shares"]]
    if not split:
        return []
    axes = [axis["name"] for axis in study["design"]["axes"]]
    shown = [axis for axis in axes if any(axis in texts for _, texts in split)]
    columns = [[axis, *(texts.get(axis, "") for _, texts in split)] for axis in shown]
    columns.append([REST, *(texts.get("", "") for _, texts in split)])
    first = ["", *(label for label, _ in split)]
    return [_share_table([first, *chosen]) for chosen in _split_columns(first, columns, width)]


def write_caption(study: StudyJson) -> str:
    """Write the caption of the tables: shares of the variance, or only the order of the axes."""
    shares = [share["share"] for effect in study["effects"] for share in effect["shares"]]
    if all(share["value"] is None for share in shares):
        return f"Order of the axes by how much they explain ({shares[0]['reason']})"
    return "Share of the variance in % that each axis explains (noise of seeds taken out; no intervals)"


def _share_texts(effect: Effects) -> dict[str, str]:
    """Format the share of each axis. The share of "" is the rest: interactions, and what no axis explains.

    A share is in whole percents, and in tenths below two. Where only the order is known, it is the place.
    """
    texts: dict[str, str] = {}
    alone = 0.0
    for share in (share for share in effect["shares"] if len(share["axes"]) == 1):
        value = share["share"]["value"]
        alone += value or 0.0
        texts[share["axes"][0]] = (
            f"{len(texts) + 1}." if value is None else f"{100 * value:.{0 if value >= 0.02 else 1}f}"
        )
    if effect["rest"] is not None:
        texts[""] = f"{100 * max(1.0 - alone, 0.0):.0f}"
    return texts


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuringOptions:
    """Options about measuring: metrics, baseline, and worker processes on this machine or in a Ray cluster.

    Attributes:
        metric: Metric to compute. Repeat for more (default: the standard metrics).
        baseline: Compare with the images at this level, if there is no source: cfg_scale=7.
        workers: Worker processes (default: one per core).
    """

    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", metavar="NAME", autocompletion=complete_metric)
    ] = None
    baseline: Annotated[list[str] | None, typer.Option(metavar="AXIS=VALUE")] = None
    workers: Annotated[int | None, typer.Option(min=0, metavar="N")] = None
    on: OnOption = None
    insecure: InsecureRay = False

    def study(self, folder: Path) -> Study:
        """Study a folder, with a bar on stderr while images are measured."""
        from sweep.study import make_study

        if self.on is not None:
            servers.join_cluster(servers.parse_cluster_address(self.on))
            servers.check_token(insecure=self.insecure)
        with MeasuringBar() as count:
            return make_study(
                folder,
                metrics=self.metric or (),
                baseline=parse_assignments(self.baseline, "--baseline") or None,
                progress=count,
                workers="ray" if self.on else self.workers,
            )


def check_metrics(experiment: Experiment) -> None:
    """Check the metrics of `study:` and `design:`. Raises ExperimentError with the place in the file of a wrong one."""
    if not experiment.study.metrics and not experiment.design.metric:
        return
    from sweep.experiment import ProblemCollector
    from sweep.study import check_direction, resolve_metrics

    problems = ProblemCollector(experiment, experiment.source or experiment.name)
    for at, name in enumerate(experiment.study.metrics):
        try:
            resolve_metrics([name])
        except UsageError as error:
            problems.add_at_value(f"study.metrics.{at}", f"study.metrics: {error}")
    if experiment.design.metric:
        try:
            (metric,) = resolve_metrics([experiment.design.metric])
            check_direction(metric.name, metric.direction)
        except UsageError as error:
            problems.add_at_value("design.metric", f"design.metric: {error}")
    problems.raise_any()


def study_command(
    chosen: ChosenRun,
    measuring: MeasuringOptions,
    everything: Annotated[bool, typer.Option("--all")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
    output: Annotated[Path | None, output_option("FOLDER")] = None,
) -> None:
    """Measure the images and show what each axis changes.

    Prints findings and effects with their intervals. Images are measured only once. The results table gets one column
    per metric.

    Args:
        everything: Print every finding, not only the headlines.
        as_json: Print the whole study as one JSON object.
        output: Also write study.json and its tables to this folder.
    """
    folder = chosen.folder()
    try:
        made = measuring.study(folder)
    except KeyboardInterrupt:
        print_notice("Interrupted. The values measured so far are kept; run the same command to measure the rest.")
        raise
    update_tables(folder)
    if output is not None:
        made.save(output)
    if as_json:
        print_json({"schema": "sweep.study/1", **made.to_json()})
        return
    _print_findings(made.data, folder, everything=everything)


def update_tables(folder: Path) -> None:
    """Write the results tables; the folder may be one that is only for reading. Raises RecordError."""
    try:
        record.write_tables(folder)
    except (DiskFullError, CorruptRecordError):
        raise
    except RecordError as error:
        print_notice(f"The tables in {folder} stay as they are: {error.message}")


def describe_design(design: DesignFacts) -> str:
    """Return a line such as "132 images · 4 seeds · compared with the source"."""
    images, seeds = design["images"], design["seeds"]
    parts = [format_count(images, "image")]
    parts += [format_count(seeds, "seed")] if seeds else []
    parts += [f"each {design['replicates']} times"] if design["replicates"] > 1 else []
    compared = {"source": "the source", "baseline": "the baseline", "none": "nothing"}[design["reference"]]
    return " · ".join([*parts, f"compared with {compared}"])


def _print_findings(study: StudyJson, folder: Path, *, everything: bool) -> None:
    """Print the headlines and the limits of the whole study, or every sentence; then the shares of the axes."""
    headlines = [each for each in study["words"] if each["headline"]]
    limits = [each for each in study["words"] if each["kind"] == "limit" and not (each["metric"] or each["headline"])]
    print_line(
        f"{folder.name}  {describe_design(study['design'])}" if headlines else f"{folder.name}: no findings yet."
    )
    print_line()
    if everything:
        _print_all(study)
    else:
        _print_sentences([*headlines, *limits])
    tables = share_tables(study, choose_text_width())
    if tables:
        print_line()
        for line in fill_lines(write_caption(study)):
            print_line(line)
    for table in tables:
        print_table(table)
    left_out = len(study["words"]) - len(headlines) - len(limits)
    if left_out and not everything:
        print_line()
        print_line(f"{format_count(left_out, 'more finding')}: sweep study {quote_argument(folder)} --all")


def _print_all(study: StudyJson) -> None:
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
    for each in said:
        for line in fill_lines(f"{each['text']} {each['detail']}".rstrip(), first=first, rest=first + "  "):
            print_line(line)


def rate(chosen: ChosenRun, printer: AnswerPrinter, ratings: Annotated[Path, typer.Argument(metavar="FILE")]) -> None:
    """Add ratings and blind choices to a run.

    They become columns (rating, rejected, note), and sweep study uses them. While sweep view serves a run, the page
    keeps them in the run by itself.

    Args:
        ratings: File that the page exported.
    """
    from sweep.study import add_ratings

    folder = chosen.folder()
    added = add_ratings(folder, ratings)
    rated, choices = format_count(len(added.marks), "rated image"), format_count(len(added.choices), "blind choice")
    answer = {
        "schema": "sweep.rate/1",
        "state": "rated",
        "folder": folder.as_posix(),
        "rated": len(added.marks),
        "choices": len(added.choices),
    }
    text = f"{folder.name} has {rated} and {choices}. sweep study {quote_argument(folder)} uses them."
    printer.print(text, answer)
