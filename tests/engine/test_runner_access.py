"""A login that runs out in the middle of a run, of a token and of an account."""

from __future__ import annotations

from sweep.engine import events
from sweep.engine.runner import run
from sweep.sandbox import SandboxOptions, sandbox_server
from sweep.servers import ConnectOptions, connect
from sweep.servers.credentials import Credentials
from tests.support.engine_bench import AT_ONCE, MOST_OPEN, ONE_BY_ONE, QUICK, Bench

EMAIL, PASSWORD = "me@example.org", "a secret"
USERS = {EMAIL: PASSWORD}


async def test_tokens_that_run_out_are_renewed_and_no_point_is_lost(bench: Bench) -> None:
    experiment = await bench.experiment(inputs__image="photo.png")
    async with sandbox_server(SandboxOptions(users=USERS)) as sandbox:

        def listener(event: events.Event) -> None:
            if isinstance(event, events.Completed):
                sandbox.accounts.expire()

        me = Credentials(email=EMAIL, password=PASSWORD)
        client = connect(sandbox.url, ConnectOptions(credentials=me, timings=QUICK))
        summary = await run(experiment, [client], options=AT_ONCE, results=bench.root / "results", listener=listener)

        assert (summary.completed, summary.failed, summary.reason) == (6, 0, "")
        assert sandbox.accounts.logins >= 2  # the first, and at least one when the token had run out
        assert sum(sandbox.renders.values()) == 6


async def test_a_token_alone_that_runs_out_ends_the_run_with_a_sentence(bench: Bench) -> None:
    experiment = await bench.experiment(axes__seed={"start": 1, "count": 3})
    async with sandbox_server(SandboxOptions(users=USERS)) as sandbox:
        token = sandbox.accounts.log_in(EMAIL, PASSWORD)

        def listener(event: events.Event) -> None:
            if isinstance(event, events.Completed):
                sandbox.accounts.expire()

        client = connect(sandbox.url, ConnectOptions(credentials=Credentials(token=token), timings=QUICK))
        summary = await run(experiment, [client], options=ONE_BY_ONE, results=bench.root / "results", listener=listener)

        assert summary.exit_code == 3
        assert "Invalid or expired token" in f"{summary.error} {summary.reason}"
        assert 0 < summary.completed <= MOST_OPEN
