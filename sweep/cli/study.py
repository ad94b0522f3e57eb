"""`sweep study`: what the axes did, in words and numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli import options as shared

if TYPE_CHECKING:
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
    from sweep.cli.console import filled, say
    from sweep.cli.locating import results_folder
    from sweep.record.table import write_tables

    folder = results_folder(run, results)
    made = measured_study(folder, metric, baseline, workers)
    write_tables(folder)
    if output is not None:
        made.save(output)
    if as_json:
        say(json.dumps(made.to_json(), ensure_ascii=False))
        return
    said = made.data["words"]
    chosen = [each for each in said if everything or each["headline"]]
    for each in chosen:
        for line in filled(each["text"], rest="  "):
            say(line)
    if not chosen:
        say(f"{folder.name}: nothing can be said yet. sweep study {run} --all tells why.")
    _table(made)


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


def _table(made: Study) -> None:
    """Shares of variance and half-range strengths, a line a metric."""
    from rich.table import Table

    from sweep.cli.console import say
    from sweep.cli.ending import show_table

    effects = made.effects
    if effects.empty:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    shares = effects.pivot_table(index="metric", columns="term", values="share", sort=False)
    labels = {metric["name"]: metric["label"] for metric in made.data["metrics"]}
    mains = [term for term in shares.columns if "×" not in str(term)]
    table.add_column("variance explained by", no_wrap=True, overflow="ellipsis")
    for term in mains:
        table.add_column(str(term), justify="right")
    for name, row in shares.iterrows():
        table.add_row(labels.get(str(name), str(name)), *(f"{100 * row[term]:.0f} %" for term in mains))
    say()
    show_table(table)
