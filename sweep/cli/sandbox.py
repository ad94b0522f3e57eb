"""`sweep sandbox`: a server to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from sweep.sandbox import FaultInjection


def sandbox(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.", metavar="N")
    ] = 9091,
    models: Annotated[
        str, typer.Option(help="Its models, with commas: sd-1, sdxl, flux, lora, … or name:base:type.", metavar="NAMES")
    ] = "sd-1",
    latency: Annotated[float, typer.Option(min=0, help="Seconds each item takes at least.", metavar="N")] = 0.0,
    step_latency: Annotated[float, typer.Option(min=0, help="Seconds each denoising step takes.", metavar="N")] = 0.0,
    jitter: Annotated[
        float, typer.Option(min=0, max=1, help="Share by which both vary to either side.", metavar="SHARE")
    ] = 0.0,
    gc_pause: Annotated[
        float,
        typer.Option(min=0, help="Seconds the whole server stalls at each item, as InvokeAI does.", metavar="N"),
    ] = 0.0,
    workers: Annotated[int, typer.Option(min=1, help="Items rendered at once, as with several GPUs.", metavar="N")] = 1,
    queue_limit: Annotated[int, typer.Option(min=1, help="Most items pending.", metavar="N")] = 10_000,
    fail_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of items whose rendering fails.", metavar="N")
    ] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="A fault and its share: error_503=0.05. Again for more; a wrong name lists them.", metavar="NAME=SHARE"
        ),
    ] = None,
    api: Annotated[
        Literal["queue", "sessions", "portable"],
        typer.Option(help="API it speaks: queue, sessions or portable.", metavar="API"),
    ] = "queue",
    user: Annotated[
        list[str] | None,
        typer.Option(help="A user; a login is wanted then. Again for more.", metavar="EMAIL:PASSWORD"),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Keep queue and images here over a restart.", show_default=False, metavar="FOLDER"),
    ] = None,
) -> None:
    """Start a server to try things on.

    It speaks InvokeAI's protocol and paints images instead of diffusing them. Prints its address. Ctrl-C ends it.
    """
    import anyio

    from sweep.cli.console import say
    from sweep.sandbox import SandboxOptions, serve_sandbox

    chosen = SandboxOptions(
        port=port,
        models=_models(models),
        latency=latency,
        step_latency=step_latency,
        jitter=jitter,
        gc_pause=gc_pause,
        workers=workers,
        queue_limit=queue_limit,
        api=api,
        users=_users(user or []),
        root=root,
        faults=_faults(fail_rate, fault or []),
    )
    anyio.run(serve_sandbox, chosen, say)


def _models(text: str) -> tuple[str, ...]:
    from sweep.errors import UsageError

    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UsageError("A sandbox has at least one model.", hint="Leave out --models for sd-1.")
    return names


def _users(given: list[str]) -> dict[str, str]:
    from sweep.errors import UsageError

    pairs = [text.partition(":") for text in given]
    if not all(email and password for email, _, password in pairs):
        raise UsageError("A user has an e-mail address and a password.", hint="Write --user me@example.org:secret.")
    return {email: password for email, _, password in pairs}


def _faults(fail_rate: float, given: list[str]) -> FaultInjection:
    from dataclasses import fields

    from sweep.errors import UsageError, did_you_mean
    from sweep.sandbox import FaultInjection

    names = [field.name for field in fields(FaultInjection) if field.type == "float"]
    chosen: dict[str, float] = {"fail_rate": fail_rate}
    for text in given:
        name, _, share = text.partition("=")
        if name not in names:
            raise UsageError(
                f"There is no fault {name!r}.{did_you_mean(name, names)}", hint=f"Faults: {', '.join(names)}."
            )
        try:
            chosen[name] = float(share)
        except ValueError:
            raise UsageError(f"{text!r} gives no share.", hint=f"Write {name}=0.05 for one in twenty.") from None
    return FaultInjection(**chosen)  # type: ignore[arg-type]
