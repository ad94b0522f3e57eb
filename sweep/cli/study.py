"""`sweep study`: what the axes did, in words and numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from sweep.cli import options as shared

if TYPE_CHECKING:
    from sweep.study.study import Study

Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", "-m", help="A metric to compute; again for more (default: the standard panel)."),
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
        int | None, typer.Option(min=0, help="Processes that measure (default: one a core).", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every sentence, not the headlines alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole study as one JSON object.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write study.json and its tables to this folder.", show_default=False),
    ] = None,
    results: shared.ResultsRoot = Path("results"),
) -> None:
    """Measure a run's pictures and say what its axes do: response curves, effects, differences, with intervals.

    What was measured before is not measured again. The results tables get one column a metric.
    """
    from sweep.cli.console import say
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
    for sentence in made.data["words"]:
        if everything or sentence["headline"]:
            say(sentence["text"])
    say()
    _table(made)


def measured_study(
    folder: Path, metrics: list[str] | None = None, baseline: list[str] | None = None, workers: int | None = None
) -> Study:
    """The study of a folder, with a bar on stderr while pictures are measured."""
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

    from sweep.cli.console import console

    effects = made.effects
    if effects.empty:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="dim")
    shares = effects.pivot_table(index="metric", columns="term", values="share", sort=False)
    mains = [term for term in shares.columns if "×" not in str(term)]
    table.add_column("variance explained by")
    for term in mains:
        table.add_column(str(term), justify="right")
    for name, row in shares.iterrows():
        table.add_row(str(name), *(f"{100 * row[term]:.0f} %" for term in mains))
    console().print(table)


class counting:  # noqa: N801 - read as a word: with counting("measuring") as count
    """A count of pictures on stderr, once it takes longer than a moment; nothing where stderr is no terminal."""

    def __init__(self, word: str) -> None:
        self._word = word

    def __enter__(self) -> Self:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from sweep.cli.console import console

        self._bar = Progress(
            TextColumn("  {task.description}"),
            BarColumn(36),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console(stderr=True),
            transient=True,
            disable=not console(stderr=True).is_terminal,
        )
        self._task = self._bar.add_task(self._word, total=None)
        self._bar.start()
        return self

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` pictures."""
        self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
