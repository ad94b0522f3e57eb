"""The agent beside a server, called without a cluster."""

from __future__ import annotations

from sweep.errors import ServerUnreachableError
from sweep.sandbox import sandbox_server
from sweep.servers.ray.agent import Agent, AgentSettings


async def test_agent_that_lost_its_input_images_in_a_restart_fails_no_variation() -> None:
    async with sandbox_server() as box:
        agent = Agent(AgentSettings(name="gpu1", url=box.url, insecure=True))
        assert await agent.call("check", (), ()) == ([], None)
        value, error = await agent.call("check", (), ("a" * 64,))  # it was sent to the agent's life before
        assert (value, type(error)) == (None, ServerUnreachableError)
        await agent.call("stop")
