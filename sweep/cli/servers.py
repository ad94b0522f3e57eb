"""Commands about servers: a sandbox to try things on, and image servers of other hosts, joined in a Ray cluster."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import anyio
import typer

from sweep import servers
from sweep.cli.console import print_line
from sweep.cli.shared_options import AnswerPrinter, InsecureRay, Login, OnOption
from sweep.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from sweep.sandbox import FaultInjection
    from sweep.servers import AgentDescription


_seconds_option = partial(typer.Option, min=0, metavar="N")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedOptions:
    """Options about the speed of the sandbox, and how many items it takes.

    Attributes:
        latency: Seconds that each item takes at least.
        step_latency: Seconds that each denoising step takes.
        workers: Items rendered at the same time, as with several GPUs.
        queue_limit: Maximum number of pending items.
    """

    latency: Annotated[float, _seconds_option()] = 0.0
    step_latency: Annotated[float, _seconds_option()] = 0.0
    workers: Annotated[int, typer.Option(min=1, metavar="N")] = 1
    queue_limit: Annotated[int, typer.Option(min=1, metavar="N")] = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultOptions:
    """Options about faults that the sandbox makes on purpose.

    Attributes:
        fail_rate: Share of items that fail.
        fault: Inject a fault into this share of requests: error_503=0.05. Repeat for more. An unknown name prints the
            list of faults.
    """

    fail_rate: Annotated[float, typer.Option(min=0, max=1, metavar="N")] = 0.0
    fault: Annotated[list[str] | None, typer.Option(metavar="NAME=SHARE")] = None

    def parse(self) -> FaultInjection:
        """Parse the shares. Raises UsageError for an unknown fault or a text that is no share."""
        from sweep.sandbox import FaultInjection

        names = [field.name for field in fields(FaultInjection) if field.type == "float"]
        shares = {"fail_rate": self.fail_rate}
        for text in self.fault or ():
            name, _, share = text.partition("=")
            if name not in names:
                near = did_you_mean(name, names)
                raise UsageError(f"There is no fault {name!r}.{near}", hint=f"Faults: {', '.join(names)}.")
            try:
                shares[name] = float(share)
            except ValueError:
                raise UsageError(f"{text!r} has no share.", hint=f"Write {name}=0.05 for one in twenty.") from None
        return FaultInjection(**shares)  # type: ignore[arg-type]


def sandbox(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N")] = 9091,
    models: Annotated[str, typer.Option(metavar="NAMES")] = "sd-1",
    speed: SpeedOptions,
    faults: FaultOptions,
    api: Annotated[Literal["queue", "sessions", "portable"], typer.Option(metavar="API")] = "queue",
    user: Annotated[list[str] | None, typer.Option(metavar="EMAIL:PASSWORD")] = None,
    root: Annotated[Path | None, typer.Option(metavar="FOLDER")] = None,
) -> None:
    """Start a fake InvokeAI server for testing.

    It speaks InvokeAI's protocol and paints images instead of running a diffusion model. Prints its address. Ctrl-C
    ends it.

    Args:
        port: Port on this machine; 0 picks a free one.
        models: Models, separated by commas: sd-1, sdxl, flux, lora, controlnet … or all; or NAME:BASE:TYPE to offer a
            model that another server has.
        api: API to serve: queue (that of InvokeAI 3.2 to 6), sessions (that of 3.0 and 3.1), or portable (sessions that
            also take portable workflows).
        user: Require a login and accept this user. Repeat for more users.
        root: Keep queue and images in this folder across restarts.
    """
    from sweep.sandbox import SandboxOptions, serve_sandbox

    names = tuple(name.strip() for name in models.split(",") if name.strip())
    if not names:
        raise UsageError("The sandbox needs at least one model.", hint="Without --models it has sd-1.")
    pairs = [text.partition(":") for text in user or ()]
    if not all(email and password for email, _, password in pairs):
        raise UsageError("A user needs an e-mail address and a password.", hint="Write --user me@example.org:secret.")
    chosen = SandboxOptions(
        port=port,
        models=names,
        api=api,
        users={email: password for email, _, password in pairs},
        root=root,
        faults=faults.parse(),
        **asdict(speed),
    )
    anyio.run(serve_sandbox, chosen, print_line)


def worker(
    server: Annotated[str | None, typer.Option("--server", metavar="URL")] = None,
    name: Annotated[str | None, typer.Option()] = None,
    stop: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    on: OnOption = "ray",
    *,
    login: Login,
    insecure: InsecureRay = False,
) -> None:
    """Register the image server of this host in a Ray cluster.

    Run it on each host that has a server, after ray start. It starts an agent: a process that sends the requests of a
    run to the server. The agent stays when the command ends, and starts again if it fails. Credentials are read on this
    host: from its environment when ray start ran, or from --credentials.

    Args:
        server: Address of the server, as this host reaches it.
        name: Name of the agent (default: the host's name).
        stop: End this agent.
    """
    if (server is None) == (stop is None):
        raise UsageError(
            "Use either --server or --stop.", hint="--server URL registers a server, --stop NAME ends an agent."
        )
    servers.join_cluster(servers.parse_cluster_address(on))
    if server is None or stop is not None:
        servers.stop_agent(stop or "")
        print_line(f"{stop} has ended.")
        return
    name = name or socket.gethostname()
    print_line(_describe(servers.start_agent(login.make_agent_settings(name, server, insecure=insecure))))


def workers(printer: AnswerPrinter, on: OnOption = "ray") -> None:
    """List the agents of a Ray cluster."""
    servers.join_cluster(servers.parse_cluster_address(on))
    found = servers.list_agents()
    lines = [_describe(each) for each in found]
    listed = [asdict(each) | {"since": each.since.isoformat() if each.since else None} for each in found]
    answer = {"schema": "sweep.workers/1", "state": "found" if found else "none", "workers": listed}
    printer.print(lines or "The cluster has no agents. sweep worker --server URL registers one.", answer)


def _describe(found: AgentDescription) -> str:
    since = f"{found.since.astimezone():%Y-%m-%d %H:%M}" if found.since else ""
    parts = (found.name, found.host, found.url, f"{found.family} {found.version}".strip(), found.state, since)
    log = f"  log: {found.log}" if found.log else ""
    return "  ".join(part for part in parts if part) + log
