"""`sweep study`: what the axes did, in words and numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli import options as shared

if TYPE_CHECKING:
    from sweep.study.contract import Design, Sentence, StudyJson
    from sweep.study.study import Study

Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", "-m", help="A metric to compute; again for more (default: the standard panel).", metavar="NAME"
    ),
]
Baseline = Annotated[
    list[str] | None,
    typer.Option(
        help="Level of the cell that pictures without a source are compared with: cfg_scale=7.", metavar="AXIS=VALUE"
    ),
]


def study(
    run: shared.Run,
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
    """Measure the pictures and say what each axis does.

    Response curves, effects and differences with their intervals, in words and numbers. What was
    measured before is not measured again. The results tables get one column a metric.
    """
    from sweep.cli.console import say, tell
    from sweep.cli.locating import results_folder
    from sweep.record.table import write_tables

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


def design_line(design: Design) -> str:
    """As in "132 pictures · 4 seeds · compared with the source"."""
    pictures, seeds = design["pictures"], design["seeds"]
    parts = [f"{pictures:,} picture{'s' if pictures != 1 else ''}"]
    parts += [f"{seeds} seed{'s' if seeds != 1 else ''}"] if seeds else []
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
        say(f"{left_out} more sentence{'s' if left_out > 1 else ''}: sweep study {run} --all")


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
    from sweep.cli.console import filled, say

    for each in said:
        for line in filled(each["text"], first=first, rest=first + "  "):
            say(line)


def measured_study(
    folder: Path, metrics: list[str] | None = None, baseline: list[str] | None = None, workers: int | None = None
) -> Study:
    """The study of a folder, with a bar on stderr while pictures are measured."""
    from sweep.cli.console import counting
    from sweep.cli.values import assignments
    from sweep.study.study import study as make

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
    from sweep.cli.console import columns, filled, say
    from sweep.cli.ending import show_table
    from sweep.cli.shares import caption, share_tables

    tables = share_tables(study, columns())
    if tables:
        say()
        for line in filled(caption(study)):
            say(line)
    for table in tables:
        show_table(table)
