"""The options that only `sweep run` has."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import typer

Concurrency: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, help="Items at a server at once (default: two a device).", show_default=False, metavar="N"),
]
Attempts: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Attempts at a variation before its row says failed.", metavar="N")
]
RetryFailed: TypeAlias = Annotated[bool, typer.Option("--retry-failed", help="Try variations again that failed.")]
MaxFailures: TypeAlias = Annotated[
    str | None, typer.Option(help="End the run at so many failures: a count, or a share such as 20%.", metavar="N")
]
Fuse: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Variations sent as one item: off, auto (as many as pay) or a number. "
        "Faster for quick models; each picture's own graph then shows its neighbours, too.",
        metavar="N",
    ),
]
Shard: TypeAlias = Annotated[
    str | None, typer.Option(help="Only this part of the grid: 2/5 is the second of five.", metavar="K/N")
]
Priority: TypeAlias = Annotated[bool, typer.Option("--priority", help="Go ahead of what is pending on the server.")]
IdleOnly: TypeAlias = Annotated[bool, typer.Option("--idle-only", help="Wait while other people's items are queued.")]
Board: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Put the pictures on this board of the server; made where it is missing.", metavar="NAME"),
]
Intermediate: TypeAlias = Annotated[
    bool, typer.Option("--intermediate", help="Keep the pictures out of the server's gallery.")
]
Progress: TypeAlias = Annotated[
    Literal["auto", "rich", "plain", "json", "none"],
    typer.Option(help="How progress is shown: auto, rich, plain, json or none.", metavar="HOW"),
]
Report: TypeAlias = Annotated[
    bool, typer.Option("--report/--no-report", help="Measure the pictures and write report.html at the end.")
]
View: TypeAlias = Annotated[bool, typer.Option("--view", help="Open a page that shows pictures as they arrive.")]
