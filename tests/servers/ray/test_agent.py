"""The agent beside a server, called without a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from sweep.errors import ServerError, ServerUnreachableError, TransientError
from sweep.sandbox import sandbox_server
from sweep.servers import InvokeAI, ItemEvent, Submission, Ticket
from sweep.servers.ray import agent as agent_module
from sweep.servers.ray.agent import Agent, AgentSettings
from sweep.servers.ray.ray_server import RayServer
from sweep.version import VERSION
from sweep.workflow import Graph, Node


async def test_agent_that_lost_its_input_images_in_a_restart_fails_no_variation() -> None:
    async with sandbox_server() as box:
        agent = Agent(AgentSettings(name="gpu1", url=box.url, insecure=True))
        assert await agent.call("check", (), ()) == ([], None)
        value, error = await agent.call("check", (), ("a" * 64,))  # it was sent to the agent's life before
        assert (value, type(error)) == (None, ServerUnreachableError)
        await agent.call("stop")


async def test_ray_server_asks_by_the_names_that_clients_have() -> None:
    """They cross as text: a method with a new name was asked for by its old one, and idle-only runs lost the server."""

    class Beside(RayServer):
        async def ask(self, method: str, *arguments: Any) -> Any:
            value, error = await agent.call(method, *arguments)
            assert error is None
            return value

    async with sandbox_server() as box:
        agent = Agent(AgentSettings(name="gpu1", url=box.url, insecure=True))
        server = Beside("gpu1")
        assert (await server.open()).name == "gpu1"
        assert await server.list_loaded() == frozenset()
        assert await server.count_others_waiting("run") == 0
        assert await server.models()
        assert "denoise_latents" in await server.schemas()
        await server.cancel(["nobody's"])
        await agent.call("stop")


async def test_agent_refuses_a_run_of_another_sweep() -> None:
    agent = Agent(AgentSettings(name="gpu1", url="http://127.0.0.1:9", insecure=True))
    _, error = await agent.call("open", "0.0.9")
    assert isinstance(error, ServerError)
    assert f"The agent gpu1 runs sweep {VERSION}, and this is sweep 0.0.9." in str(error)


async def test_agent_whose_server_has_gone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "has_token_authentication", lambda: True)  # it would import Ray
    async with sandbox_server() as box:
        agent = Agent(AgentSettings(name="gpu1", url=box.url, insecure=True))
        assert (await agent.call("open", VERSION))[1] is None
        assert (await agent.call("describe"))[0].state == "ready"
    assert "did not answer" in (await agent.call("describe"))[0].state
    _, error = await agent.call("open", VERSION)
    await agent.call("stop")
    assert isinstance(error, ServerUnreachableError)


async def test_agent_finds_an_item_whose_submission_is_still_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coordinator was killed while its agent submitted; the next run asks at once what became of the item."""
    let_go = asyncio.Event()
    submit = InvokeAI.submit

    async def submit_later(client: InvokeAI, submission: Submission) -> Ticket:
        await let_go.wait()
        return await submit(client, submission)

    monkeypatch.setattr(InvokeAI, "submit", submit_later)
    async with sandbox_server() as box:
        agent = Agent(AgentSettings(name="gpu1", url=box.url, insecure=True))
        graph = Graph.of([Node("a", "add", {"a": 1, "b": 2})])
        item = Submission(batch_id="batch-1", graph=graph, outputs=("a",), destination="run")
        await agent.call("open", VERSION)
        submitting = asyncio.create_task(agent.call("submit", item))
        finding = asyncio.create_task(agent.call("find", "batch-1", ("a",)))
        await anyio.wait_all_tasks_blocked()
        let_go.set()
        assert await finding == await submitting
        assert (await submitting)[1] is None
        await agent.call("stop")


async def test_agent_tells_those_who_listen_that_its_client_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever broke: they would ask for news of the item for ever."""

    async def break_down(_: InvokeAI, ticket: Ticket) -> AsyncIterator[ItemEvent]:
        raise RuntimeError(f"no {ticket.item_id}")
        yield

    monkeypatch.setattr(InvokeAI, "hear", break_down)
    async with sandbox_server() as box:
        agent = Agent(AgentSettings(name="gpu1", url=box.url, insecure=True))
        (_, events, told), error = await agent.call("listen", Ticket(batch_id="b", item_id="7"), "", 0)
        await agent.call("stop")
    assert (events, error, type(told)) == ([], None, TransientError)
    assert "no 7" in str(told)
